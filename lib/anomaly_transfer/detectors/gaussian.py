"""One Gaussian a level over pooled features, and the Mahalanobis distance to it."""

from __future__ import annotations

import numpy as np
import torch

from anomaly_transfer.detectors.base import Detector, finite
from anomaly_transfer.errors import DataError
from anomaly_transfer.features import Features

#: Variance below this share of the mean square is rounding, not variation (single precision has 7 digits).
NO_VARIATION = 1e-12

#: Added to a covariance that cannot be inverted, as a share of the mean variance: two images, or a patch that is the
#: same in all of them.
RIDGE = 1e-6


class GaussianDetector(Detector):
    r"""Multivariate Gaussian per level with Ledoit-Wolf shrinkage; distances summed over levels.

    With mean :math:`\mu_l` and covariance :math:`\Sigma_l` of the normal images at level :math:`l`,

    .. math:: s(x) = \sum_l \sqrt{(x_l - \mu_l)^\top \Sigma_l^{-1} (x_l - \mu_l)} .

    Source: Rippel, Mertens and Merhof (2020), arXiv 2005.14140, the frozen predecessor of the paper that Part II
    is about. Range of the score: 0 (the mean itself) upwards, no unit.

    Parameters
    ----------
    levels : tuple of str, optional
        Levels to sum over; default: all.
    """

    kind = "pooled"

    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        state = {}
        for level in self.levels_:
            x = finite(features[level].astype(np.float64), f"Level {level!r}")
            mean, whitening = fit_gaussian(x, f"level {level!r}")
            state[f"{level}/mean"], state[f"{level}/whitening"] = mean, whitening
        return state

    def level_distances(self, features: Features) -> np.ndarray:
        """Mahalanobis distance at each level, shape (n_images, n_levels)."""
        columns = []
        for level in self.levels_:
            x = finite(features[level].astype(np.float64), f"Level {level!r}")
            columns.append(mahalanobis(x, self.state_[f"{level}/mean"], self.state_[f"{level}/whitening"]))
        return np.column_stack(columns)

    def _anomaly_score(self, features: Features) -> np.ndarray:
        return self.level_distances(features).sum(axis=1)


def ledoit_wolf(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, covariance and shrinkage of Ledoit and Wolf (2004), for many data sets at once.

    The covariance is ``(1 - s) S + s m I`` with ``S`` the empirical covariance and ``m`` its mean variance. Equal to
    scikit-learn's ``LedoitWolf``, which takes one data set at a time (a patch grid has hundreds).

    Parameters
    ----------
    x : float64 tensor, shape (..., n, d); n may be smaller than d

    Returns
    -------
    mean, shape (..., d); covariance, shape (..., d, d); shrinkage s in 0..1, shape (...)
    """
    n, d = x.shape[-2:]
    mean = x.mean(dim=-2)
    centred = x - mean.unsqueeze(-2)
    empirical = centred.mT @ centred / n
    variance = empirical.diagonal(dim1=-2, dim2=-1).mean(-1)
    square = empirical.square().sum((-2, -1))
    distance = (square - d * variance**2) / d
    noise = (centred.square().sum(-1).square().mean(-1) - square) / (n * d)
    shrinkage = torch.where(distance > 0, torch.minimum(noise, distance) / distance, 0.0).clamp(0, 1)
    identity = torch.eye(d, dtype=x.dtype, device=x.device)
    s, m = shrinkage[..., None, None], variance[..., None, None]
    return mean, (1 - s) * empirical + s * m * identity, shrinkage


def fit_gaussian(x: np.ndarray, what: str = "the features") -> tuple[np.ndarray, np.ndarray]:
    """Mean and whitening matrix of one or many Ledoit-Wolf Gaussians.

    Parameters
    ----------
    x : float array, shape (..., n, d)
    what : str
        Names the data in the error.

    Returns
    -------
    mean : float64 array, shape (..., d)
    whitening : float64 array, shape (..., d, d)
        Inverse of the lower Cholesky factor of the covariance: it maps the Gaussian to a standard one. A covariance
        that has none (see ``RIDGE``) gets the least that makes it invertible.

    Raises
    ------
    DataError
        If nothing varies, so that no distance is defined.
    """
    data = torch.as_tensor(x, dtype=torch.float64)
    mean, covariance, _ = ledoit_wolf(data)
    variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    if variance.mean() <= NO_VARIATION * data.square().mean():
        raise DataError(f"The training images do not vary in {what}: are they copies of one image, or of one colour?")
    factor, failed = torch.linalg.cholesky_ex(covariance)
    floor = RIDGE * variance.mean()
    weak = (failed > 0) | (variance < floor)
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype)
    if weak.any():
        factor = torch.linalg.cholesky(covariance + weak[..., None, None] * floor * identity)
    return mean.numpy(), torch.linalg.solve_triangular(factor, identity, upper=False).numpy()


def mahalanobis(x: np.ndarray, mean: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of each row of ``x``, shape (..., n), for x of shape (..., n, d)."""
    return np.linalg.norm((x - mean[..., None, :]) @ np.swapaxes(whitening, -1, -2), axis=-1)


METHODS = {"gaussian": GaussianDetector}
