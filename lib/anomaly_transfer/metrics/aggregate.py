"""One number of several: over seeds, and over draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student


def mean_over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean of ``value``, ``low`` and ``high`` over seeds, one row a (method, benchmark, category, split)."""
    axes = ["method", "benchmark", "category", "split"]
    return frame.groupby(axes, sort=False)[["value", "low", "high"]].agg(np.mean).reset_index()


def mean_over_draws(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean over draws, with a 95 % interval of that mean (Student's t): it covers the luck of the draw, nothing else.

    Parameters
    ----------
    frame : DataFrame
        With ``draw`` and ``value``; rows of one draw, e.g. its classes, are averaged first.
    by : sequence of str
        What is told apart.

    Returns
    -------
    DataFrame
        ``by``, ``value``, ``low`` and ``high``.
    """
    each = frame.groupby([*by, "draw"], sort=False)["value"].mean().groupby(list(by), sort=False)
    found = each.agg(value="mean", error="sem", n="size").reset_index()
    reach = found.pop("error") * student.ppf(0.975, found.pop("n") - 1)
    return found.assign(low=found["value"] - reach, high=found["value"] + reach)


def range_over_draws(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean over draws and the range in which 95 % of them lie.

    A draw has its own resample of test images and, unless all are used, its own labelled images: the range says what
    others would have given, with the same normal images and the same division. Classes of one draw are averaged first.

    Parameters
    ----------
    frame : DataFrame
        With ``draw`` and ``value``.
    by : sequence of str

    Returns
    -------
    DataFrame
        ``by``, ``value``, ``low`` and ``high``.
    """
    each = frame.groupby([*by, "draw"], sort=False)["value"].mean().groupby(list(by), sort=False)
    low, high = (each.quantile(share).to_numpy() for share in (0.025, 0.975))
    return each.mean().reset_index().assign(low=low, high=high)


def over_seeds(frame: pd.DataFrame, by: Sequence[str], overlap: float = 0.0) -> pd.DataFrame:
    """Mean over seeds with Student's 95 % interval.

    Parameters
    ----------
    frame : DataFrame
        With ``value``, ``seed`` and the columns named by ``by``; one row a seed.
    by : sequence of str
    overlap : float
        Where each seed divides the same images anew, so that seeds are not independent: the number of tested images
        divided by that of the others. The interval is widened as Nadeau and Bengio (2003) propose.

    Returns
    -------
    DataFrame
        ``by``, ``value``, ``low``, ``high`` (NaN with one seed) and ``seeds``, in order of appearance.
    """
    groups = frame.groupby(list(by), sort=False)["value"]
    found = groups.agg(value="mean", spread="sem", seeds="count")
    reach = found.pop("spread") * student.ppf(0.975, (found["seeds"] - 1).where(found["seeds"] > 1))
    reach *= np.sqrt(1 + overlap * found["seeds"])
    found.insert(1, "low", found["value"] - reach)
    found.insert(2, "high", found["value"] + reach)
    return found.reset_index()
