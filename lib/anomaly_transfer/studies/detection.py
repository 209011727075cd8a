"""A detector on frozen features: how well it finds anomalies and their places, by the splits of a benchmark.

Explained in the chapter *Frozen representations*.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_transfer import benchmarks, detectors, profiles
from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import duplicates
from anomaly_transfer.data.splits import SPLITS, are_few
from anomaly_transfer.detectors.base import Detector, Localiser, pixel_scores
from anomaly_transfer.errors import EvaluationError
from anomaly_transfer.features import pixels
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.inputs import Kind, view
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.metrics.bootstrap import Interval
from anomaly_transfer.metrics.localisation import localisation
from anomaly_transfer.metrics.ranking import evaluate, evaluate_table, paired_difference
from anomaly_transfer.networks import backbones
from anomaly_transfer.networks.backbones import pretrained
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.studies import records
from anomaly_transfer.studies.base import Request, Result, Study, record_of, scores
from anomaly_transfer.studies.records import Experiment, Record

#: The split without leak, with which the others are compared.
GROUPED = "grouped"
#: What of a profile the numbers depend on.
SIZES = ("backbone", "image_size", "images_per_category", "bootstrap", "memory_bank")
#: Metrics by group of images, see :func:`request`.
Metrics = dict[str, dict[str, Interval]]


def request(asked: Experiment, store: Store) -> Request:
    """Fit a detector on the normal training images of each fold, and evaluate it on the test images of all.

    A variant is the detector, see ``detectors.make``; the seed is that of the split, and of what is random in it.

    Returns
    -------
    Request
        One row a (group, metric): ``value``, ``low`` and ``high``. Groups: ``target`` (headline), ``within group`` (the
        same, images compared within their group), ``minus grouped`` (headline minus that of the grouped split, each
        image with those that one model scored), ``all``, each anomaly class, ``grade`` and, with masks and a detector
        that localises, ``pixel``. Facts: ``counts`` (scored images by anomaly class), ``fitted_on`` (normal training
        images of each fold) and ``duplicates`` (scored images that are identical, byte for byte, to one that their
        model was fitted on).
    """
    sizes, known = profiles.get(asked.profile), benchmarks.get(asked.benchmark)
    if asked.split not in known.splits:
        raise ValueError(f"{asked.benchmark} has no split {asked.split!r}; choose from {', '.join(known.splits)}.")
    part = _category(asked.benchmark, asked.category, sizes.limit)
    detector = detectors.make(asked.variant, seed=asked.seed, memory_bank=sizes.memory_bank)
    if detector.kind != "pooled" and not known.pictures:
        raise ValueError(f"{asked.benchmark} gives one feature vector an image: {asked.variant} needs pictures.")
    side = pixels.SIDE if detector.kind == "pixels" else part.input_side(sizes.image_size)
    settings = sizes.model_dump(include=set(SIZES)) | {"image_size": side}
    if not known.pictures:
        settings |= {"backbone": "as the benchmark gives them", "image_size": 0}
    return Request(
        study=STUDY,
        experiment=asked,
        settings=settings,
        data=digest([part.fingerprint, known.protocol]),
        weights=backbones.weights_hash(sizes.backbone) if known.pictures else "none",
        compute=lambda: _Run(asked, known, part, detector, side, sizes, store).result(),
        note=_note(known, part, sizes),
    )


class _Run:
    """One experiment, computed."""

    def __init__(
        self,
        experiment: Experiment,
        benchmark: Benchmark,
        category: Category,
        detector: Detector,
        side: int,
        sizes: Profile,
        store: Store,
    ):
        self.experiment = experiment
        self.benchmark = benchmark
        self.category = category
        self.detector = detector
        self.side = side
        self.sizes = sizes
        self.store = store

    def result(self) -> Result:
        annotations = self.category.annotations.open()
        folds = SPLITS[self.experiment.split](annotations, self.experiment.seed)
        clock = _Clock()
        features = features_for(self.detector.kind, self.detector.levels, self.sizes, self.category, self.store)
        clock.lap("features")
        parts, heat, n_duplicates = [], [], 0
        for number, fold in enumerate(folds):
            self.detector.fit(features.take(fold.train))
            clock.lap("fit")
            scored = features.take(fold.test)
            if isinstance(self.detector, Localiser):
                score, maps = self.detector.scored(scored)
                # Without masks there is nothing to compare them with, and they take gigabytes of a large benchmark.
                if self.category.annotations.has_masks:
                    heat.append(maps)
            else:
                score = self.detector.anomaly_score(scored)
            part = annotations.iloc[fold.test][["id", "group", "anomaly_class", "grade"]]
            parts.append(part.assign(fold=number, row=fold.test, score=score))
            clock.lap("score")
            if self.benchmark.pictures:
                n_duplicates += len(duplicates(self.category.images, fold.train, fold.test))
        table = pd.concat(parts, ignore_index=True)
        metrics = self._metrics(table, heat)
        clock.lap("evaluate")
        rows = [
            {"group": group, "metric": metric, **interval.model_dump()}
            for group, values in metrics.items()
            for metric, interval in values.items()
        ]
        facts = {
            "counts": {str(name): int(n) for name, n in table["anomaly_class"].value_counts().items()},
            "fitted_on": [len(fold.train) for fold in folds],
            "duplicates": n_duplicates,
        }
        return Result(pd.DataFrame(rows), facts, table.drop(columns="row"), clock.laps)

    def _metrics(self, table: pd.DataFrame, heat: list[np.ndarray]) -> Metrics:
        """See :func:`request`; ``heat`` are the maps of a localiser, fold by fold."""
        targets, bootstrap = self.benchmark.target_classes, self.sizes.bootstrap
        metrics = evaluate_table(table, targets, "fold", bootstrap, cluster="group" if _clustered(table) else None)
        within = _within_group(table, targets, bootstrap)
        if within:
            metrics["within group"] = within
        if self.experiment.split != GROUPED and GROUPED in self.benchmark.splits:
            metrics["minus grouped"] = self._minus_grouped(table)
        if heat:
            metrics["pixel"] = self._localisation(table, np.concatenate(heat))
        return metrics

    def _minus_grouped(self, table: pd.DataFrame) -> dict[str, Interval]:
        """By how much the split flatters: headline metrics minus those of the grouped split, on the same images."""
        asked = STUDY.asked(self.experiment.model_copy(update={"split": GROUPED}), self.store)
        grouped = record_of(asked, self.store)
        targets = self.benchmark.target_classes
        return _paired(_headline(table, targets), _targets(grouped, self.store), "fold", self.sizes.bootstrap)

    def _localisation(self, table: pd.DataFrame, heat: np.ndarray) -> dict[str, Interval]:
        """Pixel metrics at the network's input size, over normal images and those with a mask."""
        masks = self.category.masks(table["row"].to_numpy(), self.side)
        known = [index for index, mask in enumerate(masks) if mask is not None]
        part = table.iloc[known]
        return localisation(
            [pixel_scores(heat[index], self.side).astype(np.float32) for index in known],
            [mask for mask in masks if mask is not None],
            self.sizes.bootstrap,
            strata=part["fold"].to_numpy(),
            clusters=part["group"].to_numpy() if _clustered(part) else None,
        )


