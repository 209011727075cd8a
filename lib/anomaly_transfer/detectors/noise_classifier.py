"""A classifier against noise: the other class is drawn from a Gaussian about the origin of the feature space."""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.neural_network import MLPClassifier

from anomaly_transfer.detectors.vector import JoinedDetector

HIDDEN, EPOCHS = 64, 20
#: Standard deviation of the noise as a share of the root mean square of the features: near the origin, or as wide as
#: the features are far from it.
NARROW, WIDE = 0.1, 1.0


class PseudoNegativesDetector(JoinedDetector):
    """One hidden layer tells the features of normal images from as many draws of zero-centred Gaussian noise.

    Source: the one-class CNN of Oza and Patel (2019), arXiv 1901.08688, on frozen features. The standard deviation of
    the noise is our choice, and features keep their origin, which for pooled activations is far from the data: what the
    classifier can learn is which way from the origin, and how far, normal images lie. Range of the score: the logit of
    "noise", any number.

    Parameters
    ----------
    levels : tuple of str, optional
    spread : float
        Standard deviation of the noise as a share of the root mean square of the features.
    seed : int
    """

    centred = False

    def __init__(self, levels: tuple[str, ...] | None = None, spread: float = NARROW, seed: int = 0):
        super().__init__(levels)
        self.spread = spread
        self.seed = seed

    def _fitted(self, x: np.ndarray) -> dict[str, np.ndarray]:
        noise = np.random.default_rng(self.seed).normal(0, self.spread * np.sqrt(np.square(x).mean()), x.shape)
        network = MLPClassifier(HIDDEN, random_state=self.seed)
        # Epoch by epoch: `fit` would warn, or end early, by how little the loss still falls.
        for _ in range(EPOCHS):
            network.partial_fit(np.vstack([x, noise]), np.repeat([0, 1], len(x)), classes=[0, 1])
        names = [f"{what}/{number}" for what in ("weights", "bias") for number in range(2)]
        return dict(zip(names, [*network.coefs_, *network.intercepts_], strict=True))

    def _scored(self, x: np.ndarray) -> np.ndarray:
        state = self.state_
        hidden = np.maximum(x @ state["weights/0"] + state["bias/0"], 0)
        return (hidden @ state["weights/1"] + state["bias/1"])[:, 0]


METHODS = {
    "pseudo-negatives": PseudoNegativesDetector,
    "pseudo-negatives-wide": partial(PseudoNegativesDetector, spread=WIDE),
}
