"""Labels or transfer? Detection by a linear head on frozen features, from each start, with k labelled anomalies (P3.a).

Explained in the chapter *Labels or transfer?*. The two things that the third paper varies together are varied one by
one: where the features come from, and how many labelled anomalies there are, of the types that will be met or of others
only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_sample_weight
from tqdm import tqdm

from anomaly_transfer import benchmarks, detectors, profiles
from anomaly_transfer.benchmarks import reference
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.features import cached
from anomaly_transfer.features.features import Features, standardised
from anomaly_transfer.metrics.aggregate import range_over_draws
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, protocol
from anomaly_transfer.studies.base import Request, Study
from anomaly_transfer.studies.protocol import Domains, draw_in_turn, resample, usable
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import starts

#: Labelled anomalies to train with; :data:`ALL` is as many as the source has.
ALL = -1
SHOTS = (1, 2, 5, 10, 50, ALL)
#: What a row's detector knows: labels of the types that it is tested on, of other types only, pictures that have
#: nothing to do with the task in place of anomalies, or no label at all (then it is named by its method).
SEEN, UNSEEN, EXPOSURE = "types seen", "types unseen", "outlier exposure"
#: Without labels: on the same features, and on pixels.
LABEL_FREE = ("gaussian", "neighbours", "svm")
ON_PIXELS = "svm-pixels"
#: Strength of the ridge, as in Part I.
ALPHA = 1.0
#: Unrelated pictures for outlier exposure.
N_UNRELATED = 140
#: The start whose features owe nothing to other data, and the one that is transfer.
WITHOUT, WITH = "random", "imagenet"
RUN = ["benchmark", "category", "seed"]


def request(asked: Experiment, store: Store) -> Request:
    """Detection on one category from one start, with and without labels.

    A variant is where the network starts: one of ``starts.STARTS``.

    Returns
    -------
    Request
        One row a (method, anomaly class, k, draw), with the column ``value``, an AUROC of the class against normal.
        ``method`` is :data:`SEEN`, :data:`UNSEEN`, :data:`EXPOSURE`, one of :data:`LABEL_FREE` or :data:`ON_PIXELS`.
        Each draw has its own labelled anomalies and its own resample of the target's images, the same for every start
        and method, so that they can be compared draw by draw.
    """
    sizes = profiles.get(asked.profile)
    domain = protocol.divide(benchmarks.get(asked.benchmark).load(asked.category, sizes.limit), asked.seed)

    def compute() -> pd.DataFrame:
        images = domain.category.images
        normal = images.take(domain.rows(domain.source, NORMAL))
        side = domain.category.input_side(sizes.image_size)
        network, _ = starts.network(asked.variant, sizes, normal, side, asked.seed, store)
        where = f"{asked.benchmark}/{asked.category}"
        unrelated = [
            reference.comparison_sets(normal, where, N_UNRELATED, asked.seed)[name]
            for name in ("photographs", "materials")
        ]
        levels = starts.levels(network)
        seen = starts.features_of(network, images, side, store).select(levels)
        others = [starts.features_of(network, pictures, side, store).select(levels) for pictures in unrelated]
        frames = [
            with_labels(domain, seen, others, sizes.draws, asked.seed),
            without_labels(domain, seen, LABEL_FREE, sizes.draws, asked.seed),
            without_labels(domain, cached.pixels(store, images), (ON_PIXELS,), sizes.draws, asked.seed),
        ]
        return pd.concat(frames, ignore_index=True)

    return base.request(STUDY, asked, (*base.SIZES, "draws"), domain.category, sizes, compute)


def with_labels(
    domain: Domains, features: Features, unrelated: Sequence[Features], draws: int, seed: int
) -> pd.DataFrame:
    """A linear head on features, by how many labelled anomalies it is given and of which types.

    All normal images of the source are used, since normal images are not what is scarce; normal and anomalous
    weigh the same whatever their number.

    Parameters
    ----------
    domain : Domains
    features : Features
        Pooled, of all images of the domain.
    unrelated : sequence of Features
        Of other pictures, for outlier exposure.
    draws, seed : int

    Returns
    -------
    DataFrame
        See :func:`request`.
    """
    normal = domain.rows(domain.source, NORMAL)
    x = np.vstack([_joined(part, features.take(normal)) for part in (features, *unrelated)])
    outside = np.arange(len(features), len(x))
    types = usable(domain)
    rows: list[dict] = []
    whole: dict[tuple[str, ...], np.ndarray] = {}
    exposed = _scored(x, normal, outside)
    for draw in tqdm(range(draws), desc="draws", leave=False):
        test = resample(domain, seed, draw)
        rows += _rows(EXPOSURE, test, exposed, types, 0, draw)
        for k in SHOTS:
            # Types that are known, to the types that are tested with them.
            groups = [(SEEN, tuple(types), types)]
            groups += [(UNSEEN, tuple(other for other in types if other != name), [name]) for name in types]
            for method, known, tested in groups:
                if not known or not types:
                    continue
                if k != ALL:
                    of_known = [domain.rows(domain.source, name) for name in known]
                    chosen = draw_in_turn(of_known, k, np.random.default_rng([seed, k, draw]))
                    scores = _scored(x, normal, chosen)
                elif known in whole:
                    scores = whole[known]
                else:
                    every = np.concatenate([domain.rows(domain.source, name) for name in known])
                    scores = whole[known] = _scored(x, normal, every)
                rows += _rows(method, test, scores, tested, k, draw)
    return pd.DataFrame(rows)


def without_labels(domain: Domains, features: Features, methods: Sequence[str], draws: int, seed: int) -> pd.DataFrame:
    """Detectors fitted on the normal images of the source, tested on the same resamples.

    Parameters
    ----------
    domain : Domains
    features : Features
        As the detectors need them, of all images of the domain.
    methods : sequence of str
        See ``detectors.make``.
    draws, seed : int

    Returns
    -------
    DataFrame
        See :func:`request`.
    """
    types = usable(domain)
    rows: list[dict] = []
    for method in methods:
        detector = detectors.make(method, seed=seed).fit(features.take(domain.rows(domain.source, NORMAL)))
        scores = np.full(len(features), np.nan)
        scores[domain.target] = detector.anomaly_score(features.take(domain.target))
        for draw in range(draws):
            rows += _rows(method, resample(domain, seed, draw), scores, types, 0, draw)
    return pd.DataFrame(rows)


def head_scores(features: Features, normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """Scores of all images by a linear head fitted on some of them.

    Parameters
    ----------
    features : Features
        Pooled.
    normal, anomalous : int array
        Rows to fit on; both kinds weigh the same, whatever their number.

    Returns
    -------
    float array, shape (n_images,)
        Higher is more anomalous.
    """
    return _scored(_joined(features, features.take(normal)), normal, anomalous)


def along_shots(frame: pd.DataFrame, method: str = SEEN) -> pd.DataFrame:
    """AUROC by the number of labelled anomalies, beginning with none: then it is the best label-free detector's.

    Parameters
    ----------
    frame : DataFrame
        Rows of this study.
    method : {SEEN, UNSEEN}

    Returns
    -------
    DataFrame
        :data:`RUN`, ``start``, ``labels`` (``0``, ``1``, ..., ``all``), ``value``, ``low`` and ``high``; empty where
        there is one type of anomaly only and ``method`` is :data:`UNSEEN`.
    """
    keys = [*RUN, "start"]
    best = frame[keys].apply(tuple, axis=1).map(best_label_free(frame))
    with_labels = frame["method"] == method
    there = frame[keys].apply(tuple, axis=1).isin(set(frame.loc[with_labels, keys].apply(tuple, axis=1)))
    rows = frame[with_labels | ((frame["method"] == best) & there)]
    found = range_over_draws(rows, [*keys, "k"])
    order = {k: number for number, k in enumerate((0, *SHOTS))}
    found = found.sort_values("k", key=lambda k: k.map(order), kind="stable").sort_values(keys, kind="stable")
    return found.assign(labels=found["k"].map(shots)).reset_index(drop=True)


def shots(k: float) -> str:
    """A number of labels in words."""
    return "never" if np.isnan(k) else "all" if k == ALL else f"{k:.0f}"


def gains(frame: pd.DataFrame) -> pd.DataFrame:
    """The gain of labels and transfer together, taken apart.

    With the AUROC of the best label-free detector and of the head with all labels, on random and on transferred
    features, the two-by-two design has a main effect of labels, one of transfer, and their interaction: what both
    together bring beyond the sum of what each brings alone.

    Parameters
    ----------
    frame : DataFrame
        Rows of this study from the starts :data:`WITHOUT` and :data:`WITH`.

    Returns
    -------
    DataFrame
        One row a (benchmark, category, seed, part) with ``value``, ``low`` and ``high``; parts: ``labels``,
        ``transfer``, ``interaction``, ``both`` (the sum of the main effects: all labels on transferred features minus
        none on random ones), ``labels given transfer`` (all labels minus none, both on transferred features),
        ``transfer minus labels`` (the difference of the main effects: no label on transferred features minus all
        labels on random ones), and ``as published`` (all labels on transferred features minus the one-class SVM on
        pixels).
    """
    best = best_label_free(frame)
    rows = []
    for where, part in frame.groupby(RUN, sort=False):
        if not {WITHOUT, WITH} <= set(part["start"]):
            continue
        a, c = (_by_draw(part, WITHOUT, *which) for which in ((best[(*where, WITHOUT)], 0), (SEEN, ALL)))
        b, d = (_by_draw(part, WITH, *which) for which in ((best[(*where, WITH)], 0), (SEEN, ALL)))
        found = {
            "labels": ((c - a) + (d - b)) / 2,
            "transfer": ((b - a) + (d - c)) / 2,
            "interaction": (d - c) - (b - a),
            "both": d - a,
            "labels given transfer": d - b,
            "transfer minus labels": b - c,
            "as published": d - _by_draw(part, WITH, ON_PIXELS, 0),
        }
        for name, values in found.items():
            told = values.rename("value").reset_index().assign(part=name)
            rows.append(dict(zip(RUN, where, strict=True)) | range_over_draws(told, ["part"]).iloc[0].to_dict())
    return pd.DataFrame(rows)


def best_label_free(frame: pd.DataFrame) -> dict[tuple, str]:
    """The label-free detector with the highest mean AUROC by (benchmark, category, seed, start).

    It is chosen by the test labels, in favour of doing without labels in training.
    """
    free = frame[frame["method"].isin(LABEL_FREE)]
    means = free.groupby([*RUN, "start", "method"], sort=False)["value"].mean().reset_index()
    best = means.loc[means.groupby([*RUN, "start"], sort=False)["value"].idxmax()]
    return {tuple(row[name] for name in (*RUN, "start")): row["method"] for _, row in best.iterrows()}


def overtaken(frame: pd.DataFrame, method: str = SEEN) -> pd.DataFrame:
    """The smallest number of labelled anomalies with which the head beats the best label-free detector of its start.

    Parameters
    ----------
    frame : DataFrame
        Rows of this study.
    method : {SEEN, UNSEEN}

    Returns
    -------
    DataFrame
        One row a (benchmark, category, seed, start): ``free`` (its name), ``k mean`` (from which k on the mean
        difference over draws is positive) and ``k sure`` (from which k on 95 % of draws are): NaN if never,
        :data:`ALL` if with all labels only.
    """
    best = best_label_free(frame)
    rows = []
    for where, part in frame.groupby([*RUN, "start"], sort=False):
        start = where[-1]
        free = _by_draw(part, start, best[where], 0)
        lows, means = [], []
        for k in SHOTS:
            difference = (_by_draw(part, start, method, k) - free).dropna()
            if not len(difference):
                continue
            told = range_over_draws(difference.rename("value").reset_index().assign(k=k), ["k"]).iloc[0]
            lows.append((k, told["low"] > 0))
            means.append((k, told["value"] > 0))
        rows.append(
            dict(zip([*RUN, "start"], where, strict=True))
            | {"free": best[where], "k mean": _from(means), "k sure": _from(lows)}
        )
    return pd.DataFrame(rows)


def _from(found: Sequence[tuple[int, bool]]) -> float:
    """The first k from which on all are true."""
    last_false = max((number for number, (_, good) in enumerate(found) if not good), default=-1)
    return float(found[last_false + 1][0]) if last_false + 1 < len(found) else float("nan")


def _by_draw(frame: pd.DataFrame, start: str, method: str, k: int) -> pd.Series:
    """Mean over classes, by draw."""
    rows = frame[(frame["start"] == start) & (frame["method"] == method) & (frame["k"] == k)]
    return rows.groupby("draw")["value"].mean()


def _scored(x: np.ndarray, normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """Scores of all rows by a linear head (ridge regression on -1 and 1) fitted on some normal and anomalous rows.

    It is solved in as many unknowns as there are features or, where these are fewer, images to fit on: memory grows
    with the number of images, not with its square.
    """
    rows = np.concatenate([normal, anomalous])
    labels = np.repeat([-1.0, 1.0], [len(normal), len(anomalous)])
    weights = compute_sample_weight("balanced", labels)
    head = Ridge(alpha=ALPHA, fit_intercept=False, solver="cholesky").fit(x[rows], labels, sample_weight=weights)
    return head.predict(x)


def _joined(features: Features, normal: Features) -> np.ndarray:
    """Levels side by side, each of the same weight, in standard deviations of normal images.

    The last column is one, for an intercept that is shrunk like every weight.
    """
    parts = [standardised(features[level], normal[level]) / np.sqrt(normal[level].shape[1]) for level in normal.levels]
    return np.hstack([*parts, np.ones((len(features), 1))], dtype=np.float64)


def _rows(
    method: str, test: dict[str, np.ndarray], scores: np.ndarray, types: Sequence[str], k: int, draw: int
) -> list[dict]:
    """AUROC of each type against normal on one resample; a type that the resample missed has none."""
    normal = scores[test[NORMAL]]
    found = []
    for name in types:
        anomalous = scores[test[name]]
        if len(anomalous) and len(normal):
            value = roc_auc_score(np.repeat([0, 1], [len(normal), len(anomalous)]), np.concatenate([normal, anomalous]))
            found.append({"method": method, "anomaly_class": name, "k": k, "draw": draw, "value": float(value)})
    return found


STUDY = Study(
    "linear_probe",
    request,
    starts.STARTS,
    "imagenet",
    lambda start: (*LABEL_FREE, ON_PIXELS),
    axis="start",
    work=protocol.self_supervised,
)
run = STUDY.run