def _note(benchmark: Benchmark, category: Category, sizes: Profile) -> str:
    """What the numbers must be read with: the benchmark's own note, and counts that are not the published ones."""
    notes = [category.note] if category.note else []
    published = benchmark.published(category.name)
    if published and not sizes.limit:
        is_normal = category.annotations.open()["anomaly_class"] == NORMAL
        here = int(is_normal.sum()), int((~is_normal).sum())
        there = published[NORMAL], sum(published.values()) - published[NORMAL]
        if here != there:
            notes.append(f"{here[0]} normal and {here[1]} anomalous images; published: {there[0]} and {there[1]}")
    return "; ".join(notes)


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now


def features_for(
    kind: Kind,
    levels: tuple[str, ...] | None,
    profile: profiles.Profile,
    category: Category,
    store: Store | None = None,
) -> Features:
    """Features of a category as a detector of ``kind`` needs them, at the profile's size.

    Parameters
    ----------
    kind : {"pooled", "maps", "pixels", "both"}
    levels : tuple of str, optional
        Whose maps are taken, see ``views.view``.
    """
    if isinstance(category.content, Features):
        return category.content
    side = category.input_side(profile.image_size)
    return view(kind, category.images, pretrained(profile.backbone), side, store or Store(), levels)


@lru_cache(maxsize=8)
def _category(benchmark: str, category: str, limit: int | None) -> Category:
    return benchmarks.get(benchmark).load(category, limit)


