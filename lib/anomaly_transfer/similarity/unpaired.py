"""Measures between two samples in one feature space. Nothing pairs their rows.

Explained in the chapter *How to measure a relationship*. Estimators are unbiased where an unbiased one is known, and
therefore may fall a little below zero.
"""

from __future__ import annotations

import numpy as np
import ot
from scipy.spatial.distance import pdist
from scipy.stats import ks_2samp
from sklearn.metrics import pairwise_distances

from anomaly_transfer.data.splits import N_FOLDS
from anomaly_transfer.detectors.gaussian import fit_gaussian, mahalanobis
from anomaly_transfer.errors import DataError
from anomaly_transfer.similarity.base import Measure, Statistic

#: Bandwidths of the multi-bandwidth MMD, as multiples of the median squared distance.
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Leading principal components that span a sample's subspace.
DIMENSIONS = 10
PROJECTIONS = 100
#: Strength of the domain classifier's ridge, as a share of the features' total variance.
RIDGE = 0.01


def _mmd(factors: tuple[float, ...]):
    def prepare(pool: np.ndarray, reference: np.ndarray, groups: np.ndarray) -> Statistic:
        squares = pairwise_distances(pool, metric="sqeuclidean")
        median = np.median(pdist(reference, "sqeuclidean"))
        if median == 0:
            raise DataError("Most rows of the reference are copies of each other: a bandwidth needs rows that differ.")
        return _contrast(np.mean([np.exp(-squares / (factor * median)) for factor in factors], axis=0))

    return prepare


def _energy(pool: np.ndarray, reference: np.ndarray, groups: np.ndarray) -> Statistic:
    return _contrast(-pairwise_distances(pool))


def _contrast(kernel: np.ndarray) -> Statistic:
    """Mean within the first, plus mean within the second, minus twice the mean between, of a kernel matrix."""

    def within(rows: np.ndarray) -> float:
        block = kernel[np.ix_(rows, rows)]
        return (block.sum() - np.trace(block)) / (len(rows) * (len(rows) - 1))

    return lambda a, b: within(a) + within(b) - 2 * kernel[np.ix_(a, b)].mean()


def _sliced_wasserstein(pool: np.ndarray, reference: np.ndarray, groups: np.ndarray) -> Statistic:
    directions = ot.sliced.get_random_projections(pool.shape[1], PROJECTIONS, seed=0)
    projected, axes = pool @ directions, np.eye(PROJECTIONS)
    return lambda a, b: ot.sliced_wasserstein_distance(projected[a], projected[b], projections=axes)


# The next three need nothing but inner products of centred rows: the cost does not grow with the dimension.


def _frechet(pool: np.ndarray, reference: np.ndarray, groups: np.ndarray) -> Statistic:
    gram = pool @ pool.T

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        mean = gram[np.ix_(a, a)].mean() + gram[np.ix_(b, b)].mean() - 2 * gram[np.ix_(a, b)].mean()
        spread = sum(np.trace(_centred(gram, rows, rows)) / (len(rows) - 1) for rows in (a, b))
        # tr (Sa Sb)^(1/2) is the sum of singular values of the cross product of the centred samples.
        shared = np.linalg.svd(_centred(gram, a, b), compute_uv=False).sum()
        return mean + spread - 2 * shared / np.sqrt((len(a) - 1) * (len(b) - 1))

    return statistic


def _covariance(pool: np.ndarray, reference: np.ndarray, groups: np.ndarray) -> Statistic:
    gram = pool @ pool.T

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        between = np.square(_centred(gram, a, b)).sum() / ((len(a) - 1) * (len(b) - 1))
        squares = [max(hsic(gram[np.ix_(rows, rows)], gram[np.ix_(rows, rows)]), 0.0) for rows in (a, b)]
        return between / max(np.sqrt(squares[0] * squares[1]), np.finfo(float).tiny)

    return statistic


def hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """Unbiased estimate of the Hilbert-Schmidt independence criterion from two kernel matrices of the same rows.

    With a linear kernel on both sides it estimates the squared Frobenius norm of the cross-covariance. Source: Song
    et al. (2012), equation 5.

    Parameters
    ----------
    k, l : float arrays, shape (n, n), n >= 4
    """
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    rows = k.sum(axis=0) @ l.sum(axis=0)
    return ((k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3))


