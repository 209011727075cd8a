"""How well scores separate anomalous from normal images, with intervals.

Explained in the chapter *Frozen representations*. Point estimates equal scikit-learn's; the one formula here takes
weights, so that a thousand bootstrap resamples are one array operation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy import ndimage
from scipy.stats import rankdata

from anomaly_transfer.errors import EvaluationError
from anomaly_transfer.labels import NORMAL

METRICS = ("auroc", "average_precision", "fpr_at_95_tpr")
PIXEL_METRICS = ("pixel_auroc", "pro")


class Interval(BaseModel):
    """An estimate with its percentile-bootstrap interval (95 %)."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def evaluate(
    scores: np.ndarray,
    positive: np.ndarray,
    strata: np.ndarray | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    clusters: np.ndarray | None = None,
) -> dict[str, Interval]:
    """AUROC, average precision and FPR at 95 % TPR with stratified bootstrap intervals.

    Scores of different models (folds) cannot be compared, so each metric is computed within each stratum and
    averaged, each anomalous image counting once. The AUROC is thus the chance that an anomalous image drawn at random
    scores higher than a normal one drawn from the same stratum.

    Parameters
    ----------
    scores : float array, shape (n,)
        Higher is more anomalous.
    positive : bool array, shape (n,)
        True for anomalous.
    strata : array, shape (n,), optional
        Which images may be compared, e.g. the fold; strata with one label only do not count.
    n_bootstrap : int
        Resamples; images are drawn with replacement within each stratum and label. The models stay as they are.
    seed : int
    clusters : array, shape (n,), optional
        Which images resemble each other, e.g. exposures of one object: whole clusters are drawn, across strata, those
        with an anomalous image apart from those without. Without it images count as independent, and where they
        are not, intervals are too narrow.

    Returns
    -------
    dict of metric name to Interval, all in 0..1

    Raises
    ------
    EvaluationError
        If a score is not finite, lengths differ, or no stratum has both labels.
    """
    samples = _bootstrap(scores, positive, strata, n_bootstrap, seed, clusters)
    return {name: _interval(samples[:, column]) for column, name in enumerate(METRICS)}


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    positive: np.ndarray,
    strata: np.ndarray | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    clusters: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Metric of ``first`` minus metric of ``second`` on the *same* images, with paired bootstrap intervals.

    Both detectors are resampled together, so that images hard for both do not widen the interval. Parameters and
    errors as in :func:`evaluate`.
    """
    samples = _bootstrap(first, positive, strata, n_bootstrap, seed, clusters)
    samples = samples - _bootstrap(second, positive, strata, n_bootstrap, seed, clusters)
    return {name: _interval(samples[:, column]) for column, name in enumerate(METRICS)}


def rank_correlation(
    scores: np.ndarray,
    grades: np.ndarray,
    strata: np.ndarray | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    clusters: np.ndarray | None = None,
) -> Interval:
    """Spearman correlation of score and grade within strata, averaged with weights (stratum size).

    Parameters
    ----------
    scores, grades : float array, shape (n,)
    strata, clusters : array, shape (n,), optional
        As in :func:`evaluate`.

    Returns
    -------
    Interval in -1..1

    Raises
    ------
    EvaluationError
        If no stratum has two different grades and two different scores.
    """
    scores, grades, strata = _checked(scores, grades, strata)
    rng = np.random.default_rng(seed)
    counts = _counts(rng, np.zeros(len(scores), dtype=bool), strata, clusters, n_bootstrap)
    total, weight = np.zeros(n_bootstrap + 1), np.zeros(n_bootstrap + 1)
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        if len(np.unique(grades[inside])) < 2 or len(np.unique(scores[inside])) < 2:
            continue
        rows = [np.repeat(inside, count) for count in counts[:, inside]]
        total += [len(chosen) * _spearman(scores[chosen], grades[chosen]) for chosen in rows]
        weight += [len(chosen) for chosen in rows]
    if not weight[0]:
        raise EvaluationError("A rank correlation needs images of at least two grades with different scores.")
    return _interval(_mean(total, weight))


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

    Parameters and errors as in :func:`localisation`.
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


def _interval(samples: np.ndarray) -> Interval:
    """The estimate is the first sample, its bootstrap copies are the rest."""
    low, high = np.percentile(samples[1:], [2.5, 97.5])
    return Interval(value=float(samples[0]), low=float(low), high=float(high))


def _checked(
    scores: np.ndarray, target: np.ndarray, strata: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, target = np.asarray(scores, dtype=np.float64), np.asarray(target)
    strata = np.zeros(len(scores), dtype=int) if strata is None else np.asarray(strata)
    if not len(scores) == len(target) == len(strata):
        raise EvaluationError(
            f"There are {len(scores)} scores, {len(target)} labels and {len(strata)} strata: lengths must agree."
        )
    if not np.isfinite(scores).all():
        raise EvaluationError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are not finite.")
    return scores, target, strata


def _counts(
    rng: np.random.Generator, positive: np.ndarray, strata: np.ndarray, clusters: np.ndarray | None, number: int
) -> np.ndarray:
    """How often each image occurs in the data (row 0: once) and in each resample, shape (1 + number, n_images).

    See :func:`evaluate` for what is drawn.
    """
    # As small as an integer can be that counts all images: there may be 40,000 of them, and 2,000 resamples.
    counts = np.ones((number + 1, len(positive)), dtype=np.min_scalar_type(len(positive)))
    if clusters is None:
        parts = [(strata == stratum) & (positive == label) for stratum in np.unique(strata) for label in (True, False)]
        of = np.arange(len(positive))
    else:
        of = np.unique(clusters, return_inverse=True)[1]
        mixed = np.isin(of, of[positive])
        parts = [mixed, ~mixed]
    for part in parts:
        if part.any():
            _, numbers = np.unique(of[part], return_inverse=True)
            n_drawn = int(numbers.max()) + 1
            # Several times faster than numpy's multinomial, which draws one binomial after the other.
            drawn = (rng.integers(n_drawn, size=n_drawn) for _ in range(number))
            counts[1:, part] = [np.bincount(chosen, minlength=n_drawn)[numbers] for chosen in drawn]
    return counts


def _mean(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted means of the data (row 0) and of the resamples; one that misses a label everywhere is left out."""
    kept = weight.reshape(len(weight)) > 0
    return total[kept] / weight[kept]


