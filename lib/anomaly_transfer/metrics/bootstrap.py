"""The stratified, clustered, paired bootstrap behind every interval."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict


class Interval(BaseModel):
    """An estimate with its interval (95 %): by percentile bootstrap, if not said otherwise."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def _interval(samples: np.ndarray) -> Interval:
    """The estimate is the first sample, its bootstrap copies are the rest."""
    low, high = np.percentile(samples[1:], [2.5, 97.5])
    return Interval(value=float(samples[0]), low=float(low), high=float(high))


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
