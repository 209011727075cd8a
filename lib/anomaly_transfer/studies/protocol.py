"""Source and target: how Part I divides a category, and the four networks it compares.

The source is what may be trained on; everything that is measured is measured on the target, which shares no group with
it. Explained in the chapter *The hypothesis*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit, KFold, ShuffleSplit

from anomaly_transfer import benchmarks
from anomaly_transfer.benchmarks.base import Category, evenly_spaced
from anomaly_transfer.benchmarks.surfaces import CONTROL
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.splits import N_FOLDS, SPLITS, Fold, are_few
from anomaly_transfer.errors import DataError
from anomaly_transfer.profiles import Profile
from anomaly_transfer.studies.base import SELF_SUPERVISED, Work
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import pseudo_anomalies

#: At most so many images of each class on either side.
MOST = 200
#: Fewer images than this measure nothing.
LEAST = 8


#: Held-out normal images: this share of those at hand, but within these bounds.
HELD_OUT_SHARE, HELD_OUT_BOUNDS = 0.2, (8, 64)


#: Normal and anomalous test images below which a fold tells too little to stand alone.
FEWEST = 20


@dataclass(frozen=True)
class Domains:
    """A category in two parts that share no group.

    Attributes
    ----------
    category : Category
        With the chosen images only.
    table : DataFrame
        Its annotations, opened: Part I is about labels, and trains no detector.
    source, target : int array
        Rows of the two parts.
    """

    category: Category
    table: pd.DataFrame
    source: np.ndarray
    target: np.ndarray

    def rows(self, part: np.ndarray, anomaly_class: str) -> np.ndarray:
        """The rows of one class in one part."""
        return part[(self.table["anomaly_class"].to_numpy() == anomaly_class)[part]]

    @property
    def groups(self) -> np.ndarray:
        """The group of each row."""
        return self.table["group"].to_numpy()

    @property
    def classes(self) -> list[str]:
        """Anomaly classes in order of name, the headline ones of the benchmark or not."""
        return sorted(set(self.table["anomaly_class"]) - {NORMAL})


def divide(category: Category, seed: int = 0, most: int = MOST) -> Domains:
    """Divide a category into source and target.

    An official split is kept. Where groups are few (each then is large), the target is the group that has most images
    of both kinds; else it is a random half of the groups.

    Parameters
    ----------
    category : Category
    seed : int
        Of the random half.
    most : int
        Keep at most so many images of each class in either part, evenly spaced.

    Returns
    -------
    Domains

    Raises
    ------
    DataError
        If there is one group only, or a part lacks normal images.
    """
    table = category.annotations.open()
    target = (table["part"] == "test").to_numpy() if "part" in table else _target(table, seed)
    rows = np.sort(np.concatenate([_capped(table, np.flatnonzero(side), most) for side in (target, ~target)]))
    part, inside = category.taken(rows), target[rows]
    found = Domains(part, part.annotations.open(), np.flatnonzero(~inside), np.flatnonzero(inside))
    for name, side in (("source", found.source), ("target", found.target)):
        if len(found.rows(side, NORMAL)) < LEAST:
            raise DataError(
                f"{category.benchmark}/{category.name}: the {name} has {len(found.rows(side, NORMAL))} normal images, "
                f"at least {LEAST} are needed: use more images."
            )
    return found


def _target(table: pd.DataFrame, seed: int) -> np.ndarray:
    groups, is_normal = table["group"].to_numpy(), (table["anomaly_class"] == NORMAL).to_numpy()
    names = np.unique(groups)
    if len(names) < 2:
        raise DataError("All images are of one group: source and target need at least two.")
    if are_few(names):
        both = [min((side & (groups == name)).sum() for side in (is_normal, ~is_normal)) for name in names]
        return groups == names[np.argmax(both)]
    splitter = GroupShuffleSplit(n_splits=1, test_size=0.5, random_state=seed)
    _, target = next(splitter.split(table, groups=groups))
    return np.isin(np.arange(len(table)), target)


def _capped(table: pd.DataFrame, rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows of each class, evenly spaced."""
    by_class = table.iloc[rows].groupby("anomaly_class").indices.values()
    return rows[np.sort(np.concatenate([evenly_spaced(inside, most) for inside in by_class]))]


