"""One Gaussian a level over pooled features, and the Mahalanobis distance to it.

Explained in the chapter *The Gaussian of the normal*.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2
from sklearn.utils.validation import check_is_fitted

from anomaly_transfer.detectors.base import Detector, finite
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features

#: Variance below this share of the mean square is rounding, not variation (single precision has 7 digits).
NO_VARIATION = 1e-12

#: Added to a covariance that cannot be inverted, as a share of the mean variance: two images, or a patch that is the
#: same in all of them.
RIDGE = 1e-6

#: How a covariance is estimated; all but the first two leave out what the data say of correlations or of scales.
COVARIANCES = ("ledoit-wolf", "oas", "diagonal", "identity")

#: Which principal components count: all, those that carry this share of the variance, or those that carry the rest.
COMPONENTS = ("all", "largest", "smallest")
VARIANCE_SHARE = 0.99

#: Data sets that are worked on at a time.
TOGETHER = 64


class Moments:
    """Running sums of samples: mean, covariance and shrinkage in one pass and in constant memory.

    Sums are taken about the mean of the first batch, in double precision, so that a large mean costs no digits. Leading
    axes are data sets of their own (a patch grid has hundreds); they are worked on some at a time, so that beside the
    sums no array of their size is made.

    >>> x = torch.arange(12.0).reshape(6, 2)
    >>> Moments().update(x[:4]).update(x[4:]).mean.tolist()
    [5.0, 6.0]
    """

    def __init__(self) -> None:
        self.n = 0

    def update(self, x: torch.Tensor | np.ndarray) -> Moments:
        """Add samples, shape (..., n, d), finite; returns self."""
        x = torch.as_tensor(x)
        if not self.n:
            sums = partial(torch.zeros, dtype=torch.float64)
            *sets, _, d = x.shape
            self.origin, self.first, self.third = (sums(*sets, d) for _ in range(3))
            self.second = sums(*sets, d, d)
            self.fourth, self.squares = (sums(sets) for _ in range(2))
        for part in self._parts():
            some = x[part].to(torch.float64)
            if not self.n:
                self.origin[part] = some.mean(dim=-2)
            y = some - self.origin[part].unsqueeze(-2)
            length = y.square().sum(-1)
            self.first[part] += y.sum(-2)
            self.second[part] += y.mT @ y
            self.third[part] += (length.unsqueeze(-1) * y).sum(-2)
            self.fourth[part] += length.square().sum(-1)
            self.squares[part] += some.square().sum((-2, -1))
        self.n += x.shape[-2]
        return self

    def _parts(self) -> Iterator[Any]:
        """Some of the data sets at a time, as an index; all of them where there is one."""
        if self.squares.ndim:
            yield from (slice(start, start + TOGETHER) for start in range(0, len(self.squares), TOGETHER))
        else:
            yield ...

    def __getitem__(self, part: Any) -> Moments:
        """Those of some of the data sets."""
        some = Moments()
        some.n = self.n
        for name in ("origin", "first", "second", "third", "fourth", "squares"):
            setattr(some, name, getattr(self, name)[part])
        return some

    @property
    def mean(self) -> torch.Tensor:
        """Shape (..., d)."""
        return self.origin + self.first / self.n

    @property
    def empirical(self) -> torch.Tensor:
        """Maximum-likelihood covariance, shape (..., d, d)."""
        centre = self.first / self.n
        return self.second / self.n - centre.unsqueeze(-1) * centre.unsqueeze(-2)

    def shrinkage(self, covariance: str = "ledoit-wolf") -> torch.Tensor:
        """Weight of the scaled identity in the covariance, 0..1, shape (...).

        Source: Ledoit and Wolf (2004), or the oracle approximating shrinkage of Chen et al. (2010). Equal to
        scikit-learn's ``LedoitWolf`` and ``OAS``, which take one data set at a time, and all of it at once.
        """
        empirical = self.empirical
        d = empirical.shape[-1]
        variance = empirical.diagonal(dim1=-2, dim2=-1).mean(-1)
        square = empirical.square().sum((-2, -1))
        if covariance == "oas":
            above, below = square / d**2 + variance**2, (self.n + 1) * (square / d**2 - variance**2 / d)
            return torch.where(below > 0, above / below, 1.0).clamp(0, 1)
        # Mean fourth power of the distance to the mean, from sums about the origin.
        m = self.first / self.n
        centre = m.square().sum(-1)
        trace = self.second.diagonal(dim1=-2, dim2=-1).sum(-1)
        along = (m.unsqueeze(-2) @ self.second @ m.unsqueeze(-1))[..., 0, 0]
        fourth = self.fourth + 4 * along - 4 * (m * self.third).sum(-1) + 2 * centre * trace
        fourth = fourth / self.n - 3 * centre**2
        distance = (square - d * variance**2) / d
        noise = (fourth - square) / (self.n * d)
        return torch.where(distance > 0, torch.minimum(noise, distance) / distance, 0.0).clamp(0, 1)

    def covariance(self, covariance: str = "ledoit-wolf") -> torch.Tensor:
        """Covariance, shape (..., d, d), estimated as one of :data:`COVARIANCES`.

        ``ledoit-wolf`` and ``oas`` give ``(1 - s) S + s m I`` with ``S`` the empirical covariance, ``m`` its mean
        variance and ``s`` the shrinkage; ``diagonal`` keeps the variances only, and ``identity`` is ``m I``: a
        Euclidean distance in units of the mean standard deviation.
        """
        empirical = self.empirical
        identity = torch.eye(empirical.shape[-1], dtype=empirical.dtype)
        if covariance == "diagonal":
            return empirical * identity
        variance = empirical.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        if covariance == "identity":
            return variance * identity
        s = self.shrinkage(covariance)[..., None, None]
        return (1 - s) * empirical + s * variance * identity

    def gaussian(
        self, what: str = "the features", covariance: str = "ledoit-wolf", components: str = "all"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and whitening matrix, as :func:`fit_gaussian` gives them.

        Parameters
        ----------
        what : str
            Names the data in the error.
        covariance, components : str
            See :data:`COVARIANCES` and :data:`COMPONENTS`.

        Raises
        ------
        DataError
            If nothing varies, so that no distance is defined.
        """
        whitenings = list(self.whitenings(what, covariance, components))
        return self.mean.numpy(), np.concatenate(whitenings) if len(whitenings) > 1 else whitenings[0]

    def whitenings(
        self, what: str = "the features", covariance: str = "ledoit-wolf", components: str = "all"
    ) -> Iterator[np.ndarray]:
        """The whitening matrices of :meth:`gaussian`, some data sets at a time."""
        # Shrinking leaves the mean variance as it is.
        centre = self.first / self.n
        variance = (self.second.diagonal(dim1=-2, dim2=-1) / self.n - centre.square()).mean(-1)
        d = centre.shape[-1]
        if variance.mean() <= NO_VARIATION * self.squares.mean() / (self.n * d):
            raise DataError(
                f"The training images do not vary in {what}: are they copies of one image, or of one colour?"
            )
        floor = RIDGE * variance.mean()
        for part in self._parts():
            estimate = self[part].covariance(covariance)
            if components != "all":
                whitening = _of_components(estimate, components, floor)
            else:
                whitening = _of_all(estimate, variance[part], floor)
            # As it will be read back from a file: another order in memory rounds otherwise.
            yield whitening.contiguous().numpy()