def subspace(dimensions: int):
    """Mean squared cosine of the principal angles between leading subspaces of so many dimensions (``prepare``)."""

    def prepare(pool: np.ndarray, reference: np.ndarray, groups: np.ndarray) -> Statistic:
        gram = pool @ pool.T

        def statistic(a: np.ndarray, b: np.ndarray) -> float:
            k = min(dimensions, len(a) - 1, len(b) - 1, pool.shape[1])
            left, right = _whitener(gram, a, k), _whitener(gram, b, k)
            return np.square(left.T @ _centred(gram, a, b) @ right).sum() / k

        return statistic

    return prepare


def _whitener(gram: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Coefficients, shape (rows, k), that combine centred rows into the first k unit principal directions."""
    values, vectors = np.linalg.eigh(_centred(gram, rows, rows))
    return vectors[:, -k:] / np.sqrt(np.maximum(values[-k:], np.finfo(float).eps * values[-1]))


def _centred(gram: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Inner products of rows, each sample about its own mean."""
    block = gram[np.ix_(a, b)]
    return block - block.mean(axis=0) - block.mean(axis=1, keepdims=True) + block.mean()


def _a_distance(pool: np.ndarray, reference: np.ndarray, groups: np.ndarray) -> Statistic:
    space = _coordinates(pool)

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        rows = np.concatenate([a, b])
        x, sign = space[rows], np.repeat([1.0, -1.0], [len(a), len(b)])
        told = np.empty(len(rows))
        for held in _folds(groups[rows], len(a)):
            told[held] = _ridge(x[~held], sign[~held], x[held])
        # Either side counts as much, however many rows it has.
        return 2 * float(np.mean(told[: len(a)] > 0) + np.mean(told[len(a) :] < 0) - 1)

    return statistic


def _folds(groups: np.ndarray, first: int) -> list[np.ndarray]:
    """Which rows are held out in each fold; both sides (the first rows, and the rest) are in all of them.

    Rows of one object stay in one fold, unless objects are so few that a side would be missing somewhere.
    """
    side = np.arange(len(groups)) < first
    _, of = np.unique(groups, return_inverse=True)
    by_object = [of % N_FOLDS == fold for fold in range(N_FOLDS)]
    if all(side[~held].any() and not side[~held].all() for held in by_object) and of.max() + 1 < len(groups):
        return by_object
    by_row = np.concatenate([np.arange(first), np.arange(len(groups) - first)])
    return [by_row % N_FOLDS == fold for fold in range(N_FOLDS)]


def _ridge(x: np.ndarray, sign: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Ridge regression to +1 and -1, both sides weighing the same; more columns than rows cost nothing."""
    weight = np.where(sign > 0, 0.5 / (sign > 0).sum(), 0.5 / (sign < 0).sum())
    centre = weight @ x
    scaled = np.sqrt(weight)[:, None] * (x - centre)
    gram = scaled @ scaled.T
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram)
    return (held - centre) @ (scaled.T @ np.linalg.solve(gram, np.sqrt(weight) * sign))


def _coordinates(pool: np.ndarray) -> np.ndarray:
    """The same rows in their own span: at most as many columns as rows, all distances unchanged."""
    if pool.shape[1] <= len(pool):
        return pool
    u, s, _ = np.linalg.svd(pool - pool.mean(axis=0), full_matrices=False)
    return u * s


def _overlap(pool: np.ndarray, reference: np.ndarray, groups: np.ndarray) -> Statistic:
    space = _coordinates(pool)

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        # By group, in a fixed order: one half of b gives the Gaussian, the other is compared with a; then in turn.
        _, number = np.unique(groups[b], return_inverse=True)
        halves = [b[number % 2 == side] for side in (0, 1)]
        if min(map(len, halves)) < 2:
            halves = [b[::2], b[1::2]]
        found = []
        for fitted, held in (halves, halves[::-1]):
            mean, whitening = fit_gaussian(space[fitted])
            distance = [mahalanobis(space[rows], mean, whitening) for rows in (a, held)]
            found.append(1 - ks_2samp(*distance, method="asymp").statistic)
        return float(np.mean(found))

    return statistic


UNPAIRED = (
    Measure(
        name="mmd",
        title="MMD, one bandwidth",
        paired=False,
        farther=True,
        range="0 (same) to 2",
        equation=r"\mathbb{E}\,k(x,x')+\mathbb{E}\,k(y,y')-2\,\mathbb{E}\,k(x,y),\quad k(a,b)=e^{-\|a-b\|^2/m}",
        source="gretton2012",
        invariant=("rotation", "scale", "shift"),
        sees="any difference at the scale of the bandwidth",
        blind="differences much finer or coarser than the bandwidth",
        prepare=_mmd((1.0,)),
    ),
    Measure(
        name="mmd_multi",
        title="MMD, five bandwidths",
        paired=False,
        farther=True,
        range="0 (same) to 2",
        equation=r"\text{as MMD, } k \text{ the mean of five with } m/4,\,m/2,\,m,\,2m,\,4m",
        source="gretton2012",
        invariant=("rotation", "scale", "shift"),
        sees="any difference over a range of scales",
        blind="little, but needs more images for any one kind of difference",
        prepare=_mmd(BANDWIDTHS),
    ),
    Measure(
        name="energy",
        title="Energy distance",
        paired=False,
        farther=True,
        range="0 (same) upwards, in feature units",
        equation=r"2\,\mathbb{E}\|x-y\|-\mathbb{E}\|x-x'\|-\mathbb{E}\|y-y'\|",
        source="szekely2013",
        invariant=("rotation", "shift"),
        sees="shifts first, then changes of spread",
        blind="shape, in high dimensions",
        prepare=_energy,
    ),
    Measure(
        name="frechet",
        title="Fréchet distance",
        paired=False,
        farther=True,
        range="0 (same) upwards, in squared feature units; too large at small n",
        equation=r"\|\mu_x-\mu_y\|^2+\operatorname{tr}\left(\Sigma_x+\Sigma_y-2(\Sigma_x\Sigma_y)^{1/2}\right)",
        source="heusel2017",
        invariant=("rotation", "shift"),
        sees="mean and covariance",
        blind="anything beyond them; grows with 1/n, so sizes must be equal",
        prepare=_frechet,
    ),
    Measure(
        name="sliced_wasserstein",
        title="Sliced Wasserstein",
        paired=False,
        farther=True,
        range="0 (same) upwards, in feature units; too large at small n",
        equation=r"\left(\mathbb{E}_{\theta}\,W_2^2(\theta^\top x,\theta^\top y)\right)^{1/2}",
        source="bonneel2015",
        invariant=("shift",),
        sees="differences that random projections keep",
        blind="what happens in a few of many directions; depends on the projections drawn",
        prepare=_sliced_wasserstein,
    ),
    Measure(
        name="covariance",
        title="Covariance alignment",
        paired=False,
        farther=False,
        range="about 0 (nothing shared) to about 1 (proportional covariances)",
        equation=r"\frac{\operatorname{tr}\Sigma_x\Sigma_y}{\sqrt{\operatorname{tr}\Sigma_x^2\,\operatorname{tr}\Sigma_y^2}}",
        source="robert1976",
        invariant=("rotation", "scale", "shift"),
        sees="whether the same directions vary",
        blind="where the samples lie, and the overall spread",
        prepare=_covariance,
    ),
    Measure(
        name="subspace",
        title=f"Principal angles, {DIMENSIONS} dimensions",
        paired=False,
        farther=False,
        range="0 (orthogonal) to 1 (same subspace); too small at small n",
        equation=r"\frac1k\sum_{i=1}^k\cos^2\theta_i",
        source="bjorck1973",
        invariant=("rotation", "scale", "shift"),
        sees="whether the leading directions are the same",
        blind="where the samples lie, how much they vary, and all further directions",
        prepare=subspace(DIMENSIONS),
    ),
    Measure(
        name="a_distance",
        title="Proxy A-distance",
        paired=False,
        farther=True,
        range="0 (cannot be told apart) to 2 (always told apart)",
        equation=r"2\,(1-2\,\varepsilon),\quad \varepsilon \text{ the cross-validated error of a linear classifier}",
        source="bendavid2007",
        invariant=("rotation", "scale", "shift"),
        sees="what a linear classifier can learn from so few images",
        blind="how far apart: it saturates as soon as the samples can be told apart",
        prepare=_a_distance,
    ),
    Measure(
        name="overlap",
        title="Mahalanobis overlap",
        paired=False,
        farther=False,
        range="0 (apart) to 1 (same); too small at small n",
        equation=r"1-\sup_t|F_x(t)-F_y(t)|,\quad t=\text{Mahalanobis distance to a held-out half of } y",
        source="rippel2020",
        invariant=("rotation", "scale", "shift"),
        symmetric=False,
        sees="what a Gaussian detector sees",
        blind="differences at the same Mahalanobis distance",
        prepare=_overlap,
    ),
)
