"""One detector for a practitioner: the evidence of three, weighed by what each says of normal images alone."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from anomaly_transfer.detectors.base import N_FOLDS, Detector, Localiser
from anomaly_transfer.detectors.gaussian import GaussianDetector
from anomaly_transfer.detectors.patch import PatchGaussian, PatchMemoryBank
from anomaly_transfer.errors import DataError
from anomaly_transfer.features import Features
from anomaly_transfer.views import MAP

#: With fewer images nothing can be weighed, and logarithms are added as they are.
LEAST = 2 * N_FOLDS
#: A distance of zero has no logarithm.
TINY = 1e-12


class CombinedDetector(Localiser):
    r"""The sum of standardised log scores of a global Gaussian, a Gaussian at each position, and a patch memory.

    .. math:: s(x) = \sum_j \frac{\log s_j(x) - m_j}{d_j}

    with :math:`m_j` and :math:`d_j` the mean and standard deviation of :math:`\log s_j` over normal images, each scored
    by a detector that was fitted on the others (five folds). No anomaly and no label has a part in it. Its heat map
    adds the log maps of the two patch detectors, standardised in the same way.

    Parameters
    ----------
    levels : tuple of str, optional
    memory_bank, candidates, seed
        See :class:`anomaly_transfer.detectors.patch.PatchMemoryBank`.

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

    def scored(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Anomaly score of each image, by all parts, and its map, by the two that have one."""
        check_is_fitted(self, "state_")
        features, parts = self._checked(features), self._restored()
        local = [number for number, part in enumerate(parts.values()) if isinstance(part, Localiser)]
        scores, heat = [], []
        for batch in features.batches():
            logs, maps = _evidence(parts, batch)
            scores.append(self._standardised(logs, self.state_).sum(axis=1))
            heat.append(self._standardised(np.stack(maps, axis=-1), self.state_, local).sum(axis=-1))
        return np.concatenate(scores), np.concatenate(heat)

    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        parts = self._fitted(features)
        state = {f"{name}/{key}": array for name, part in parts.items() for key, array in part.state_.items()}
        if len(features) < LEAST:
            return state | {"centre": np.zeros(len(parts)), "spread": np.ones(len(parts))}
        logs = np.empty((len(features), len(parts)))
        for train, test in KFold(N_FOLDS, shuffle=True, random_state=self.seed).split(logs):
            logs[test], _ = _evidence(self._fitted(features.take(train)), features.take(test))
        state |= {"centre": logs.mean(axis=0), "spread": logs.std(axis=0)}
        self.out_of_fold_ = self._standardised(logs, state).sum(axis=1)
        return state

    def out_of_fold_scores(self, features: Features, seed: int = 0) -> np.ndarray:
        """As of every detector; they are at hand, since the parts are weighed by them (folds by the own seed)."""
        return self.fit(features).out_of_fold_

    def _anomaly_score(self, features: Features) -> np.ndarray:
        return self.scored(features)[0]

    def _anomaly_map(self, features: Features) -> np.ndarray:
        return self.scored(features)[1]

    def _unfitted(self) -> dict[str, Detector]:
        memory = PatchMemoryBank(memory_bank=self.memory_bank, candidates=self.candidates, seed=self.seed)
        return {"gaussian": GaussianDetector(), "patch-gaussian": PatchGaussian(), "patch-memory": memory}

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

    @staticmethod
    def _standardised(logs: np.ndarray, state: dict[str, np.ndarray], parts: list[int] | None = None) -> np.ndarray:
        """Log scores, parts in the last axis, as standard deviations from what is normal."""
        chosen = slice(None) if parts is None else parts
        return (logs - state["centre"][chosen]) / state["spread"][chosen]

    def _checked(self, features: Features) -> Features:
        features = features.select(self.levels_)
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


def _evidence(parts: dict[str, Detector], features: Features) -> tuple[np.ndarray, list[np.ndarray]]:
    """Log scores, shape (n_images, n_parts), and the log maps of those that have one."""
    logs, maps = [], []
    for part in parts.values():
        if isinstance(part, Localiser):
            score, patches = part.scored(_seen(part, features))
            maps.append(np.log(np.maximum(patches, TINY)))
        else:
            score = part.anomaly_score(_seen(part, features))
        logs.append(np.log(np.maximum(score, TINY)))
    return np.column_stack(logs), maps


METHODS = {"combined": CombinedDetector}
