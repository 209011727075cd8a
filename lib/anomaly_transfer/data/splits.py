"""Splits into folds. A fold trains on normal images only, whatever the split.

Explained in the chapter *The data, and how a split can lie*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.errors import DataError

#: Of every division into folds.
N_FOLDS = 5


def are_few(groups: np.ndarray) -> bool:
    """Whether groups are so few that each is large, and a fold of its own: then none of them is drawn or left out.

    Parameters
    ----------
    groups : array
        Of each image.
    """
    return len(np.unique(groups)) <= N_FOLDS


@dataclass(frozen=True)
class Fold:
    """Row numbers of one fold.

    Attributes
    ----------
    train : int array
        Normal images to fit on.
    test : int array
        Images to score, normal and anomalous, none of them in ``train``.
    """

    train: np.ndarray
    test: np.ndarray


def grouped_folds(table: pd.DataFrame, seed: int = 0) -> list[Fold]:
    """Every image is scored once, by a model that saw no image of its group.

    With at most ``N_FOLDS`` groups each group is one fold and ``seed`` changes nothing; with more, whole groups
    are dealt to ``N_FOLDS`` folds by scikit-learn's ``StratifiedGroupKFold``.

    Parameters
    ----------
    table : DataFrame
        Opened annotations.
    seed : int

    Raises
    ------
    DataError
        If there are fewer than two groups.
    """
    groups = table["group"].to_numpy()
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise DataError("A grouped split needs at least two groups of images; use the random split.")
    if are_few(groups):
        parts = LeaveOneGroupOut().split(table, groups=groups)
    else:
        splitter = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed)
        parts = splitter.split(table, _is_anomalous(table), groups)
    return [_fold(table, train, test) for train, test in parts]


def random_folds(table: pd.DataFrame, seed: int = 0) -> list[Fold]:
    """Every image is scored once, by a model fitted on the other folds; groups are ignored.

    This is the usual cross-validation, and optimistic where images of one object repeat.
    """
    splitter = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    return [_fold(table, train, test) for train, test in splitter.split(table, _is_anomalous(table))]


def matched_folds(table: pd.DataFrame, seed: int = 0) -> list[Fold]:
    """The leaking twin of the grouped split: same test images, same number of training images.

    Each test fold of the grouped split is cut into two halves, straight through every group and label. The model
    that scores one half may train on the other half as well as on the other folds, but on no more images than the
    grouped split has for that fold. What differs from :func:`grouped_folds` is thus one thing only: that the model
    has seen the groups.
    """
    rng = np.random.default_rng(seed)
    groups = table["group"].to_numpy()
    normal = ~_is_anomalous(table)
    folds = []
    for whole in grouped_folds(table, seed):
        halves: list[list[int]] = [[], []]
        for group in np.unique(groups[whole.test]):
            inside = whole.test[groups[whole.test] == group]
            for label in (True, False):
                rows = rng.permutation(inside[normal[inside] == label])
                # The odd one out of a group goes to either half in turn, so that the halves stay equal.
                first = int(len(halves[0]) > len(halves[1]))
                halves[first].extend(rows[::2])
                halves[1 - first].extend(rows[1::2])
        for half in filter(len, halves):
            candidates = np.setdiff1d(np.flatnonzero(normal), half)
            train = rng.choice(candidates, size=min(len(whole.train), len(candidates)), replace=False)
            folds.append(Fold(np.sort(train), np.sort(np.array(half))))
    return folds


def official_folds(table: pd.DataFrame, seed: int = 0) -> list[Fold]:
    """The one fold that the benchmark's authors laid down, in the column ``part``; ``seed`` changes nothing."""
    train, test = (np.flatnonzero(table["part"] == part) for part in ("train", "test"))
    return [_fold(table, train, test)]


def group_rate(table: pd.DataFrame, positive: np.ndarray) -> np.ndarray:
    """A score that never looks at an image: the share of anomalies in its group.

    It knows the labels, so it is no detector. How well it separates says how much the group gives away.

    Parameters
    ----------
    table : DataFrame
        With the column ``group``.
    positive : bool array, shape (n,)

    Returns
    -------
    float array, shape (n,), in 0..1
    """
    groups = table["group"].to_numpy()
    return pd.Series(positive.astype(float)).groupby(groups).transform("mean").to_numpy()


SPLITS = {"grouped": grouped_folds, "random": random_folds, "matched": matched_folds, "official": official_folds}


def _is_anomalous(table: pd.DataFrame) -> np.ndarray:
    return (table["anomaly_class"] != NORMAL).to_numpy()


def _fold(table: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> Fold:
    train = train[~_is_anomalous(table)[train]]
    if len(train) < 2:
        raise DataError(
            f"A fold of the split has {len(train)} normal training image(s); at least 2 are needed: "
            "add normal images or use another split."
        )
    return Fold(train, test)
