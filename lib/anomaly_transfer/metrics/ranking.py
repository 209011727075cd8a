"""How well scores separate anomalous from normal images, with intervals.

Explained in the chapter *Frozen representations*. Point estimates equal scikit-learn's; the one formula here takes
weights, so that a thousand bootstrap resamples are one array operation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.errors import EvaluationError
from anomaly_transfer.metrics.bootstrap import Interval, _counts, _interval, _mean

METRICS = ("auroc", "average_precision", "fpr_at_95_tpr")


def evaluate(
    scores: np.ndarray,
    positive: np.ndarray,
    strata: np.ndarray | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    clusters: np.ndarray | None = None,
) -> dict[str, Interval]:
    """AUROC, average precision and FPR at 95 % TPR with stratified bootstrap intervals.

    All resamples of a perfect ranking are perfect: a bootstrap says nothing of it (Obuchowski and Lieber, 2002, name
    the problem). There, and where the ranking is upside down, the far end of the AUROC's interval is a simple
    conservative bound, not one of theirs: of ``k`` disjoint pairs of a normal and an anomalous image each is in order
    with the chance AUROC, all are with AUROC^k, and that is below 2.5 % if AUROC < 0.025^(1/k). Of the other two
    metrics the pairs say nothing as simple: they get the widest interval, 0 to 1.

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
    compared = _comparable(scores, positive, strata, clusters)
    samples = _bootstrap(*compared, n_bootstrap, seed)
    found = {name: _interval(samples[:, column]) for column, name in enumerate(METRICS)}
    auroc = found["auroc"].value
    # A single pair out of order costs more, unless there are millions of images.
    if min(auroc, 1 - auroc) > 1e-12:
        return found
    pairs = _disjoint_pairs(*compared[1:])
    bound = 0.025 ** (1 / pairs) if pairs else 0.0
    low, high = (bound, 1.0) if auroc > 0.5 else (0.0, 1 - bound)
    found = {name: Interval(value=interval.value, low=0.0, high=1.0) for name, interval in found.items()}
    return found | {"auroc": Interval(value=auroc, low=low, high=high)}


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

    Both detectors are resampled together, so that images hard for both do not widen the interval. Of two perfect
    rankings it is 0 to 0, which says that they agree on these images and nothing of others.

    Parameters
    ----------
    first, second : float array, shape (n_images,)
        Scores of two detectors; higher is more anomalous.
    positive, strata, n_bootstrap, seed, clusters
        See :func:`evaluate`, whose errors are raised.
    """
    samples = [
        _bootstrap(*_comparable(scores, positive, strata, clusters), n_bootstrap, seed) for scores in (first, second)
    ]
    samples = samples[0] - samples[1]
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


def _comparable(
    scores: np.ndarray, positive: np.ndarray, strata: np.ndarray | None, clusters: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Scores, labels, strata and clusters of the images in strata that have both labels."""
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
    clusters = None if clusters is None else np.asarray(clusters)[useful]
    return scores[useful], positive[useful], strata[useful], clusters


def _disjoint_pairs(positive: np.ndarray, strata: np.ndarray, clusters: np.ndarray | None) -> float:
    """How many pairs of a normal and an anomalous image of one stratum there are at least, none sharing a cluster.

    A cluster serves in one stratum alone, that of an image drawn at random, where a matching might find more pairs. An
    image of it stands for it, so that the bound is of an AUROC in which clusters of whatever size count alike. The
    AUROC weighs strata by their anomalous images. The bound holds for it if each stratum has its share of the pairs (by
    Jensen's inequality, AUROC^k is then at least the product of the strata's), so the number is of the stratum with
    the fewest for its share: the sum over strata, if none falls short.
    """
    of = np.arange(len(positive)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    shuffled = np.random.default_rng(0).permutation(len(of))
    home = strata[shuffled[np.unique(of[shuffled], return_index=True)[1]]]
    found = []
    for stratum in np.unique(strata):
        inside = strata == stratum
        there = inside & (home[of] == stratum)
        normal, anomalous = (np.unique(of[there & (positive == label)]) for label in (False, True))
        # A cluster with both labels can give either, but not both.
        pairs = min(len(normal), len(anomalous), len(np.union1d(normal, anomalous)) // 2)
        found.append(pairs * positive.sum() / positive[inside].sum())
    return min(found)


def _bootstrap(
    scores: np.ndarray,
    positive: np.ndarray,
    strata: np.ndarray,
    clusters: np.ndarray | None,
    n_bootstrap: int,
    seed: int,
) -> np.ndarray:
    """Metrics of the data (row 0) and of each resample, shape (1 + n_bootstrap, n_metrics); see :func:`_comparable`."""
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
