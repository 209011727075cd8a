"""What Part I found, claim by claim: effects with intervals over anomaly classes and data sets.

Explained in the chapter *Does similarity predict transfer?*. Thresholds are those that the chapters said beforehand.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest, bootstrap
from scipy.stats import t as student

from anomaly_transfer import benchmarks
from anomaly_transfer.benchmarks.surfaces import CONTROL
from anomaly_transfer.studies import few_shot, normal_similarity
from anomaly_transfer.training.starts import STARTS

#: Labelled images a class at which the gain of P1.c is told.
SHOTS = 5
#: A class counts as separable from this AUROC on.
SEPARABLE = 0.9


def last_level(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of whole images at the last level of their network, controls left out.

    Parameters
    ----------
    frame : DataFrame
        As ``normal_similarity.verdicts`` gives it.
    """
    images = frame[(frame["region"] == "image") & (frame["anomaly_class"] != CONTROL)]
    last = images.groupby(["benchmark", "category", "start"])["level"].transform("last")
    return images[images["level"] == last]


def detection(shots: pd.DataFrame) -> pd.DataFrame:
    """Rows of detection with all levels together, controls left out.

    Classes that have too few images for the largest k of their category are left out too, so that all k are about the
    same classes.

    Parameters
    ----------
    shots : DataFrame
        Rows of ``few_shot.run``.
    """
    rows = shots[(shots["task"] == "detection") & (shots["level"] == few_shot.ALL)]
    rows = rows[rows["anomaly_class"] != CONTROL]
    where = [rows[name] for name in ("benchmark", "category")]
    most = rows.groupby([*where, "anomaly_class"])["k"].transform("max")
    return rows[most == most.groupby(where).transform("max")]


def gains(shots: pd.DataFrame) -> pd.DataFrame:
    """What training on normal images adds to the AUROC of detection, draw by draw, mean over classes.

    Parameters
    ----------
    shots : DataFrame
        Rows of ``few_shot.run``, of all starts.

    Returns
    -------
    DataFrame
        ``benchmark``, ``category``, ``k``, ``draw``, ``start`` (the one without normal images) and ``value``.
    """
    index = ["benchmark", "category", "k", "draw"]
    draws = detection(shots).pivot_table(index=index, columns="start", values="value")
    found = {first: draws[f"{first}+normal"] - draws[first] for first in STARTS if f"{first}+normal" in draws}
    return pd.concat(found, names=["start"]).rename("value").dropna().reset_index()


def of_defects(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of benchmarks whose anomalies are defects, and not other classes of things."""
    known = {name: benchmarks.get(name).anomalies == "defects" for name in frame["benchmark"].unique()}
    return frame[frame["benchmark"].map(known).astype(bool)]


def claims(related: pd.DataFrame, shots: pd.DataFrame) -> pd.DataFrame:
    """Each claim of the first paper with what was measured, over all anomaly classes or categories that are given.

    The paper speaks of surfaces: classes of things (a 7 among zeros) stand apart, as a check of the index.

    Parameters
    ----------
    related : DataFrame
        As ``normal_similarity.verdicts`` gives it; the rows of the network trained on ImageNet are used.
    shots : DataFrame
        Rows of ``few_shot.run``.

    Returns
    -------
    DataFrame
        One row an effect: ``claim``, ``what``, ``value``, ``low``, ``high`` (95 %) and ``cases``. Shares have Wilson's
        interval, medians a bootstrap over classes, gains Student's over categories. They say how firm a number is over
        cases like these, and treat cases as independent.
    """
    frozen = related[related["start"] == "imagenet"].reset_index(drop=True)
    everything = last_level(frozen)
    images = of_defects(everything)
    things = everything.drop(images.index).dropna(subset="low")
    defects = frozen[(frozen["region"] == "defect") & (frozen["anomaly_class"] != CONTROL)]
    pictures = images["photographs"].notna()
    drawn, also_drawn = (part["benchmark"] == "surfaces" for part in (images, defects))
    rows = []
    for what, part in (
        ("real defects, whole images", images[pictures & ~drawn]),
        ("real defects, patches on them", defects[~also_drawn]),
        ("drawn defects, whole images", images[drawn]),
        ("drawn defects, patches on them", defects[also_drawn]),
        ("objects known by features only, whole images", images[~pictures]),
    ):
        known = part.dropna(subset="low")
        if len(known):
            rows.append(_share("P1.a", f"near normal: {what}", known["near"]))
            rows.append(_median("P1.a", f"nearness: {what}", known["nearness"]))
    rows.append(_share("check", "other classes of things called near, whole images", things["near"]))
    known = images[pictures].dropna(subset="low")
    rows.append(_share("P1.b", "nearer to normal than to photographs: whole images", known["nearer"]))
    found = gains(shots)
    for start, part in found[found["k"] == SHOTS].groupby("start", sort=False):
        of_category = part.groupby(["benchmark", "category"])["value"].mean()
        rows.append(_mean("P1.c", f"gain in AUROC by normal images, from {start}, k = {SHOTS}", of_category))
    told = images["separability"].dropna() > SEPARABLE
    narrow = images.loc[images["separability"] > SEPARABLE, "margin"] < normal_similarity.NARROW
    rows += [
        _share("P1.d", f"classes that a linear classifier separates (AUROC above {SEPARABLE})", told),
        _share("P1.d", f"of these, with a margin below {normal_similarity.NARROW:g} standard deviation", narrow),
    ]
    return pd.DataFrame(rows)


def _row(claim: str, what: str, value: float, low: float, high: float, cases: int) -> dict[str, str | float]:
    return {"claim": claim, "what": what, "value": value, "low": low, "high": high, "cases": cases}


def _share(claim: str, what: str, holds: pd.Series) -> dict[str, str | float]:
    if holds.empty:
        return _row(claim, what, np.nan, np.nan, np.nan, 0)
    interval = binomtest(int(holds.sum()), len(holds)).proportion_ci(method="wilson")
    return _row(claim, what, float(holds.mean()), interval.low, interval.high, len(holds))


def _median(claim: str, what: str, values: pd.Series) -> dict[str, str | float]:
    if len(values) < 2:
        return _row(claim, what, float(values.median()), np.nan, np.nan, len(values))
    rng = np.random.default_rng(0)
    found = bootstrap((values.to_numpy(),), np.median, method="percentile", n_resamples=2000, rng=rng)
    interval = found.confidence_interval
    return _row(claim, what, float(values.median()), interval.low, interval.high, len(values))


def _mean(claim: str, what: str, values: pd.Series) -> dict[str, str | float]:
    reach = float(values.sem() * student.ppf(0.975, len(values) - 1)) if len(values) > 1 else np.nan
    mean = float(values.mean())
    return _row(claim, what, mean, mean - reach, mean + reach, len(values))
