"""The isolation forest: anomalies are those that random cuts set apart early."""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.ensemble import IsolationForest

from anomaly_transfer.detectors.vector import JoinedDetector


class ForestDetector(JoinedDetector):
    """Isolation forest of 100 trees, each grown on at most 256 normal images.

    Source: Liu, Ting and Zhou (2008), by scikit-learn. Range of the score: 0 to 1, no unit. What is kept is the
    prepared images, from which the same forest is grown again to score, in a tenth of a second: trees are no arrays.

    Parameters
    ----------
    levels : tuple of str, optional
    pca : bool
        See :class:`JoinedDetector`.
    seed : int
    """

    def __init__(self, levels: tuple[str, ...] | None = None, pca: bool = False, seed: int = 0):
        super().__init__(levels, pca)
        self.seed = seed

    def _fitted(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return {"normal": x.astype(np.float32)}

    def _scored(self, x: np.ndarray) -> np.ndarray:
        forest = IsolationForest(random_state=self.seed).fit(self.state_["normal"])
        return -forest.score_samples(x.astype(np.float32))


class PixelForestDetector(ForestDetector):
    """The same on the pixels themselves."""

    kind = "pixels"


METHODS = {
    "forest": ForestDetector,
    "forest-pixels": PixelForestDetector,
    "forest-pca": partial(PixelForestDetector, pca=True),
}
