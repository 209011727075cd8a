"""Detectors side by side: paired differences, ranks, and what they take.

Explained in the chapter *Side by side*.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy.stats import friedmanchisquare
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from anomaly_transfer import benchmarks, detectors, profiles
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.splits import Fold
from anomaly_transfer.detectors import ensemble
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, detection
from anomaly_transfer.studies.base import Request, Study
from anomaly_transfer.studies.records import Experiment, Record

#: The detector that is compared, and what with: its three parts first.
DEFAULT = "combined"
PARTS = tuple(ensemble.PARTS)
RIVALS = (*PARTS, "patch-shared", "neighbours", "svm")
#: Sizes of the profile on which the numbers depend.
SETTINGS = ("backbone", "image_size", "images_per_category", "memory_bank", "bootstrap")


def request(asked: Experiment, store: Store) -> Request:
    """AUROC of a detector and its rivals by the recommended split, and what it has more than each.

    A variant is the detector, see ``detectors.make``.

    Returns
    -------
    Request
        One row a rival: ``rival``, its AUROC ``value`` with ``low`` and ``high``, the detector's ``own``, and ``more``
        with ``more low`` and ``more high``: the detector's minus the rival's, paired on the images that both scored.
    """
    sizes = profiles.get(asked.profile)
    whole = benchmarks.get(asked.benchmark).load(asked.category, sizes.limit)

    def compute() -> pd.DataFrame:
        return paired(whole, asked.variant, RIVALS, asked.seed, sizes, store)

    return base.request(STUDY, asked, SETTINGS, whole, sizes, compute)


def paired(
    category: Category, method: str, rivals: Sequence[str], seed: int, sizes: Profile, store: Store
) -> pd.DataFrame:
    """A row a rival, see :func:`run`."""

    def record(name: str) -> Record:
        return detection.run(category.benchmark, category.name, name, seed, sizes.name, store)

    own = record(method)
    rows = []
    for rival in rivals:
        other = record(rival)
        more = detection.compare(own, other, store=store)["auroc"]
        rows.append(
            {
                "rival": rival,
                **detection.interval(other).model_dump(),
                "own": detection.interval(own).value,
                **{"more": more.value, "more low": more.low, "more high": more.high},
            }
        )
    return pd.DataFrame(rows)


def best_of(found: pd.DataFrame, rivals: Sequence[str] = PARTS) -> pd.DataFrame:
    """The rows of the rival with the highest AUROC on each data set: chosen by the test images, in its favour.

    Parameters
    ----------
    found : DataFrame
        Rows of this study, or of ``anomalib_comparison``.
    rivals : sequence of str
        Among which; default: the parts of the combined detector.
    """
    parts = found[found["rival"].isin(rivals)].reset_index(drop=True)
    return parts.loc[parts.groupby(["benchmark", "category", "seed"], sort=False)["value"].idxmax()]


def ranks(values: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame, float]:
    """Mean rank of each detector over data sets, and which of them can be told apart.

    Parameters
    ----------
    values : DataFrame of float
        One row a data set, one column a detector; higher is better.

    Returns
    -------
    ranks : Series
        1 for a detector that is best everywhere.
    p_values : DataFrame
        Nemenyi's test of each pair.
    p_value : float
        Friedman's test of whether any two differ.

    Notes
    -----
    Source: Demsar (2006). Data sets count as independent.
    """
    order = values.rank(axis=1, ascending=False).mean().sort_values()
    p_values = posthoc_nemenyi_friedman(values)
    return order, p_values, float(friedmanchisquare(*values.to_numpy().T).pvalue)


def costs(
    category: Category, fold: Fold, methods: Sequence[str], sizes: Profile, store: Store | None = None
) -> pd.DataFrame:
    """What detectors take on one fold, without the network that makes the features.

    Parameters
    ----------
    category : Category
    fold : Fold
    methods : sequence of str
    sizes : Profile
    store : Store, optional

    Returns
    -------
    DataFrame
        One row a method: ``fit`` (seconds), ``score`` (milliseconds an image), ``memory`` (megabytes of what was
        fitted) and ``AUROC`` of the benchmark's target classes.
    """
    judged, positive = _judged(category, fold)
    rows = {}
    for method in tqdm(methods, desc="detectors", leave=False):
        detector = detectors.make(method, seed=0, memory_bank=sizes.memory_bank)
        features = detection.features_for(detector.kind, detector.levels, sizes, category, store)
        start = time.perf_counter()
        detector.fit(features.take(fold.train))
        fitted = time.perf_counter()
        scores = detector.anomaly_score(features.take(fold.test))
        scored = time.perf_counter()
        rows[method] = {
            "fit": fitted - start,
            "score": 1000 * (scored - fitted) / len(fold.test),
            "memory": sum(array.nbytes for array in detector.state_.values()) / 1e6,
            "AUROC": roc_auc_score(positive, scores[judged]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def learning_curve(
    category: Category,
    fold: Fold,
    methods: Sequence[str],
    numbers: Sequence[int],
    draws: int,
    sizes: Profile,
    store: Store | None = None,
) -> pd.DataFrame:
    """How good detectors are that were fitted on few normal images.

    Parameters
    ----------
    category : Category
    fold : Fold
    methods : sequence of str
    numbers : sequence of int
        Of normal images; the largest is taken as all of them where there are fewer.
    draws : int
        Random choices of each number, the same ones for every method.
    sizes : Profile
    store : Store, optional

    Returns
    -------
    DataFrame
        ``method``, ``images``, ``draw`` and ``AUROC`` of the benchmark's target classes on the whole test part.
    """
    judged, positive = _judged(category, fold)
    rows = []
    for method in tqdm(methods, desc="detectors", leave=False):
        detector = detectors.make(method, seed=0, memory_bank=sizes.memory_bank)
        features = detection.features_for(detector.kind, detector.levels, sizes, category, store)
        test = features.take(fold.test[judged])
        for number in sorted({min(number, len(fold.train)) for number in numbers}):
            for draw in range(draws if number < len(fold.train) else 1):
                chosen = np.random.default_rng(draw).choice(fold.train, number, replace=False)
                scores = detector.fit(features.take(np.sort(chosen))).anomaly_score(test)
                rows.append((method, number, draw, roc_auc_score(positive, scores)))
    return pd.DataFrame(rows, columns=["method", "images", "draw", "AUROC"])


def _judged(category: Category, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Which test images are normal or of a target class, as a mask, and which of those are anomalous."""
    kinds = category.annotations.open()["anomaly_class"].to_numpy()[fold.test]
    targets = benchmarks.get(category.benchmark).target_classes or tuple(set(kinds) - {NORMAL})
    judged = np.isin(kinds, [NORMAL, *targets])
    return judged, kinds[judged] != NORMAL


STUDY = Study("comparison", request, tuple(detectors.methods()), DEFAULT, lambda method: (method, *RIVALS))
run = STUDY.run