def _bootstrap(
    scores: np.ndarray,
    positive: np.ndarray,
    strata: np.ndarray | None,
    n_bootstrap: int,
    seed: int,
    clusters: np.ndarray | None,
) -> np.ndarray:
    """Metrics of the data (row 0) and of each resample, shape (1 + n_bootstrap, n_metrics)."""
    scores, positive, strata = _checked(scores, positive, strata)
    positive = positive.astype(bool)
    _, of, size = np.unique(strata, return_inverse=True, return_counts=True)
    n_anomalous = np.bincount(of, weights=positive, minlength=len(size))
    # A stratum with one label compares nothing; there may be thousands of them.
    useful = ((n_anomalous > 0) & (n_anomalous < size))[of]
    if not useful.any():
        raise EvaluationError(
            f"{int(positive.sum())} anomalous and {int((~positive).sum())} normal images: "
            "a metric needs both kinds within one stratum."
        )
    scores, positive, strata = scores[useful], positive[useful], strata[useful]
    clusters = None if clusters is None else np.asarray(clusters)[useful]
    rng = np.random.default_rng(seed)
    counts = _counts(rng, positive, strata, clusters, n_bootstrap)
    total, weight = np.zeros((n_bootstrap + 1, len(METRICS))), np.zeros((n_bootstrap + 1, 1))
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        labels = positive[inside]
        # In blocks of resamples that fit into the processor's cache.
        drawn = counts[:, inside]
        blocks = np.array_split(drawn, min(len(drawn), -(-drawn.size // 250_000)))
        found = np.concatenate([_weighted_metrics(scores[inside], labels, block) for block in blocks])
        # A resample without both labels says nothing of this stratum.
        n_positive = drawn[:, labels].sum(axis=1, keepdims=True) * drawn[:, ~labels].any(axis=1, keepdims=True)
        total += n_positive * found
        weight += n_positive
    return _mean(total, weight)


def _weighted_metrics(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC, average precision and FPR at 95 % TPR for each row of weights, shape (rows, 3); 0 without both labels."""
    order = np.argsort(-scores, kind="stable")
    scores, positive, weights = scores[order], positive[order], weights[:, order]
    # One point of the curve after each group of tied scores.
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    tp = np.cumsum(weights * positive, axis=1)[:, ends]
    fp = np.cumsum(weights * ~positive, axis=1)[:, ends]
    tpr, fpr = tp / np.maximum(tp[:, -1:], 1), fp / np.maximum(fp[:, -1:], 1)
    zero = np.zeros((len(weights), 1))
    tpr0, fpr0 = np.hstack([zero, tpr]), np.hstack([zero, fpr])
    auroc = np.trapezoid(tpr0, fpr0, axis=1)
    precision = tp / np.maximum(tp + fp, 1e-300)
    average_precision = (np.diff(tpr0, axis=1) * precision).sum(axis=1)
    first = (tpr >= 0.95 - 1e-12).argmax(axis=1)
    return np.column_stack([auroc, average_precision, fpr[np.arange(len(fpr)), first]])


def _spearman(scores: np.ndarray, grades: np.ndarray) -> float:
    """Spearman correlation; a resample that is empty, or in which one side is constant, counts as 0."""
    if not len(scores):
        return 0.0
    a, b = rankdata(scores), rankdata(grades)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def evaluate_table(
    table: pd.DataFrame,
    target_classes: Sequence[str],
    stratum: str,
    n_bootstrap: int,
    seed: int = 0,
    cluster: str | None = None,
) -> dict[str, dict[str, Interval]]:
    """All metrics of a table of scores: of the target classes together, of all anomalies, of each class.

    Parameters
    ----------
    table : DataFrame
        Columns ``score``, ``anomaly_class``, ``grade`` and the one named by ``stratum``.
    target_classes : sequence of str
        Classes of the headline number ``target``; empty means all.
    stratum : str
        Column within whose values images are compared.
    cluster : str, optional
        Column of images that resemble each other, see :func:`evaluate`.

    Returns
    -------
    dict: ``target``, ``all`` and each anomaly class to metrics; ``grade`` to ``spearman`` where there are grades. A
    class of one of these names has the row ``NAME (class)``
    """
    classes = sorted(set(table["anomaly_class"]) - {NORMAL})
    wanted = {"target": list(target_classes) or classes, "all": classes}
    summaries = (*wanted, "grade")
    wanted |= {f"{name} (class)" if name in summaries else name: [name] for name in classes}
    result: dict[str, dict[str, Interval]] = {}
    for name, members in wanted.items():
        if name == "all" and members == wanted["target"]:
            result["all"] = result["target"]
            continue
        part = table[table["anomaly_class"].isin([NORMAL, *members])]
        positive = (part["anomaly_class"] != NORMAL).to_numpy()
        try:
            clusters = part[cluster].to_numpy() if cluster else None
            result[name] = evaluate(
                part["score"].to_numpy(), positive, part[stratum].to_numpy(), n_bootstrap, seed, clusters
            )
        except EvaluationError:
            if name in ("target", "all"):
                raise
    graded = table.dropna(subset="grade")
    if graded["grade"].nunique() > 2:
        score, grade, within = (graded[name].to_numpy() for name in ("score", "grade", stratum))
        clusters = graded[cluster].to_numpy() if cluster else None
        result["grade"] = {"spearman": rank_correlation(score, grade, within, n_bootstrap, seed, clusters)}
    return result