def _of_all(covariance: torch.Tensor, variance: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """Whitening matrices, shape (..., d, d), lower triangular."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    weak = (failed > 0) | (variance < floor)
    identity = torch.eye(covariance.shape[-1], dtype=factor.dtype)
    if weak.any():
        factor = torch.linalg.cholesky(covariance + weak[..., None, None] * floor * identity)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


def _of_components(covariance: torch.Tensor, components: str, floor: torch.Tensor) -> torch.Tensor:
    """Whitening matrix of the largest or of the smallest principal components, shape (k, d)."""
    values, vectors = torch.linalg.eigh(covariance)
    if len(values) == 1:
        # A single one is the largest and the smallest.
        return vectors.T / values.clamp(min=float(floor)).sqrt()
    # Ascending: the first ones together carry no more than the rest of the variance; one is left on either side.
    carried = values.clamp(min=0).cumsum(0) / values.clamp(min=0).sum()
    n_smallest = int((carried <= 1 - VARIANCE_SHARE).sum().clamp(1, max(1, len(values) - 1)))
    chosen = slice(n_smallest) if components == "smallest" else slice(n_smallest, None)
    return (vectors[:, chosen] / values[chosen].clamp(min=float(floor)).sqrt()).T


class GaussianDetector(Detector):
    r"""Multivariate Gaussian per level; Mahalanobis distances summed over levels.

    With mean :math:`\mu_l` and covariance :math:`\Sigma_l` of the normal images at level :math:`l`,

    .. math:: s(x) = \sum_l \sqrt{(x_l - \mu_l)^\top \Sigma_l^{-1} (x_l - \mu_l)} .

    Source: Rippel, Mertens and Merhof (2020), arXiv 2005.14140, the frozen predecessor of the paper that Part II
    is about; ``components="smallest"`` is its negated PCA. Range of the score: 0 (the mean itself) upwards, no unit.
    It is fitted in one pass over batches, so that memory does not grow with the number of images.

    Parameters
    ----------
    levels : tuple of str, optional
        Levels to sum over; default: all.
    covariance : str
        One of :data:`COVARIANCES`.
    components : str
        One of :data:`COMPONENTS`.

    Attributes
    ----------
    mean_ : dict of level name to float64 array, shape (d,)
    whitening_ : dict of level name to float64 array, shape (k, d)
        See :func:`fit_gaussian`; k is d unless some of the ``components`` are left out.
    precision_ : dict of level name to float64 array, shape (d, d)
        Inverse covariance, of rank k.
    """

    kind = "pooled"

    def __init__(self, levels: tuple[str, ...] | None = None, covariance: str = "ledoit-wolf", components: str = "all"):
        super().__init__(levels)
        self.covariance = covariance
        self.components = components

    def _fit(self, features: Features) -> dict[str, np.ndarray]:
        for name, value, known in (
            ("covariance", self.covariance, COVARIANCES),
            ("components", self.components, COMPONENTS),
        ):
            if value not in known:
                raise ValueError(f"There is no {name} {value!r}; choose from {', '.join(known)}.")
        state = {}
        for level in self.levels_:
            moments, start = Moments(), 0
            for batch in features.select((level,)).batches(1024):
                moments.update(finite(batch[level], f"Level {level!r}", start))
                start += len(batch)
            mean, whitening = moments.gaussian(f"level {level!r}", self.covariance, self.components)
            state[f"{level}/mean"], state[f"{level}/whitening"] = mean, whitening
        return state

    @property
    def mean_(self) -> dict[str, np.ndarray]:
        return self._by_level("mean")

    @property
    def whitening_(self) -> dict[str, np.ndarray]:
        return self._by_level("whitening")

    @property
    def precision_(self) -> dict[str, np.ndarray]:
        return {level: whitening.T @ whitening for level, whitening in self.whitening_.items()}

    def level_distances(self, features: Features | np.ndarray) -> np.ndarray:
        """Mahalanobis distance at each level, shape (n_images, n_levels)."""
        check_is_fitted(self, "state_")
        features = self._checked(features)
        mean, whitening, columns = self.mean_, self.whitening_, []
        for level in self.levels_:
            x = finite(features[level].astype(np.float64), f"Level {level!r}")
            columns.append(mahalanobis(x, mean[level], whitening[level]))
        return np.column_stack(columns)

    def _anomaly_score(self, features: Features) -> np.ndarray:
        return self.level_distances(features).sum(axis=1)


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
    return Moments().update(x).gaussian(what)


def mahalanobis(x: np.ndarray, mean: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """Mahalanobis distance of each row of ``x``, shape (..., n), for x of shape (..., n, d)."""
    return np.linalg.norm((x - mean[..., None, :]) @ np.swapaxes(whitening, -1, -2), axis=-1)


def chi_square_threshold(false_alarms: float, dimensions: int) -> float:
    """The Mahalanobis distance that a share of a Gaussian's samples exceeds, if mean and covariance are known exactly.

    Squared distances then follow a chi-square distribution with as many degrees of freedom as dimensions.

    Parameters
    ----------
    false_alarms : float in 0..1
    dimensions : int

    >>> round(chi_square_threshold(0.05, 1), 2)
    1.96
    """
    return float(np.sqrt(chi2.isf(false_alarms, dimensions)))


METHODS = {
    "gaussian": GaussianDetector,
    "gaussian-oas": partial(GaussianDetector, covariance="oas"),
    "gaussian-diagonal": partial(GaussianDetector, covariance="diagonal"),
    "gaussian-euclidean": partial(GaussianDetector, covariance="identity"),
    "gaussian-largest": partial(GaussianDetector, components="largest"),
    "gaussian-smallest": partial(GaussianDetector, components="smallest"),
}
