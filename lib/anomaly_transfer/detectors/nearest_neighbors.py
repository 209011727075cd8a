"""Distance to the nearest normal images."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from anomaly_transfer.detectors.base import Detector, finite
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features


class NeighboursDetector(Detector):
    """Mean Euclidean distance to the k nearest normal images, summed over levels.

    Levels differ in scale, so each level's distance is divided by the mean distance of the normal images to
    *their* k nearest neighbours (leave one out): 1 means "as far as normal images are from each other". The
    division is ours; with one level it does not change the ranking, and the detector is the k-NN of
    Bergman, Cohen and Hoshen (2020), arXiv 2002.10445.

    Parameters
    ----------
    levels : tuple of str, optional
    k : int
        Number of neighbours; at most one fewer than there are training images is used.

    Attributes
    ----------
    scale_ : dict of level name to float array, shape (1,)
        The mean distance of the normal images to their k nearest neighbours.
    """

    kind = "pooled"

    def __init__(self, levels: tuple[str, ...] | None = None, k: int = 2):
        super().__init__(levels)
        self.k = k

    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        state = {}
        for level in self.levels_:
            x = finite(features[level], f"Level {level!r}")
            # Without an argument, kneighbors leaves each training image out of its own neighbours.
            own, _ = NearestNeighbors(n_neighbors=min(self.k, len(x) - 1)).fit(x).kneighbors()
            if not own.mean() > 0:
                raise DataError(f"The training images do not vary in level {level!r}: are they copies of one image?")
            state[f"{level}/normal"], state[f"{level}/scale"] = x, own.mean(keepdims=True).ravel()
        return state

    @property
    def scale_(self) -> dict[str, np.ndarray]:
        return self._by_level("scale")

    def _anomaly_score(self, features: Features) -> np.ndarray:
        total = np.zeros(len(features))
        for level in self.levels_:
            normal = self.state_[f"{level}/normal"]
            index = NearestNeighbors(n_neighbors=min(self.k, len(normal))).fit(normal)
            distances, _ = index.kneighbors(finite(features[level], f"Level {level!r}"))
            total += distances.mean(axis=1) / self.scale_[level]
        return total


METHODS = {"neighbours": NeighboursDetector}