def matrix(
    methods: Sequence[str],
    benchmark: str,
    profile: str,
    categories: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Experiment]:
    """All combinations, by default over every category at hand, the recommended split and the profile's seeds.

    Methods that need pictures are left out where a benchmark gives features only.
    """
    known = benchmarks.get(benchmark)
    axes = itertools.product(
        # Nothing at hand: let the experiment itself say how to get it.
        categories or known.available() or known.categories,
        splits or known.splits[:1],
        profiles.get(profile).seeds if seeds is None else seeds,
        [method for method in methods if known.pictures or detectors.make(method).kind == "pooled"],
    )
    return [
        STUDY.experiment(benchmark, category, method, seed, profile, split) for category, split, seed, method in axes
    ]


def run_all(experiments: Iterable[Experiment], store: Store | None = None) -> list[Record]:
    """Run each experiment that has no record yet, and return the records in the same order."""
    store = store or Store()
    todo = list(experiments)
    # Methods that take maps first: the same pass leaves the pooled features in the store.
    ordered = sorted(todo, key=lambda e: detectors.make(e.variant).kind == "pooled")
    found = {e: record_of(STUDY.asked(e, store), store) for e in tqdm(ordered, desc="experiments", unit="run")}
    return [found[experiment] for experiment in todo]


def interval(record: Record, metric: str = "auroc", group: str = "target") -> Interval:
    """One metric of a record; see :func:`table`.

    Raises
    ------
    ValueError
        If the record has no such metric, or none of such a group.
    """
    for of, name, *values in record.rows:
        if (of, name) == (group, metric):
            return Interval.model_validate(dict(zip(record.columns[2:], values, strict=True)))
    raise ValueError(f"{record.experiment.name} has no {metric} of {group!r}: it has {', '.join(groups(record))}.")


def groups(record: Record) -> list[str]:
    """The groups of images that a record has metrics of."""
    return list(dict.fromkeys(str(row[0]) for row in record.rows))


def table(found: Iterable[Record], metric: str = "auroc", group: str = "target") -> pd.DataFrame:
    """One row a record: its coordinates, and ``value``, ``low`` and ``high`` of one metric.

    Parameters
    ----------
    found : iterable of Record
    metric : str
        ``auroc``, ``average_precision``, ``fpr_at_95_tpr`` or ``spearman``.
    group : str
        ``target``, ``within group``, ``minus grouped``, ``all``, an anomaly class, ``grade`` or ``pixel`` (see
        :func:`request`).

    Raises
    ------
    ValueError
        If a record has no such metric.
    """
    rows = []
    for record in found:
        where = record.experiment.model_dump(exclude={"study", "variant"})
        rows.append({STUDY.axis: record.experiment.variant, **where, **interval(record, metric, group).model_dump()})
    return pd.DataFrame(rows)


def recorded(methods: Iterable[str], profile: str = "study") -> pd.DataFrame:
    """Headline AUROC of recorded runs, by the recommended split of each benchmark and of seed 0.

    Parameters
    ----------
    methods : iterable of str
    profile : str

    Returns
    -------
    DataFrame
        As :func:`table`.

    Raises
    ------
    StoreError
        If there are no recorded runs of the profile.
    """
    found = recommended(records.frame(STUDY.name, profile))
    return found[found["method"].isin(set(methods)) & (found["seed"] == 0)].reset_index(drop=True)