def folds(category: Category, seed: int, n_folds: int, n_test: int) -> list[Fold]:
    """The folds in which a network is trained: ``n_folds`` of them, with at most ``n_test`` test images; 0 means all.

    Normal and anomalous ones count apart, and every class of anomaly has the same share.

    Folds of the benchmark's recommended split that have both normal images and anomalies of the headline classes, those
    with most of both first. Where fewer of them are wanted, each seed takes those that follow on the ones of the
    seed before, so that over the seeds all are tested that have :data:`FEWEST` of either.
    """
    table = category.annotations.open()
    known = benchmarks.get(category.benchmark)
    kinds = table["anomaly_class"].to_numpy()
    wanted = set(known.target_classes) or set(kinds) - {NORMAL}
    found = []
    for fold in SPLITS[known.splits[0]](table, seed):
        of_class = [fold.test[kinds[fold.test] == name] for name in (NORMAL, *sorted(wanted))]
        normal, *anomalous = (rows for rows in of_class if len(rows) or rows is of_class[0])
        if len(normal) and anomalous:
            share = -(-n_test // len(anomalous))
            fewer = [evenly_spaced(normal, n_test or len(normal))]
            fewer += [evenly_spaced(rows, share or len(rows)) for rows in anomalous]
            found.append(Fold(fold.train, np.sort(np.concatenate(fewer))))
    if not found:
        raise DataError(f"{category.benchmark}/{category.name}: no fold has both normal and anomalous test images.")

    def both(fold: Fold) -> int:
        is_normal = kinds[fold.test] == NORMAL
        return min(is_normal.sum(), (~is_normal).sum())

    found.sort(key=both, reverse=True)
    if not n_folds:
        return found
    telling = [fold for fold in found if both(fold) >= FEWEST] or found[:1]
    n = min(n_folds, len(telling))
    return [telling[number % len(telling)] for number in range(seed * n, (seed + 1) * n)]


def hold_out(category: Category, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal rows to train on, and others to validate with.

    Where there is one official split, five seeds are five folds over its training images, and each validates with the
    images that it leaves out. Else validation images are of other groups, where groups are more than a handful.
    """
    low, high = HELD_OUT_BOUNDS
    n = int(np.clip(round(HELD_OUT_SHARE * len(rows)), low, high))
    if len(rows) < n + 2:
        raise DataError(
            f"{category.benchmark}/{category.name}: {len(rows)} normal images are too few to fine-tune on some and "
            f"validate with {n}."
        )
    table = category.annotations.open()
    if "part" in table:
        fifths = KFold(N_FOLDS, shuffle=True, random_state=seed // N_FOLDS).split(rows)
        train, held = list(fifths)[seed % N_FOLDS]
        return rows[train], rows[held[:high]]
    groups = table["group"].to_numpy()[rows]
    if not are_few(groups):
        share = max(n / len(rows), 1 / len(np.unique(groups)))
        train, held = next(GroupShuffleSplit(1, test_size=share, random_state=seed).split(rows, groups=groups))
        # Groups differ in size, so there may be more than were asked for.
        return rows[train], rows[held[:n]]
    train, held = next(ShuffleSplit(1, test_size=n, random_state=seed).split(rows))
    return rows[np.sort(train)], rows[np.sort(held)]


def clusters_of(category: Category, rows: np.ndarray) -> np.ndarray | None:
    """Groups that are resampled as wholes: not where they are few, and each is a fold of its own."""
    groups = category.annotations.open()["group"].to_numpy()[rows]
    return None if are_few(groups) else groups


def usable(domain: Domains) -> list[str]:
    """The types of anomaly of which the target has enough; a control is none."""
    enough = [name for name in domain.classes if len(domain.rows(domain.target, name)) >= LEAST]
    target = set(benchmarks.get(domain.category.benchmark).target_classes) or set(enough)
    return [name for name in enough if name != CONTROL and name in target and len(domain.rows(domain.source, name))]


def resample(domain: Domains, seed: int, draw: int) -> dict[str, np.ndarray]:
    """Rows of the target drawn with replacement, by class: whole groups where there are many, else images.

    Draw 0 is the target itself.
    """
    rng = np.random.default_rng([seed, draw, 1])
    groups = domain.groups[domain.target]
    names, of = np.unique(groups, return_inverse=True)
    if are_few(names):
        of = np.arange(len(groups))
    n = of.max() + 1
    count = np.ones(n, dtype=int) if draw == 0 else np.bincount(rng.integers(n, size=n), minlength=n)
    taken = np.repeat(domain.target, count[of])
    kinds = domain.table["anomaly_class"].to_numpy()[taken]
    return {name: taken[kinds == name] for name in (NORMAL, *domain.classes)}


def draw_in_turn(types: Sequence[np.ndarray], k: int, rng: np.random.Generator) -> np.ndarray:
    """``k`` rows, from each type in turn; ``types`` are the rows of each, all of which may be too few."""
    shuffled = [rng.permutation(rows) for rows in types]
    order = rng.permutation(len(types))
    turns = max(map(len, shuffled))
    rows = [shuffled[number][turn] for turn in range(turns) for number in order if turn < len(shuffled[number])]
    return np.array(rows[:k])


def at_hand(experiment: Experiment, most: int) -> int:
    """The number of normal images that an experiment has, and at most ``most`` (0: no limit).

    Where the authors of the data give no number, as many as the largest profile with a limit takes.
    """
    known = benchmarks.get(experiment.benchmark)
    there = (known.published(experiment.category) or {}).get(NORMAL) or 400
    return min(most or there, there)


def validated(n: int) -> int:
    """The number of held-out images that ``n`` normal images leave and, for each kind, of their stand-ins."""
    low, high = HELD_OUT_BOUNDS
    return (1 + len(pseudo_anomalies.KINDS)) * min(high, max(low, round(HELD_OUT_SHARE * n)))


def self_supervised(experiment: Experiment, sizes: Profile) -> Work | None:
    """What an experiment trains whose variant is where its network starts."""
    if not experiment.variant.endswith("+normal"):
        return None
    images = at_hand(experiment, sizes.self_supervised_images)
    return Work(SELF_SUPERVISED, images, sizes.self_supervised_epochs, kept=False)
