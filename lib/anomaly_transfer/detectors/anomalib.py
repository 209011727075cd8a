"""Detectors of other packages, on the same features and by the same protocol as ours: the extra ``peers``.

Explained in the chapter *Side by side*.
"""

from __future__ import annotations

from abc import abstractmethod
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from anomaly_transfer.detectors.base import Localiser, finite
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features

#: Pixels of the image for a step on the finest map: anomalib interpolates and blurs its maps in pixels.
STRIDE = 8
#: Channels that PaDiM keeps of all, by the random choice of anomalib: its default for its smallest network.
CHANNELS = 100


class _Given(torch.nn.Module):
    """In place of anomalib's network: hands on maps that are at hand, so that every detector sees the same ones."""

    maps: dict[str, torch.Tensor]

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.maps


class _Stages(torch.nn.Module):
    """A network with the channels of given levels, from which anomalib learns how many there are."""

    def __init__(self, channels: dict[str, int]):
        super().__init__()
        for level, number in channels.items():
            self.add_module(level, torch.nn.Conv2d(3, number, 1))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [stage(images) for stage in self.children()]


class _Anomalib(Localiser):
    """A model of anomalib, from its embedding of feature maps to its score.

    Images are scored as anomalib does it; its map of pixels is averaged over patches.
    """

    def __init__(self, levels: tuple[str, ...] | None = None, seed: int = 0):
        super().__init__(levels)
        self.seed = seed

    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        if all(not np.ptp(features[level], axis=0).any() for level in self.levels_):
            raise DataError("The training images do not vary: are they copies of one image, or of one colour?")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = self._model({level: features[level].shape[1] for level in self.levels_})
            model.train()
            self._run(model, features)
            fitted = self._learn(model)
        return {name: value.contiguous().numpy() for name, value in fitted.items()}

    def _scored(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        model = self._model({level: features[level].shape[1] for level in self.levels_})
        self._restore(model, {name: torch.from_numpy(value) for name, value in self.state_.items()})
        found = self._run(model.eval(), features)
        maps = torch.cat([torch.nn.functional.avg_pool2d(batch.anomaly_map, STRIDE) for batch in found])
        # One of the models keeps an axis of one channel.
        scores = torch.cat([batch.pred_score.flatten() for batch in found])
        return scores.double().numpy(), maps[:, 0].double().numpy()

    def _anomaly_map(self, features: Features) -> np.ndarray:
        return self._scored(features)[1]

    def _run(self, model: Any, features: Features) -> list[Any]:
        given = model.feature_extractor = _Given()
        results, start = [], 0
        for batch in features.batches():
            arrays = {level: finite(batch[level], "The feature maps", start) for level in self.levels_}
            # Its models compute in single precision.
            given.maps = {name: torch.from_numpy(np.ascontiguousarray(x, np.float32)) for name, x in arrays.items()}
            rows, columns = given.maps[self.levels_[0]].shape[-2:]
            results.append(model(torch.empty(len(batch), 3, STRIDE * rows, STRIDE * columns)))
            start += len(batch)
        return results

    @abstractmethod
    def _model(self, channels: dict[str, int]) -> Any:
        """A model of anomalib for levels of so many channels."""

    @abstractmethod
    def _learn(self, model: Any) -> dict[str, torch.Tensor]:
        """End the fit of a model that has seen all images, and return what it learnt."""

    @abstractmethod
    def _restore(self, model: Any, fitted: dict[str, torch.Tensor]) -> None:
        """Give a new model what another learnt."""


class AnomalibPaDiM(_Anomalib):
    """anomalib's PaDiM (Defard et al., 2021): a Gaussian at every position, in some of the channels."""

    def _model(self, channels: dict[str, int]) -> Any:
        from anomalib.models.image.padim.torch_model import PadimModel

        n_features = min(CHANNELS, sum(channels.values()))
        return PadimModel(_Stages(channels), list(channels), pre_trained=False, n_features=n_features)

    def _learn(self, model: Any) -> dict[str, torch.Tensor]:
        model.fit()
        return {"idx": model.idx, "mean": model.gaussian.mean, "inv_covariance": model.gaussian.inv_covariance}

    def _restore(self, model: Any, fitted: dict[str, torch.Tensor]) -> None:
        model.idx = fitted["idx"]
        model.gaussian.mean, model.gaussian.inv_covariance = fitted["mean"], fitted["inv_covariance"]


class AnomalibPatchCore(_Anomalib):
    """anomalib's PatchCore (Roth et al., 2022), with its re-weighted score.

    Parameters
    ----------
    levels : tuple of str, optional
    memory_bank : int
        Patches to keep, of all patches of all images; anomalib's own default, a tenth of them, has too many for the
        greedy choice without a GPU.
    seed : int
    """

    def __init__(self, levels: tuple[str, ...] | None = None, memory_bank: int = 1000, seed: int = 0):
        super().__init__(levels, seed)
        self.memory_bank = memory_bank

    def _model(self, channels: dict[str, int]) -> Any:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        return PatchcoreModel(list(channels), _Stages(channels), pre_trained=False)

    def _learn(self, model: Any) -> dict[str, torch.Tensor]:
        n_patches = sum(len(embedding) for embedding in model.embedding_store)
        # Half a patch more: the share is turned into a number again, rounding down.
        share = min(1.0, (self.memory_bank + 0.5) / n_patches)
        # Its random projection draws from NumPy's global generator.
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(self.seed)  # noqa: NPY002
        try:
            model.subsample_embedding(share)
        finally:
            np.random.set_state(before)  # noqa: NPY002
        return {"memory_bank": model.memory_bank}

    def _restore(self, model: Any, fitted: dict[str, torch.Tensor]) -> None:
        model.memory_bank = fitted["memory_bank"]


METHODS = {"anomalib-padim": AnomalibPaDiM, "anomalib-patchcore": AnomalibPatchCore} if find_spec("anomalib") else {}