def recommended(frame: pd.DataFrame, metric: str = "auroc", group: str = "target") -> pd.DataFrame:
    """One metric by the recommended split of each benchmark.

    Parameters
    ----------
    frame : DataFrame
        Rows of this study.
    metric, group : str
        See :func:`table`.

    Returns
    -------
    DataFrame
        As :func:`table`.
    """
    split = {name: benchmarks.get(name).splits[0] for name in frame["benchmark"].unique()}
    rows = frame[(frame["metric"] == metric) & (frame["group"] == group)]
    return rows[rows["split"] == rows["benchmark"].map(split)].drop(columns=["metric", "group"])


def by_group(record: Record, store: Store | None = None) -> pd.DataFrame:
    """What the headline number is made of: counts and AUROC of each group, indexed by group.

    Groups without both normal and anomalous images have no AUROC (NaN).
    """
    rows = []
    for name, part in _targets(record, store).groupby("group"):
        positive = (part["anomaly_class"] != NORMAL).to_numpy()
        row = {"group": name, "normal": int((~positive).sum()), "anomalous": int(positive.sum())}
        if 0 < positive.sum() < len(positive):
            found = evaluate(part["score"].to_numpy(), positive, None, int(record.settings["bootstrap"]))
            row |= found["auroc"].model_dump()
        rows.append(row)
    return pd.DataFrame(rows).set_index("group")


def compare(first: Record, second: Record, within: str = "fold", store: Store | None = None) -> dict[str, Interval]:
    """Headline metrics of ``first`` minus those of ``second``, paired on the images that both scored.

    Parameters
    ----------
    first, second : Record
    within : {"fold", "group"}
        Compare images that one model scored, in the first record and in the second (their folds may differ); or
        images of the same group, whichever models scored them.

    Raises
    ------
    ValueError
        If the records are of different images.
    """
    return _paired(_targets(first, store), _targets(second, store), within, int(first.settings["bootstrap"]))


def _paired(first: pd.DataFrame, second: pd.DataFrame, within: str, n_bootstrap: int) -> dict[str, Interval]:
    a, b = first.set_index("id"), second.set_index("id")
    if set(a.index) != set(b.index):
        raise ValueError("Two records can be compared only if they scored the same images.")
    b = b.loc[a.index]
    return paired_difference(
        a["score"].to_numpy(),
        b["score"].to_numpy(),
        (a["anomaly_class"] != NORMAL).to_numpy(),
        (a["group"] if within == "group" else a["fold"].astype(str) + "/" + b["fold"].astype(str)).to_numpy(),
        n_bootstrap,
        clusters=a["group"].to_numpy() if _clustered(a) else None,
    )


def _clustered(table: pd.DataFrame) -> bool:
    """Whether whole groups are resampled: not where they are few, and each is a fold of its own."""
    return not are_few(table["group"])


def _targets(record: Record, store: Store | None) -> pd.DataFrame:
    """Scores of the normal images and of the headline anomaly classes."""
    return _headline(scores(record, store), benchmarks.get(record.experiment.benchmark).target_classes)


def _headline(table: pd.DataFrame, target_classes: Sequence[str]) -> pd.DataFrame:
    """Rows of normal images and of the headline anomaly classes (all, if none are named)."""
    wanted = set(target_classes) or set(table["anomaly_class"])
    return table[table["anomaly_class"].isin({NORMAL, *wanted})]


def _within_group(table: pd.DataFrame, target_classes: Sequence[str], n_bootstrap: int) -> dict[str, Interval] | None:
    """Headline metrics with images compared only with those of their own group; None if no group has both labels.

    Where a group's share of anomalies varies, the plain metric also rewards telling groups apart; this does not. With
    random folds a group's images were scored by several models, fitted on exchangeable parts of the data.
    """
    part = _headline(table, target_classes)
    positive = (part["anomaly_class"] != NORMAL).to_numpy()
    groups = part["group"].to_numpy()
    try:
        return evaluate(part["score"].to_numpy(), positive, groups, n_bootstrap)
    except EvaluationError:
        return None


STUDY = Study(
    "detection", request, tuple(detectors.methods()), "gaussian", lambda method: (method,), axis="method", by_split=True
)
run = STUDY.run
