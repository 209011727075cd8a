"""Samples whose relation is known, to see what a measure finds, how many images it needs, and what it costs.

Explained in the chapter *How to measure a relationship*.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_transfer.metrics.bootstrap import Interval
from anomaly_transfer.similarity.base import Measure
from anomaly_transfer.similarity.resampling import relate

#: Ways in which the second sample differs from the first.
CHANGES = ("nothing", "shift", "spread", "directions", "mixture")
#: Spread of the first sample along its axes falls from 1 to this.
SMALLEST = 0.1


def two_samples(change: str, n: int, d: int, effect: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two independent Gaussian samples whose difference is known.

    Parameters
    ----------
    change : str
        ``nothing``: same distribution. ``shift``: means lie ``effect`` apart, along all axes alike. ``spread``: the
        second is ``1 + effect / 4`` times as wide. ``directions``: as wide, but the axes of the first fifth change
        places with the last. ``mixture``: a quarter of the second is shifted by ``4 effect``, as when only some images
        are anomalous.
    n, d : int
    effect : float
    rng : numpy Generator

    Returns
    -------
    float arrays, shape (n, d)

    Raises
    ------
    ValueError
        If there is no such change.
    """
    if change not in CHANGES:
        raise ValueError(f"There is no change {change!r}; choose from {', '.join(CHANGES)}.")
    widths = np.geomspace(1.0, SMALLEST, d)
    first, second = rng.normal(size=(2, n, d))
    towards = np.full(d, 1 / np.sqrt(d))
    if change == "spread":
        widths_second = widths * (1 + effect / 4)
    elif change == "directions":
        fifth = d // 5
        widths_second = np.concatenate([widths[-fifth:], widths[fifth:-fifth], widths[:fifth]])
    else:
        widths_second = widths
    second = second * widths_second
    if change == "shift":
        second = second + effect * towards
    if change == "mixture":
        second = second + 4 * effect * towards * (rng.random((n, 1)) < 0.25)
    return first * widths, second


def power(
    measures: Sequence[Measure],
    changes: Sequence[str],
    sizes: Sequence[int],
    d: int,
    effect: float,
    repeats: int,
    seed: int = 0,
) -> pd.DataFrame:
    """How often each measure tells two different samples from two equal ones, by sample size.

    The threshold is the 95 % point of the measure over five times ``repeats`` pairs of equal samples: it can be known
    here since both distributions are. With one data set it has to come from permutations.

    Parameters
    ----------
    measures : sequence of unpaired Measure
    changes, d, effect
        See :func:`two_samples`.
    sizes : sequence of int
        Images in either sample.
    repeats, seed : int

    Returns
    -------
    DataFrame
        One row a (measure, change, n): ``value`` in 0..1.
    """
    rows = []
    for n in tqdm(sizes, desc="simulated sizes", leave=False):
        rng = np.random.default_rng([seed, n])
        counts = {"nothing": 5 * repeats, **dict.fromkeys(changes, repeats)}
        pairs = {what: [two_samples(what, n, d, effect, rng) for _ in range(k)] for what, k in counts.items()}
        for measure in measures:
            sign = 1.0 if measure.farther else -1.0
            found = {what: np.array([sign * measure(*pair) for pair in part]) for what, part in pairs.items()}
            threshold = np.quantile(found["nothing"], 0.95)
            rows += [
                {"measure": measure.title, "change": what, "n": n, "value": float(np.mean(found[what] > threshold))}
                for what in changes
            ]
    return pd.DataFrame(rows)


def coverage(measure: Measure, change: str, n: int, d: int, effect: float, repeats: int, seed: int = 0) -> pd.Series:
    """How often 95 % intervals hold the true value: by half-sampling, and by a plain bootstrap.

    The true value is the mean over many more pairs of samples of the same size: the intervals are asked for what other
    samples of that size would give.

    Returns
    -------
    Series with the entries ``halves`` and ``bootstrap``, in 0..1
    """
    rng = np.random.default_rng(seed)
    truth = np.mean([measure(*two_samples(change, n, d, effect, rng)) for _ in range(10 * repeats)])
    first, second = np.arange(n), np.arange(n, 2 * n)
    hits = {"halves": 0.0, "bootstrap": 0.0}
    for _ in range(repeats):
        statistic = measure.on(np.concatenate(two_samples(change, n, d, effect, rng)))
        halves = relate(measure, statistic, first, second, None, 0, 40, int(rng.integers(2**31)))
        drawn = [statistic(rng.choice(first, n), rng.choice(second, n)) for _ in range(40)]
        low, high = np.percentile(drawn, [2.5, 97.5])
        hits["halves"] += halves.low <= truth <= halves.high
        hits["bootstrap"] += low <= truth <= high
    return pd.Series(hits) / repeats


def two_views(n: int, d: int, shared: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two views of the same ``n`` images, of which a share of the variance is common to both.

    Parameters
    ----------
    n, d : int
    shared : float in 0..1
    rng : numpy Generator

    Returns
    -------
    float arrays, shape (n, d)
    """
    common, one, two = rng.normal(size=(3, n, d))
    return tuple(np.sqrt(shared) * common + np.sqrt(1 - shared) * own for own in (one, two))  # type: ignore[return-value]


def noise_floor(measures: Sequence[Measure], sizes: Sequence[int], d: int, repeats: int, seed: int = 0) -> pd.DataFrame:
    """What paired measures say of views that have nothing in common: mean and 95 % range, by number of images.

    Returns
    -------
    DataFrame
        One row a (measure, n), with ``value``, ``low`` and ``high``.
    """
    rows = []
    for n in sizes:
        rng = np.random.default_rng([seed, n])
        pairs = [two_views(n, d, 0.0, rng) for _ in range(repeats)]
        for measure in measures:
            found = [measure(*pair) for pair in pairs]
            low, high = np.percentile(found, [2.5, 97.5])
            interval = Interval(value=float(np.mean(found)), low=float(low), high=float(high))
            rows.append({"measure": measure.title, "n": n, **interval.model_dump()})
    return pd.DataFrame(rows)


def costs(measures: Sequence[Measure], shapes: Sequence[tuple[int, int]], repeats: int = 3) -> pd.DataFrame:
    """Milliseconds for one value, median of ``repeats``; the shared preparation is done once and not counted.

    Parameters
    ----------
    measures : sequence of Measure
    shapes : sequence of (n, d)
        Rows on either side, and columns.
    repeats : int

    Returns
    -------
    DataFrame indexed by measure, one column a shape
    """
    table = pd.DataFrame(index=[measure.title for measure in measures])
    rng = np.random.default_rng(0)
    for n, d in shapes:
        x, y = rng.normal(size=(2, n, d))
        column = []
        for measure in measures:
            statistic = measure.on(x, y) if measure.paired else measure.on(np.concatenate([x, y]))
            second = np.arange(n) if measure.paired else np.arange(n, 2 * n)
            seconds = []
            for _ in range(repeats):
                start = time.perf_counter()
                statistic(np.arange(n), second)
                seconds.append(time.perf_counter() - start)
            column.append(1000 * float(np.median(seconds)))
        table[f"n = {n}, d = {d}"] = column
    return table
