"""How well heat maps meet the masks of defects, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from anomaly_transfer.errors import EvaluationError
from anomaly_transfer.metrics.bootstrap import Interval, _counts, _interval, _mean

PIXEL_METRICS = ("pixel_auroc", "pro")


def localisation(
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    n_bootstrap: int = 1000,
    seed: int = 0,
    strata: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Pixel AUROC and PRO with intervals over images.

    PRO (Bergmann et al., 2020): the share of each connected defect region that is found, averaged over regions,
    as a function of the share of normal pixels flagged; the area under it up to 0.3, divided by 0.3. Thresholds
    are 1000 quantiles of all normal pixels' scores, so both numbers are exact to about 0.001.

    Parameters
    ----------
    maps : sequence of float arrays, shape (height, width)
        Anomaly score of each pixel; higher is more anomalous.
    masks : sequence of bool arrays of the same shapes
        True on the defect; all False for a normal image.
    n_bootstrap, seed, strata, clusters
        As in :func:`evaluate`; strata are averaged, each defective image counting once.

    Returns
    -------
    dict with ``pixel_auroc`` and ``pro``, Intervals in 0..1

    Raises
    ------
    EvaluationError
        If shapes differ, a score is not finite, or no mask has both a defect and a normal pixel.
    """
    samples = _localisation(maps, masks, n_bootstrap, seed, strata, clusters)
    return {name: _interval(samples[:, column]) for column, name in enumerate(PIXEL_METRICS)}


def paired_localisation(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    n_bootstrap: int = 1000,
    seed: int = 0,
    strata: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Pixel metrics of ``first`` minus those of ``second`` on the *same* images, with paired bootstrap intervals.

    Parameters
    ----------
    first, second : sequence of float array, shape (height, width)
        Heat maps of two detectors, one an image.
    masks, n_bootstrap, seed, strata, clusters
        See :func:`localisation`, whose errors are raised.
    """
    samples = _localisation(first, masks, n_bootstrap, seed, strata, clusters)
    samples = samples - _localisation(second, masks, n_bootstrap, seed, strata, clusters)
    return {name: _interval(samples[:, column]) for column, name in enumerate(PIXEL_METRICS)}


def _localisation(
    maps: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    n_bootstrap: int,
    seed: int,
    strata: np.ndarray | None,
    clusters: np.ndarray | None,
) -> np.ndarray:
    """Pixel metrics of the data (row 0) and of each resample, shape (1 + n_bootstrap, 2)."""
    for number, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        if scores.shape != mask.shape:
            raise EvaluationError(f"Map {number} has shape {scores.shape}, but its mask has {mask.shape}.")
        if not np.isfinite(scores).all():
            raise EvaluationError(f"Map {number} has scores that are not finite.")
    strata = np.zeros(len(maps), dtype=int) if strata is None else np.asarray(strata)
    defective = np.array([mask.any() for mask in masks])
    rng = np.random.default_rng(seed)
    counts = _counts(rng, defective, strata, clusters, n_bootstrap)
    total, weight = np.zeros((n_bootstrap + 1, 2)), np.zeros((n_bootstrap + 1, 1))
    for stratum in np.unique(strata):
        inside = [int(row) for row in np.flatnonzero(strata == stratum)]
        if not defective[inside].any() or all(masks[row].all() for row in inside):
            continue
        n_defective = counts[:, inside][:, defective[inside]].sum(axis=1, keepdims=True)
        total += n_defective * _pixel_metrics(
            [maps[row] for row in inside], [masks[row] for row in inside], counts[:, inside]
        )
        weight += n_defective
    if not weight[0]:
        raise EvaluationError("Pixel metrics need at least one defect pixel and one normal pixel.")
    return _mean(total, weight)


def _pixel_metrics(maps: list[np.ndarray], masks: list[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Pixel AUROC and PRO for each row of image weights, shape (rows, 2); 0 where a row has no defect."""
    normal = np.concatenate([scores[~mask] for scores, mask in zip(maps, masks, strict=True)])
    # Descending, so that both rates rise along the axis; dense where PRO looks (up to 0.3).
    quantiles = np.concatenate([np.linspace(0, 0.3, 700), np.linspace(0.3, 1, 301)[1:]])
    above_all = np.nextafter(normal.max(), np.inf)
    thresholds = np.concatenate([[above_all], np.quantile(normal, 1 - quantiles)])

    def share_above(values: np.ndarray) -> np.ndarray:
        return 1 - np.searchsorted(np.sort(values), thresholds, side="left") / max(len(values), 1)

    n_images = len(maps)
    false_rate, sizes = np.zeros((n_images, len(thresholds))), np.zeros((n_images, 2))
    true_rate, overlap, regions = (np.zeros((n_images, len(thresholds))) for _ in range(3))
    for number, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        sizes[number] = (~mask).sum(), mask.sum()
        false_rate[number], true_rate[number] = share_above(scores[~mask]), share_above(scores[mask])
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        for region in range(1, count + 1):
            overlap[number] += share_above(scores[labels == region])
        regions[number] = count
    fpr = (counts @ (false_rate * sizes[:, :1])) / np.maximum(counts @ sizes[:, :1], 1)
    tpr = (counts @ (true_rate * sizes[:, 1:])) / np.maximum(counts @ sizes[:, 1:], 1)
    pro = (counts @ overlap) / np.maximum(counts @ regions, 1)
    pixel_auroc = [_area(f, t) for f, t in zip(fpr, tpr, strict=True)]
    pro_area = [_area(f, p, upto=0.3) / 0.3 for f, p in zip(fpr, pro, strict=True)]
    return np.column_stack([pixel_auroc, pro_area])


def _area(x: np.ndarray, y: np.ndarray, upto: float = 1.0) -> float:
    """Area under the points (x, y), from (0, 0), by trapezoids, up to ``x = upto``."""
    x, y = np.concatenate([[0.0], x]), np.concatenate([[0.0], y])
    if x[-1] < upto:
        x, y = np.append(x, upto), np.append(y, y[-1] if upto < 1 else 1.0)
    inside = x <= upto
    x, y = np.append(x[inside], upto), np.append(y[inside], np.interp(upto, x, y))
    return float(np.trapezoid(y, x))
