"""Detectors that score patches: where is the defect?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import pairwise_distances_argmin_min

from anomaly_transfer.detectors.base import Localiser, finite
from anomaly_transfer.detectors.gaussian import TOGETHER, Moments, mahalanobis
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features


def patch_features(features: Features, start: int = 0) -> np.ndarray:
    """All levels as one feature vector a patch, on the grid of the finest level.

    Each map is averaged over 3 x 3 neighbours (PatchCore's local context) and brought to the finest grid by
    bilinear interpolation. ``start`` is the row number of the first image, for errors.

    Returns
    -------
    float32 array, shape (n_images, rows, columns, channels of all levels)
    """
    maps = [torch.from_numpy(np.ascontiguousarray(features[level])) for level in features.levels]
    grid = max((m.shape[-2:] for m in maps), key=lambda size: size[0] * size[1])
    pooled = [F.avg_pool2d(m, 3, stride=1, padding=1, count_include_pad=False) for m in maps]
    same = [m if m.shape[-2:] == grid else F.interpolate(m, grid, mode="bilinear") for m in pooled]
    return finite(torch.cat(same, dim=1).permute(0, 2, 3, 1).numpy(), "The feature maps", start)


class PatchGaussian(Localiser):
    """A Gaussian at every position of the patch grid, and the Mahalanobis distance to it.

    Fits aligned images, where a position means the same part of the object in each. Source: PaDiM (Defard et al.,
    2021), arXiv 2011.08785, with Ledoit-Wolf shrinkage in place of its fixed ridge and all channels in place
    of a random choice.

    It is the largest model of all: a matrix at each position, of as many rows and columns as there are channels (152 at
    1,600 positions of EfficientNet-Lite0 at 320 px). While it is fitted, these are sums in double precision, and there
    is one such array and no other of its size. Kept is the triangle that is not zero, in single precision, a quarter
    of that; distances change by some 1e-8 of their value.
    """

    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        moments = Moments()
        for patches in _patches(features):
            moments.update(_positions_first(patches))
        rows, columns = np.tril_indices(patches.shape[-1])
        packed = [
            part[:, rows, columns].astype(np.float32) for part in moments.whitenings("some position of the patch grid")
        ]
        return {"mean": moments.mean.numpy(), "whitening": np.concatenate(packed)}

    def _anomaly_map(self, features: Features) -> np.ndarray:
        patches = patch_features(features)
        flat = _positions_first(patches)
        mean, packed = self.state_["mean"], self.state_["whitening"]
        if len(flat) != len(mean):
            raise DataError(
                f"The detector was fitted on maps of {len(mean)} positions, these have {len(flat)}: "
                "use the same image size."
            )
        distance = np.empty(flat.shape[:2])
        rows, columns = np.tril_indices(flat.shape[-1])
        for start in range(0, len(flat), TOGETHER):
            part = slice(start, start + TOGETHER)
            whitening = np.zeros((len(flat[part]), flat.shape[-1], flat.shape[-1]))
            whitening[:, rows, columns] = packed[part]
            distance[part] = mahalanobis(flat[part], mean[part], whitening)
        return distance.T.reshape(patches.shape[:3])


class SharedPatchGaussian(Localiser):
    """One Gaussian for the patches of all positions: for textures, where position means nothing."""

    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        moments = Moments()
        for patches in _patches(features):
            moments.update(patches.reshape(-1, patches.shape[-1]))
        mean, whitening = moments.gaussian()
        return {"mean": mean, "whitening": whitening}

    def _anomaly_map(self, features: Features) -> np.ndarray:
        patches = patch_features(features)
        flat = patches.reshape(-1, patches.shape[-1])
        return mahalanobis(flat, self.state_["mean"], self.state_["whitening"]).reshape(patches.shape[:3])


class PatchMemoryBank(Localiser):
    """Distance of each patch to the nearest of a representative set of normal patches.

    Source: PatchCore (Roth et al., 2022), arXiv 2106.08265: greedy k-centre choice of the set, image score = worst
    patch (without the paper's re-weighting). Candidates for the choice are a random sample of the normal patches.

    Parameters
    ----------
    levels : tuple of str, optional
    memory_bank : int
        Patches to keep.
    candidates : int
        Random patches among which to choose.
    seed : int

    Attributes
    ----------
    bank_ : float32 array, shape (at most memory_bank, channels of all levels)
        The patches kept.
    """

    def __init__(
        self,
        levels: tuple[str, ...] | None = None,
        memory_bank: int = 1000,
        candidates: int = 20_000,
        seed: int = 0,
    ):
        super().__init__(levels)
        self.memory_bank = memory_bank
        self.candidates = candidates
        self.seed = seed

    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        per_image = -(-self.candidates // len(features))
        sample: list[np.ndarray] = []
        for patches in _patches(features):
            flat = patches.reshape(len(patches), -1, patches.shape[-1])
            take = min(per_image, flat.shape[1])
            sample.extend(image[rng.choice(len(image), take, replace=False)] for image in flat)
        bank = k_centre_greedy(np.concatenate(sample), self.memory_bank, rng)
        if len(bank) < 2:
            raise DataError("The training images do not vary: are they copies of one image, or of one colour?")
        return {"bank": bank}

    @property
    def bank_(self) -> np.ndarray:
        return self.state_["bank"]

    def _anomaly_map(self, features: Features) -> np.ndarray:
        patches = patch_features(features)
        flat = patches.reshape(-1, patches.shape[-1])
        _, distance = pairwise_distances_argmin_min(flat, self.bank_)
        return distance.astype(np.float64).reshape(patches.shape[:3])


def k_centre_greedy(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Choose ``k`` points so that every point is near a chosen one: always the farthest from those chosen.

    The greedy 2-approximation of the k-centre problem (Gonzalez, 1985). Fewer than ``k`` points come back where
    the rest are copies.

    Parameters
    ----------
    points : float array, shape (n, d)
    k : int
    rng : numpy Generator
        Chooses the first point.

    Returns
    -------
    array, shape (at most k, d)
    """
    squares = np.einsum("ij,ij->i", points, points)
    chosen = [int(rng.integers(len(points)))]
    nearest = np.full(len(points), np.inf, dtype=points.dtype)
    for _ in range(min(k, len(points)) - 1):
        new = points[chosen[-1]]
        np.minimum(nearest, squares - 2 * points @ new + new @ new, out=nearest)
        nearest[chosen[-1]] = 0.0
        farthest = int(nearest.argmax())
        if nearest[farthest] <= 1e-6 * squares.max():
            break
        chosen.append(farthest)
    return points[chosen]


def _patches(features: Features) -> Iterator[np.ndarray]:
    """The patches of all images, some images at a time."""
    start = 0
    for batch in features.batches(16):
        yield patch_features(batch, start)
        start += len(batch)


def _positions_first(patches: np.ndarray) -> np.ndarray:
    """(images, rows, columns, channels) to (positions, images, channels)."""
    n, rows, columns, channels = patches.shape
    return patches.reshape(n, rows * columns, channels).swapaxes(0, 1)


METHODS = {
    "patch-gaussian": PatchGaussian,
    "patch-shared": SharedPatchGaussian,
    "patch-memory": PatchMemoryBank,
}
