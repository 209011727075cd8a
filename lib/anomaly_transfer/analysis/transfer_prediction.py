"""Does similarity predict transfer? Joins what was measured of relations with what a few labels then bought.

Explained in the chapter *Does similarity predict transfer?*.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression

from anomaly_transfer.studies import few_shot, normal_similarity

#: What identifies a case in both kinds of tables.
CASE = ["benchmark", "category", "seed", "start", "level", "anomaly_class"]
#: What is measured before any label is used for training, and may predict.
PREDICTORS = (
    "distance to normal",
    "excess over normal",
    "nearness",
    "distance to photographs",
    "normal to photographs",
)
DETECTION, GAIN = "few-shot AUROC", "gain by normal images"


def join(related: pd.DataFrame, shots: pd.DataFrame) -> pd.DataFrame:
    """One row a case that is in both tables: predictors, and what was reached.

    Parameters
    ----------
    related : DataFrame
        Rows of the study ``normal_similarity`` of any number of tables; the primary measure on whole images is used.
    shots : DataFrame
        Rows of the study ``few_shot``; detection at ``few_shot.LEVEL_SHOTS`` labelled images, by level.

    Returns
    -------
    DataFrame
        :data:`CASE`, :data:`PREDICTORS`, :data:`DETECTION` (mean over draws) and :data:`GAIN`: what training on normal
        images added to it at that level, for the two starts that were not trained on them (else NaN).
    """
    rows = related[(related["measure"] == normal_similarity.PRIMARY) & (related["region"] == "image")]
    before = rows[CASE].assign(
        **{
            "distance to normal": rows["anomaly"],
            "excess over normal": rows["excess"],
            "nearness": rows["value against photographs"].where(rows["low against photographs"].notna()),
            "distance to photographs": rows["photographs"],
            "normal to photographs": rows["scale of photographs"],
        }
    )
    at_level = shots[(shots["task"] == "detection") & (shots["level"] != few_shot.ALL)]
    reached = at_level.groupby(CASE)["value"].mean().rename(DETECTION).reset_index()
    further = reached[reached["start"].str.endswith("+normal")]
    further = further.assign(start=further["start"].str.removesuffix("+normal")).rename(columns={DETECTION: "then"})
    reached = reached.merge(further, on=CASE, how="left")
    reached[GAIN] = reached["then"] - reached[DETECTION]
    return before.merge(reached.drop(columns="then"), on=CASE)


def correlations(cases: pd.DataFrame, outcome: str, within: str) -> pd.DataFrame:
    """Spearman correlation of each predictor with an outcome, in each group of cases.

    Parameters
    ----------
    cases : DataFrame
        As :func:`join` gives it.
    outcome : str
        :data:`DETECTION` or :data:`GAIN`.
    within : str
        The column of groups, e.g. ``"category"``: correlations across groups mix what differs between them.

    Returns
    -------
    DataFrame
        Predictors by groups; NaN where fewer than five cases are known.
    """
    found = {}
    for name, part in cases.groupby(within, sort=False):
        column = {}
        for predictor in PREDICTORS:
            known = part[[predictor, outcome]].dropna()
            enough = len(known) >= 5 and known.nunique().min() > 1
            column[predictor] = spearmanr(known[predictor], known[outcome]).statistic if enough else np.nan
        found[name] = column
    return pd.DataFrame(found).reindex(PREDICTORS)


def skill(cases: pd.DataFrame, outcome: str, held_out: str) -> pd.DataFrame:
    """How much better than the mean a predictor does on a group of cases that it has not seen.

    A line is fitted on all other groups. Skill is ``1 - squared error / squared error of their mean``: 1 is perfect,
    0 no better than knowing nothing of the case, and below 0 worse.

    Parameters
    ----------
    cases : DataFrame
        As :func:`join` gives it.
    outcome : str
        :data:`DETECTION` or :data:`GAIN`.
    held_out : str
        The column of groups that are left out in turn.

    Returns
    -------
    DataFrame
        Predictors by groups; NaN where there is nothing to fit on or to test.
    """
    found = {}
    for name in cases[held_out].unique():
        column = {}
        for predictor in PREDICTORS:
            known = cases.dropna(subset=[predictor, outcome])
            test = known[held_out] == name
            x, y = known[[predictor]].to_numpy(), known[outcome].to_numpy()
            column[predictor] = np.nan
            if test.sum() >= 2 and (~test).sum() >= 5:
                told = LinearRegression().fit(x[~test], y[~test]).predict(x[test])
                nothing = np.square(y[test] - y[~test].mean()).sum()
                column[predictor] = 1 - np.square(y[test] - told).sum() / max(nothing, 1e-12)
        found[name] = column
    return pd.DataFrame(found).reindex(PREDICTORS)
