"""Is a relation more than chance, and how exactly is it known? Permutation tests and intervals for every measure."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from anomaly_transfer.data.splits import are_few
from anomaly_transfer.errors import DataError
from anomaly_transfer.similarity.base import MINIMUM, Measure, Statistic

#: Permutations that leave too few rows on a side are drawn again, at most so often.
TRIES = 100


class Relation(BaseModel):
    """A measured relation.

    Attributes
    ----------
    value, low, high : float
        The value, and its 95 % interval.
    null_low, null_high : float
        Where 95 % of values lie under the null: no difference (unpaired), no relation (paired).
    p_value : float
        Share of permutations that are at least as far from the null as the data: unpaired, at least as different;
        paired, at least as related.
    n_first, n_second : int
        Rows of either sample.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    null_low: float
    null_high: float
    p_value: float
    n_first: int
    n_second: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], p = {self.p_value:.3f}"


def relate(
    measure: Measure,
    statistic: Statistic,
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray | None = None,
    n_permutations: int = 199,
    n_halves: int = 50,
    seed: int = 0,
) -> Relation:
    """Value, interval and permutation test of one relation.

    The interval is the value plus and minus 1.96 standard errors by half-sampling: the spread of the statistic over
    random halves of both samples (Shao and Wu, 1989). A bootstrap would draw images several times, and a copy looks
    like a perfect match; so its values are not those of new samples (chapter *How to measure a relationship*).

    Parameters
    ----------
    measure : Measure
    statistic : Statistic
        ``measure.on(...)``.
    first, second : int arrays
        Rows of the two samples; paired, rows of the same images in both views, in the same order.
    groups : array, optional
        One entry for each row that the statistic knows. Rows of one group show the same object: they are drawn, and
        change sides, together; except that in a group which has rows in both samples, rows change sides within it.
        Paired rows are shuffled within their group, so that a relation of objects alone does not count as one.
    n_permutations, n_halves : int
        Without permutations, null and p-value are NaN.
    seed : int

    Returns
    -------
    Relation
    """
    rng = np.random.default_rng(seed)
    value = statistic(first, second)
    units = None if groups is None else np.asarray(groups)
    if measure.paired:
        blocks = None if units is None else units[first]
        null = [statistic(first, second[shuffled(len(first), blocks, rng)]) for _ in range(n_permutations)]
        pairs = (half(np.arange(len(first)), None if units is None else units[first], rng) for _ in range(n_halves))
        halves = [statistic(first[chosen], second[chosen]) for chosen in pairs]
    else:
        null = [statistic(*swapped(first, second, units, rng)) for _ in range(n_permutations)]
        halves = [statistic(*(half(rows, units, rng) for rows in (first, second))) for _ in range(n_halves)]
    error = float(np.std(halves, ddof=1)) if n_halves > 1 else np.nan
    # Distances: large is different. Similarities: small is different. Related is the opposite.
    large_counts = measure.farther != measure.paired
    beyond = np.sum(np.asarray(null) >= value) if large_counts else np.sum(np.asarray(null) <= value)
    low, high = np.percentile(null, [2.5, 97.5]) if n_permutations else (np.nan, np.nan)
    return Relation(
        value=value,
        low=value - 1.96 * error,
        high=value + 1.96 * error,
        null_low=float(low),
        null_high=float(high),
        p_value=float((1 + beyond) / (1 + n_permutations)) if n_permutations else np.nan,
        n_first=len(first),
        n_second=len(second),
    )


def half(rows: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """A random half of some rows: of whole groups where there are more than a handful, else of single rows."""
    if groups is not None:
        names = np.unique(groups[rows])
        chosen = rows[np.isin(groups[rows], rng.permutation(names)[: len(names) // 2])]
        if not are_few(names) and len(chosen) >= MINIMUM:
            return chosen
    return rng.permutation(rows)[: len(rows) // 2]


def swapped(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Both samples with sides exchanged at random, as :func:`relate` says."""
    rows = np.concatenate([first, second])
    side = np.arange(len(rows)) < len(first)
    if groups is None:
        side = rng.permutation(side)
        return rows[side], rows[~side]
    _, of = np.unique(groups[rows], return_inverse=True)
    share = np.bincount(of, weights=side) / np.bincount(of)
    pure = np.isin(share, (0.0, 1.0))
    # Groups on one side only change sides as a whole; inside the others, single rows do.
    for _ in range(TRIES):
        share[pure] = rng.permutation(share[pure])
        exchanged = share[of] == 1.0
        for group in np.flatnonzero(~pure):
            inside = np.flatnonzero(of == group)
            exchanged[inside] = rng.permutation(side[inside])
        if MINIMUM <= exchanged.sum() <= len(rows) - MINIMUM:
            return rows[exchanged], rows[~exchanged]
    raise DataError("The groups are too unequal to change sides: a permutation test needs more groups in each sample.")


def shuffled(n: int, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """A random order of ``n`` rows: within their groups, unless each row is a group of its own."""
    order = rng.permutation(n)
    if groups is None or len(np.unique(groups)) == n:
        return order
    _, of = np.unique(groups, return_inverse=True)
    found = np.empty(n, dtype=int)
    found[np.argsort(of, kind="stable")] = order[np.argsort(of[order], kind="stable")]
    return found
