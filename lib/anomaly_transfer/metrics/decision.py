"""From scores to decisions: error rates, what they cost, and where to put the threshold.

Explained in the chapter *Concrete cracks*. An image is flagged if its score is above the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_transfer.detectors.base import LEAST
from anomaly_transfer.errors import EvaluationError

#: Share of normal images that a threshold without labels is meant to flag.
FALSE_ALARM_RATE = 0.05

Rate = TypeVar("Rate", float, np.ndarray)


#: Of the bound on false alarms, and how many times the rate that is meant it may be before more images are asked for.
CONFIDENCE, TOLERANCE = 0.95, 2


def cost_weight(prevalence: float, ratio: float) -> float:
    """How much of the worst possible cost misses account for: the "probability cost" of Drummond and Holte (2006).

    Parameters
    ----------
    prevalence : float in 0..1
        Share of anomalous images where the detector will be used.
    ratio : float > 0
        What a miss costs, in false alarms.

    Returns
    -------
    float in 0..1
        ``w`` of :func:`expected_cost`: 0 if only false alarms matter, 1 if only misses do.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> round(cost_weight(0.01, 99), 3)
    0.5
    """
    if not 0 <= prevalence <= 1 or not ratio > 0:
        raise ValueError(f"A prevalence is in 0..1 and a cost ratio above 0, not {prevalence} and {ratio}.")
    return prevalence * ratio / (prevalence * ratio + 1 - prevalence)


def expected_cost(false_alarms: Rate, misses: Rate, weight: float) -> Rate:
    """Expected cost of an image in units of the worst case, where every decision is wrong (Drummond and Holte, 2006).

    Parameters
    ----------
    false_alarms, misses : float or float array, in 0..1
        Share of normal images that are flagged, and of anomalous ones that are not.
    weight : float in 0..1
        See :func:`cost_weight`.
    """
    return weight * misses + (1 - weight) * false_alarms


def blind_cost(weight: float) -> float:
    """The expected cost of the better of two decisions that look at no image: flag all, or flag none.

    Parameters
    ----------
    weight : float in 0..1
        See :func:`cost_weight`.

    Returns
    -------
    float in 0..0.5
    """
    return min(weight, 1 - weight)


def error_rates(scores: np.ndarray, positive: np.ndarray, threshold: float) -> tuple[float, float]:
    """False alarms and misses: the share of normal images that are flagged, and of anomalous ones that are not.

    Parameters
    ----------
    scores : float array, shape (n,)
        Higher is more anomalous.
    positive : bool array, shape (n,)
    threshold : float

    Raises
    ------
    EvaluationError
        As :func:`cheapest`.
    """
    scores, positive = _both(scores, positive)
    flagged = scores > threshold
    return float(flagged[~positive].mean()), float((~flagged[positive]).mean())


def quantile(scores: np.ndarray, positive: np.ndarray, weight: float) -> float:
    """A threshold without labelled anomalies, and without a look at costs: it flags 5 % of normal images.

    Parameters
    ----------
    scores : float array, shape (n_images,)
    positive : bool array, shape (n_images,)
        True for anomalous images; only the scores of the others are used.
    weight : float
        Of a miss; not used.

    Raises
    ------
    EvaluationError
        If a score is not finite, lengths differ, or there are no normal images.
    """
    scores, positive = _checked(scores, positive)
    if positive.all():
        raise EvaluationError("There are no normal images: a threshold without labelled anomalies is set on them.")
    return float(np.quantile(scores[~positive], 1 - FALSE_ALARM_RATE))


def cheapest(scores: np.ndarray, positive: np.ndarray, weight: float) -> float:
    """The threshold with the lowest expected cost on labelled images; of several, the one that flags fewest.

    Parameters
    ----------
    scores : float array, shape (n,)
    positive : bool array, shape (n,)
    weight : float in 0..1
        See :func:`cost_weight`.

    Returns
    -------
    float
        Half-way between two scores; ``inf`` if it is cheapest to flag none, ``-inf`` if all.

    Raises
    ------
    EvaluationError
        If a score is not finite, lengths differ, or there are no images of one kind.
    """
    scores, positive = _both(scores, positive)
    false_alarms, hits, found = roc_curve(positive, scores, drop_intermediate=False)
    best = int(np.argmin(expected_cost(false_alarms, 1 - hits, weight)))
    # roc_curve flags from its thresholds on; the first is infinite, the last the lowest score.
    if best == 0:
        return np.inf
    return -np.inf if best == len(found) - 1 else float((found[best] + found[best + 1]) / 2)


def calibrated(scores: np.ndarray, positive: np.ndarray, weight: float) -> float:
    """The threshold of a logistic curve through labelled images (Platt, 1999): smoother than :func:`cheapest`.

    Both kinds weigh the same, so that the curve estimates the ratio of likelihoods, and costs and prevalence come in
    with ``weight`` alone (Elkan, 2001). Where the curve falls with the score, the decision is the better blind one.
    Parameters, result and errors as :func:`cheapest`.
    """
    scores, positive = _both(scores, positive)
    scale, curve = StandardScaler(), LogisticRegression(class_weight="balanced")
    make_pipeline(scale, curve).fit(scores[:, None], positive)
    slope, intercept = curve.coef_[0, 0], curve.intercept_[0]
    if slope <= 0 or weight in (0.0, 1.0):
        return -np.inf if weight > 0.5 else np.inf
    at = (np.log((1 - weight) / weight) - intercept) / slope
    return float(at * scale.scale_[0] + scale.mean_[0])


#: Ways to put a threshold: functions of scores, labels and the weight of misses.
RULES: dict[str, Callable[[np.ndarray, np.ndarray, float], float]] = {
    "5 % of normal": quantile,
    "calibrated": calibrated,
    "cheapest": cheapest,
}


def _checked(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if len(scores) != len(positive):
        raise EvaluationError(f"There are {len(scores)} scores and {len(positive)} labels: lengths must agree.")
    if not np.isfinite(scores).all():
        raise EvaluationError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are not finite.")
    return scores, positive


def _both(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, positive = _checked(scores, positive)
    if positive.all() or not positive.any():
        raise EvaluationError(f"{int(positive.sum())} of {len(positive)} images are anomalous: both kinds are needed.")
    return scores, positive


def false_alarm_bound(n: int, false_alarm_rate: float) -> float:
    """The most that a threshold may flag of new normal images, by what ``n`` of them can tell (95 % confidence).

    The quantile lies at or above the k-th lowest score. Whatever the scores' distribution, the share of new images
    above that one follows a Beta(n - k + 1, k) distribution if they were taken as the others were (Wilks, 1941), and
    independently: pictures of places, parts or days that were not in training may well exceed the bound.

    Parameters
    ----------
    n : int
        Images whose scores the threshold is a quantile of.
    false_alarm_rate : float in 0..1
        One minus the level of the quantile, as ``numpy.quantile`` takes it.

    Returns
    -------
    float in 0..1

    Examples
    --------
    >>> [round(false_alarm_bound(n, 0.05), 2) for n in (10, 50, 1000)]
    [0.39, 0.15, 0.06]
    """
    k = int((n - 1) * (1 - false_alarm_rate)) + 1
    return float(beta.ppf(CONFIDENCE, n - k + 1, k))


@cache
def images_needed(false_alarm_rate: float) -> int:
    """The number of images from which on :func:`false_alarm_bound` is at most twice the rate that is meant.

    >>> images_needed(0.05)
    129
    """
    # Long before twenty images lie above the threshold it is.
    tried, most = range(LEAST, int(20 / false_alarm_rate)), TOLERANCE * false_alarm_rate
    return max(n for n in tried if false_alarm_bound(n, false_alarm_rate) > most) + 1
