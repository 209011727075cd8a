"""Measures between two views of the same images: row i of both arrays is image i.

Explained in the chapter *How to measure a relationship*. They say nothing about two unpaired samples.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from anomaly_transfer.errors import DataError
from anomaly_transfer.similarity.base import Measure, Statistic
from anomaly_transfer.similarity.unpaired import hsic

#: Principal components that CCA is given: with as many as images, it finds correlation in noise.
COMPONENTS = 10
#: Rows of a minibatch.
BATCH = 32


def _linear(x: np.ndarray) -> np.ndarray:
    return x @ x.T


def _rbf(x: np.ndarray) -> np.ndarray:
    squares = pdist(x, "sqeuclidean")
    median = np.median(squares)
    if median == 0:
        raise DataError("Most rows of a view are copies of each other: a bandwidth needs rows that differ.")
    return np.exp(-squareform(squares) / median)


def _biased_hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    centred = k - k.mean(axis=0) - k.mean(axis=1, keepdims=True) + k.mean()
    return (centred * l).sum()


def _cka(first: np.ndarray, second: np.ndarray, groups: np.ndarray, kernel, estimate) -> Statistic:
    k, l = kernel(first), kernel(second)  # noqa: E741

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return _normalised(estimate, k[np.ix_(a, a)], l[np.ix_(b, b)])

    return statistic


def _normalised(estimate, k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    return _ratio(estimate(k, l), estimate(k, k), estimate(l, l))


def _ratio(cross: float, first: float, second: float) -> float:
    # Estimates of squares may come out negative: then nothing was found.
    return cross / np.sqrt(first * second) if min(first, second) > 0 else 0.0


def _minibatch_cka(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> Statistic:
    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        parts = np.array_split(np.arange(len(a)), max(1, len(a) // BATCH))
        kernels = [(_linear(first[a[part]]), _linear(second[b[part]])) for part in parts]
        cross, one, two = (
            sum(hsic(*pair) for pair in pairs)
            for pairs in (kernels, [(k, k) for k, _ in kernels], [(m, m) for _, m in kernels])
        )
        return _ratio(cross, one, two)

    return statistic


def _cca(first: np.ndarray, second: np.ndarray, groups: np.ndarray, weighted: bool) -> Statistic:
    one, two = _span(first), _span(second)

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        u, v = _leading(one[a]), _leading(two[b])
        left, correlations, _ = np.linalg.svd(u.T @ v, full_matrices=False)
        if not weighted:
            return correlations.mean()
        # How much of the first view's columns each canonical direction accounts for.
        weight = np.abs((u @ left).T @ (first[a] - first[a].mean(axis=0))).sum(axis=1)
        return (weight * correlations).sum() / weight.sum()

    return statistic


def _leading(x: np.ndarray) -> np.ndarray:
    """Orthonormal scores, shape (n, k), on the leading components of a view."""
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return u[:, : min(COMPONENTS, int((s > 1e-9 * s[0]).sum()))]


def _procrustes(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> Statistic:
    # Only columns are rotated, so each view may first be written in its own span, and both in equally many columns.
    views = [_span(first), _span(second)]
    width = max(view.shape[1] for view in views)
    x, y = (np.pad(view, ((0, 0), (0, width - view.shape[1]))) for view in views)
    return lambda a, b: procrustes(x[a], y[b])[2]


def _span(x: np.ndarray) -> np.ndarray:
    """The same rows in at most as many columns, a rotation away."""
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return u * s


def _rsa(first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> Statistic:
    one, two = squareform(pdist(first)), squareform(pdist(second))

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        upper = np.triu_indices(len(a), 1)
        return spearmanr(one[np.ix_(a, a)][upper], two[np.ix_(b, b)][upper]).statistic

    return statistic


_ALL = ("rotation", "scale", "shift")
_CKA = r"\frac{\widehat{\mathrm{HSIC}}(K,L)}{\sqrt{\widehat{\mathrm{HSIC}}(K,K)\,\widehat{\mathrm{HSIC}}(L,L)}}"

PAIRED = (
    Measure(
        name="cka_naive",
        title="Linear CKA, naive",
        paired=True,
        farther=False,
        range="0 to 1; the value of no relation depends on n and d",
        equation=_CKA.replace(r"\widehat{\mathrm{HSIC}}", r"\mathrm{HSIC}_b"),
        source="kornblith2019",
        invariant=_ALL,
        sees="shared structure, and, with fewer images than dimensions, nothing but their number",
        blind="the difference between a relation and a small sample",
        prepare=partial(_cka, kernel=_linear, estimate=_biased_hsic),
    ),
    Measure(
        name="cka",
        title="Linear CKA, debiased",
        paired=True,
        farther=False,
        range="about 0 (no relation) to 1",
        equation=_CKA,
        source="song2012",
        invariant=_ALL,
        sees="linear relations, the directions of large variance above all",
        blind="relations within directions of small variance; non-linear ones",
        prepare=partial(_cka, kernel=_linear, estimate=hsic),
    ),
    Measure(
        name="cka_rbf",
        title="RBF CKA, debiased",
        paired=True,
        farther=False,
        range="about 0 (no relation) to 1",
        equation=_CKA + r",\; K_{ij}=e^{-\|x_i-x_j\|^2/m}",
        source="kornblith2019",
        invariant=_ALL,
        sees="neighbourhoods that both views share, linear or not",
        blind="relations at other scales than the bandwidth's",
        prepare=partial(_cka, kernel=_rbf, estimate=hsic),
    ),
    Measure(
        name="cka_minibatch",
        title="Linear CKA, minibatches",
        paired=True,
        farther=False,
        range="about 0 (no relation) to 1",
        equation=r"\text{as debiased CKA, each } \widehat{\mathrm{HSIC}} \text{ a mean over minibatches}",
        source="nguyen2021",
        invariant=_ALL,
        sees="as debiased CKA, in memory that does not grow with n",
        blind="as debiased CKA; noisier",
        prepare=_minibatch_cka,
    ),
    Measure(
        name="svcca",
        title=f"SVCCA, {COMPONENTS} components",
        paired=True,
        farther=False,
        range="0 to 1; the value of no relation depends on n",
        equation=r"\frac1k\sum_{i=1}^k\rho_i,\quad \rho_i \text{ canonical correlations of the leading components}",
        source="raghu2017",
        invariant=_ALL,
        sees="linear relations between leading components, whatever their variance",
        blind="further components; biased upwards, the more the fewer images",
        prepare=partial(_cca, weighted=False),
    ),
    Measure(
        name="pwcca",
        title=f"PWCCA, {COMPONENTS} components",
        paired=True,
        farther=False,
        range="0 to 1; the value of no relation depends on n",
        equation=r"\sum_i\alpha_i\rho_i,\quad \alpha_i\propto\sum_j|\langle h_i,x_j\rangle|",
        source="morcos2018",
        invariant=("scale", "shift"),
        symmetric=False,
        sees="as SVCCA, with weight on what accounts for the first view",
        blind="as SVCCA",
        prepare=partial(_cca, weighted=True),
    ),
    Measure(
        name="procrustes",
        title="Procrustes distance",
        paired=True,
        farther=True,
        range="0 (same up to rotation and scale) to 1; the value of no relation depends on n and d",
        equation=r"1-\frac{\|X^\top Y\|_*^2}{\|X\|_F^2\,\|Y\|_F^2}",
        source="ding2021",
        invariant=_ALL,
        sees="whether one view is a rotation of the other",
        blind="at small n it fits a rotation to noise",
        prepare=_procrustes,
    ),
    Measure(
        name="rsa",
        title="Representational similarity",
        paired=True,
        farther=False,
        range="-1 to 1, 0 without relation",
        equation=r"\text{Spearman correlation of } \|x_i-x_j\| \text{ and } \|y_i-y_j\| \text{ over pairs}",
        source="kriegeskorte2008",
        invariant=_ALL,
        sees="whether the same images are close to each other in both views",
        blind="the size of distances; pairs are not independent, so a plain p-value would be wrong",
        prepare=_rsa,
    ),
)
