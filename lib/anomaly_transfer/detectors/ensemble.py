"""One detector for a practitioner: the evidence of three, weighed by what each says of normal images alone.

Explained in the chapter *Side by side*.
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import KFold

from anomaly_transfer.data.splits import N_FOLDS
from anomaly_transfer.detectors.base import LEAST, Detector, Localiser
from anomaly_transfer.detectors.gaussian import GaussianDetector
from anomaly_transfer.detectors.patch import PatchGaussian, PatchMemoryBank
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.inputs import MAP

#: What is added, by method name.
PARTS: dict[str, type[Detector]] = {
    "gaussian": GaussianDetector,
    "patch-gaussian": PatchGaussian,
    "patch-memory": PatchMemoryBank,
}
#: A distance of zero has no logarithm, and a spread of zero no inverse.
TINY = 1e-12


class CombinedDetector(Localiser):
    r"""The sum of standardised log scores of a global Gaussian, a Gaussian at each position, and a patch memory.

    .. math:: s(x) = \sum_j \frac{\log s_j(x) - m_j}{d_j}

    with :math:`m_j` and :math:`d_j` the mean and standard deviation of :math:`\log s_j` over normal images, each scored
    by a detector that was fitted on the others (five folds; with fewer than ten images nothing can be weighed, and
    logarithms are added as they are). No anomaly and no label has a part in it. Its heat map
    adds the log maps of the two patch detectors, standardised in the same way.

    Parameters
    ----------
    levels : tuple of str, optional
    memory_bank, candidates, seed
        See :class:`anomaly_transfer.detectors.patch.PatchMemoryBank`.

    Attributes
    ----------
    centre_, spread_ : float64 array, shape (3,)
        :math:`m_j` and :math:`d_j`, in the order of :data:`PARTS`.
    """

    kind = "both"

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
        parts = self._fitted(features)
        state = {f"{name}/{key}": array for name, part in parts.items() for key, array in part.state_.items()}
        if len(features) < LEAST:
            return state | {"centre": np.zeros(len(parts)), "spread": np.ones(len(parts))}
        logs = np.empty((len(features), len(parts)))
        for train, test in KFold(N_FOLDS, shuffle=True, random_state=self.seed).split(logs):
            logs[test], _ = _evidence(self._fitted(features.take(train)), features.take(test))
        state |= {"centre": logs.mean(axis=0), "spread": np.maximum(logs.std(axis=0), TINY)}
        self._weighed = ((logs - state["centre"]) / state["spread"]).sum(axis=1)
        return state

    def _out_of_fold_scores(self, features: Features, seed: int) -> np.ndarray:
        """They are at hand, since the parts are weighed by them (folds by the own seed)."""
        self.fit(features)
        return self._weighed

    @property
    def centre_(self) -> np.ndarray:
        return self.state_["centre"]

    @property
    def spread_(self) -> np.ndarray:
        return self.state_["spread"]

    def _scored(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        centre, spread, parts = self.centre_, self.spread_, self._restored()
        scores, heat = [], []
        for batch in features.batches(16):
            logs, maps = _evidence(parts, batch)
            scores.append(((logs - centre) / spread).sum(axis=1))
            heat.append(sum((log_map - centre[k]) / spread[k] for k, log_map in maps.items()))
        return np.concatenate(scores), np.concatenate(heat)

    def _anomaly_map(self, features: Features) -> np.ndarray:
        return self._scored(features)[1]

    def _unfitted(self) -> dict[str, Detector]:
        parts = {name: kind() for name, kind in PARTS.items()}
        parts["patch-memory"].set_params(memory_bank=self.memory_bank, candidates=self.candidates, seed=self.seed)
        return parts

    def _fitted(self, features: Features) -> dict[str, Detector]:
        return {name: part.fit(_seen(part, features)) for name, part in self._unfitted().items()}

    def _restored(self) -> dict[str, Detector]:
        """The fitted parts, from the state."""
        parts = self._unfitted()
        for name, part in parts.items():
            mine = [key for key in self.state_ if key.startswith(f"{name}/")]
            part.state_ = {key.removeprefix(f"{name}/"): self.state_[key] for key in mine}
            part.levels_ = tuple(level for level in self.levels_ if _is_seen(part, level))
        return parts

    def _checked(self, features: Features | np.ndarray) -> Features:
        features = self._features(features).select(self.levels_)
        whole = {level.endswith(MAP) for level in features.levels} == {True, False}
        if not whole or any(a.ndim != (4 if level.endswith(MAP) else 2) for level, a in features.arrays.items()):
            raise DataError(
                f"{type(self).__name__} works on pooled features and on maps (whose names end with {MAP!r})."
            )
        return features


def _is_seen(part: Detector, level: str) -> bool:
    """Whether a part works on a level: one on maps, another on pooled features."""
    return level.endswith(MAP) == (part.kind == "maps")


def _seen(part: Detector, features: Features) -> Features:
    return features.select([level for level in features.levels if _is_seen(part, level)])


def _evidence(parts: dict[str, Detector], features: Features) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Log scores, shape (n_images, n_parts), and the log maps of the parts that have one, by their column."""
    logs, maps = [], {}
    for number, part in enumerate(parts.values()):
        if isinstance(part, Localiser):
            score, patches = part.scored(_seen(part, features))
            maps[number] = np.log(np.maximum(patches, TINY))
        else:
            score = part.anomaly_score(_seen(part, features))
        logs.append(np.log(np.maximum(score, TINY)))
    return np.column_stack(logs), maps


METHODS = {"combined": CombinedDetector}
