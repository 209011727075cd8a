"""What detectors share that work on one vector an image: levels side by side, optionally after a PCA."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted

from anomaly_transfer.detectors.base import Detector, finite
from anomaly_transfer.errors import DataError
from anomaly_transfer.features import pixels
from anomaly_transfer.features.features import Features

#: Share of the variance that a PCA keeps.
VARIANCE = 0.95


class JoinedDetector(Detector):
    """Levels are joined to one vector in which each has the same weight.

    A level's channels are centred at the mean of the normal images and divided by their standard deviation (never by
    less than a tenth of the median one, else channels that hardly vary would rule); pixels by one number for all, since
    the dark border of a digit would become its loudest part. Each level is then divided by the square root of its
    number of channels.

    Parameters
    ----------
    levels : tuple of str, optional
    pca : bool
        Keep the principal components that carry :data:`VARIANCE` of the variance of the normal images.
    """

    kind: ClassVar[Literal["pooled", "pixels"]] = "pooled"
    #: Whether a level is centred at the normal images; else it keeps its origin.
    centred: ClassVar[bool] = True

    def __init__(self, levels: tuple[str, ...] | None = None, pca: bool = False):
        super().__init__(levels)
        self.pca = pca

    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        state: dict[str, np.ndarray] = {}
        for level in self.levels_:
            x = finite(features[level], f"Level {level!r}").astype(np.float64)
            mean = x.mean(axis=0) if self.centred else np.zeros(x.shape[1])
            deviation = np.sqrt(np.square(x - mean).mean(axis=0))
            if not deviation.any() or not np.ptp(x, axis=0).any():
                raise DataError(
                    f"The training images do not vary in level {level!r}: are they copies of one image, or of one "
                    "colour?"
                )
            if level == pixels.LEVEL or not self.centred:
                deviation = np.full_like(deviation, np.sqrt(np.square(deviation).mean()))
            floor = 0.1 * np.median(deviation[deviation > 0])
            state[f"{level}/mean"] = mean
            state[f"{level}/scale"] = np.maximum(deviation, floor) * np.sqrt(x.shape[1])
        joined = self._standardised(features, state)
        if self.pca:
            # The exact solver whose cost grows with the number of images only once.
            solver = "covariance_eigh" if len(joined) > joined.shape[1] else "full"
            found = PCA(VARIANCE, svd_solver=solver).fit(joined)
            # As it will be read back from a file: another order in memory rounds otherwise.
            state["components"] = np.ascontiguousarray(found.components_)
            joined = joined @ state["components"].T
        return state | self._fitted(joined)

    def joined(self, features: Features | np.ndarray) -> np.ndarray:
        """The vectors that are worked on, float64, shape (n_images, d)."""
        check_is_fitted(self, "state_")
        x = self._standardised(self._checked(features), self.state_)
        return x @ self.state_["components"].T if "components" in self.state_ else x

    def _anomaly_score(self, features: Features) -> np.ndarray:
        return self._scored(self.joined(features))

    def _standardised(self, features: Features, state: dict[str, np.ndarray]) -> np.ndarray:
        parts = []
        for level in self.levels_:
            x = finite(features[level], f"Level {level!r}").astype(np.float64)
            if x.shape[1] != len(state[f"{level}/mean"]):
                raise DataError(
                    f"Level {level!r} has {x.shape[1]} values an image, but the detector was fitted on "
                    f"{len(state[f'{level}/mean'])}: are some pictures grey and others in colour?"
                )
            parts.append((x - state[f"{level}/mean"]) / state[f"{level}/scale"])
        return np.hstack(parts)

    @abstractmethod
    def _fitted(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Fit on joined features, shape (n, d), and return what is to be kept besides the scales."""

    @abstractmethod
    def _scored(self, x: np.ndarray) -> np.ndarray:
        """Score joined features, shape (n, d); higher is more anomalous."""
