"""What Part I found: rows of its studies as its claims are about them.

Explained in the chapter *Does similarity predict transfer?*. Thresholds are those that the chapters said beforehand.
"""

from __future__ import annotations

import pandas as pd

from anomaly_transfer import benchmarks
from anomaly_transfer.benchmarks.surfaces import CONTROL
from anomaly_transfer.studies import few_shot
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
        Rows of the study ``few_shot``.
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
        Rows of the study ``few_shot``, of all starts.

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
