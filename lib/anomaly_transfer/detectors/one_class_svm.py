"""The one-class support vector machine: the normal on one side of a plane in the space of a kernel."""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import OneClassSVM

from anomaly_transfer.detectors.vector import JoinedDetector


class SVMDetector(JoinedDetector):
    r"""One-class SVM with a Gaussian kernel.

    .. math:: s(x) = \rho - \sum_i \alpha_i \exp\left(-\gamma \lVert x_i - x \rVert^2\right)

    over the support vectors :math:`x_i`. Source: Schölkopf et al. (2001), by scikit-learn. :math:`\gamma`
    is a multiple of scikit-learn's ``"scale"``, the inverse of the total variance of the normal images, which needs no
    label; to choose it by test AUROC would. Range of the score: up to rho, no unit. Memory grows with the square of the
    number of training images.

    Parameters
    ----------
    levels : tuple of str, optional
    pca : bool
        See :class:`JoinedDetector`.
    nu : float
        Upper bound of the share of training images on the wrong side, 0..1.
    sharpness : float
        Gamma as a multiple of ``"scale"``.

    Attributes
    ----------
    support_vectors_ : float64 array, shape (n_support_vectors, d)
        Of the joined features.
    """

    def __init__(
        self, levels: tuple[str, ...] | None = None, pca: bool = False, nu: float = 0.1, sharpness: float = 1.0
    ):
        super().__init__(levels, pca)
        self.nu = nu
        self.sharpness = sharpness

    def _fitted(self, x: np.ndarray) -> dict[str, np.ndarray]:
        gamma = self.sharpness / (x.shape[1] * x.var())
        # The kernel by matrix products is many times faster than entry by entry.
        machine = OneClassSVM(kernel="precomputed", nu=self.nu).fit(rbf_kernel(x, gamma=gamma))
        return {
            "support": x[machine.support_],
            "weights": machine.dual_coef_[0],
            "rho": -machine.intercept_,
            "gamma": np.array([gamma]),
        }

    @property
    def support_vectors_(self) -> np.ndarray:
        return self.state_["support"]

    def _scored(self, x: np.ndarray) -> np.ndarray:
        likeness = rbf_kernel(x, self.support_vectors_, gamma=float(self.state_["gamma"][0]))
        return self.state_["rho"][0] - likeness @ self.state_["weights"]


class PixelSVMDetector(SVMDetector):
    """The same on the pixels themselves."""

    kind = "pixels"


METHODS = {
    "svm": SVMDetector,
    "svm-pixels": PixelSVMDetector,
    "svm-pca": partial(PixelSVMDetector, pca=True),
}
