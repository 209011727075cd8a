"""An experiment is a pure function of (method, benchmark, category, split, seed, profile): it is run once.

The chapters, the command line and Snakemake all come here.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from tqdm import tqdm

from anomaly_transfer import backbones, benchmarks, detectors, profiles, records
from anomaly_transfer.backbones import Backbone
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.errors import EvaluationError, StoreError
from anomaly_transfer.evaluation import Interval, evaluate, evaluate_table, paired_difference
from anomaly_transfer.features import Features, default_device, default_engine, map_levels
from anomaly_transfer.fingerprint import code_hash, digest
from anomaly_transfer.labels import NORMAL
from anomaly_transfer.records import Experiment, Provenance, Record
from anomaly_transfer.splits import SPLITS
from anomaly_transfer.store import Store

#: Registries and the profile reader choose what is run; what they chose is in the key itself.
CODE = "anomaly_transfer.experiments"


def matrix(
    methods: Sequence[str],
    benchmark: str,
    profile: str,
    categories: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Experiment]:
    """All combinations, by default over every category, the recommended split and the profile's seeds."""
    known = benchmarks.get(benchmark)
    axes = itertools.product(
        categories or known.categories,
        splits or known.splits[:1],
        profiles.get(profile).seeds if seeds is None else seeds,
        methods,
    )
    return [
        Experiment(method=method, benchmark=benchmark, category=category, split=split, seed=seed, profile=profile)
        for category, split, seed, method in axes
    ]


def run_all(experiments: Iterable[Experiment], store: Store | None = None) -> list[Record]:
    """Run each experiment that has no record yet, and return the records in the same order."""
    store = store or Store()
    todo = list(experiments)
    return [run(experiment, store) for experiment in tqdm(todo, desc="experiments", unit="run")]


def run(experiment: Experiment, store: Store | None = None) -> Record:
    """The record of one experiment: from the store if nothing it depends on has changed, else computed.

    Raises
    ------
    ValueError
        If a name is unknown.
    AnomalyTransferError
        If data or weights cannot be used; the message names the fix.
    """
    store = store or Store()
    plan = _Plan(experiment)
    folder = store.path("records", plan.key)
    with store.locked("records", plan.key):
        if folder.is_dir():
            try:
                return records.read(folder)
            except StoreError:
                pass  # damaged: compute it again
        record, scores = plan.compute(store)
        with store.writing("records", plan.key) as target:
            records.write(target, record, scores)
    return record


def scores(record: Record, store: Store | None = None) -> pd.DataFrame:
    """Per-image scores behind a record that :func:`run` returned."""
    return records.read_scores((store or Store()).path("records", record.key))


def table(found: Iterable[Record], metric: str = "auroc", group: str = "target") -> pd.DataFrame:
    """One row a record: its coordinates, and ``value``, ``low`` and ``high`` of one metric.

    Parameters
    ----------
    found : iterable of Record
    metric : str
        ``auroc``, ``average_precision``, ``fpr_at_95_tpr`` or ``spearman``.
    group : str
        ``target``, ``within group``, ``all``, an anomaly class, or ``grade`` (see :class:`Record`).
    """
    return pd.DataFrame(
        [record.experiment.model_dump() | record.metrics[group][metric].model_dump() for record in found]
    )


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
        Compare images of the same fold (for two detectors on one split) or of the same group (across splits).

    Raises
    ------
    ValueError
        If the records are of different images, or of different folds with ``within="fold"``.
    """
    a, b = (_targets(record, store).set_index("id") for record in (first, second))
    if set(a.index) != set(b.index):
        raise ValueError("Two records can be compared only if they scored the same images.")
    b = b.loc[a.index]
    if not a[within].equals(b[within]):
        raise ValueError('The records have different folds: compare them within="group".')
    return paired_difference(
        a["score"].to_numpy(),
        b["score"].to_numpy(),
        (a["anomaly_class"] != NORMAL).to_numpy(),
        a[within].to_numpy(),
        int(first.settings["bootstrap"]),
    )


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
    try:
        return evaluate(part["score"].to_numpy(), positive, part["group"].to_numpy(), n_bootstrap)
    except EvaluationError:
        return None


class _Plan:
    """One experiment with everything it depends on resolved, and its key."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.profile = profiles.get(experiment.profile)
        self.benchmark = benchmarks.get(experiment.benchmark)
        if experiment.split not in self.benchmark.splits:
            raise ValueError(
                f"{experiment.benchmark} has no split {experiment.split!r}; choose from "
                f"{', '.join(self.benchmark.splits)}."
            )
        self.category = _category(experiment.benchmark, experiment.category, self.profile.limit)
        self.detector = detectors.make(experiment.method, seed=experiment.seed, memory_bank=self.profile.memory_bank)
        self.settings = self.profile.model_dump(include=set(_SIZES))
        self.code = code_hash(CODE, type(self.detector).__module__, type(self.benchmark).__module__)
        self.data = digest([self.category.images.fingerprint, self.category.annotations.fingerprint])
        self.weights = _weights_hash(self.profile.backbone)
        self.key = digest([experiment.model_dump(), self.settings, self.code, self.data, self.weights])

    def compute(self, store: Store) -> tuple[Record, pd.DataFrame]:
        """Run the experiment."""
        annotations = self.category.annotations.open()
        folds = SPLITS[self.experiment.split](annotations, self.experiment.seed)
        clock = _Clock()
        features = features_for(self.detector.kind, self.detector.levels, self.profile, self.category, store)
        clock.lap("features")
        parts = []
        for number, fold in enumerate(folds):
            self.detector.fit(features.take(fold.train))
            clock.lap("fit")
            part = annotations.iloc[fold.test][["id", "group", "anomaly_class", "grade"]]
            parts.append(part.assign(fold=number, score=self.detector.anomaly_score(features.take(fold.test))))
            clock.lap("score")
        result = pd.concat(parts, ignore_index=True)
        targets, bootstrap = self.benchmark.target_classes, self.profile.bootstrap
        metrics = evaluate_table(result, targets, "fold", bootstrap)
        within = _within_group(result, targets, bootstrap)
        if within:
            metrics["within group"] = within
        clock.lap("evaluate")
        record = Record(
            key=self.key,
            experiment=self.experiment,
            settings=self.settings,
            metrics=metrics,
            counts={str(name): int(n) for name, n in annotations["anomaly_class"].value_counts().items()},
            provenance=Provenance(
                code=self.code,
                data=self.data,
                weights=self.weights,
                versions=records.versions(),
                hardware=records.hardware(),
                device=default_device(),
                engine=default_engine(default_device()),
                seconds=clock.laps,
                peak_memory_mb=round(_peak_memory() / 2**20, 1),
                date=records.now(),
            ),
        )
        return record, result


_SIZES = ("backbone", "image_size", "images_per_category", "bootstrap", "memory_bank")


def features_for(
    kind: str,
    levels: tuple[str, ...] | None,
    profile: profiles.Profile,
    category: Category,
    store: Store | None = None,
) -> Features:
    """Features of a category as a detector of ``kind`` needs them, at the profile's size.

    Parameters
    ----------
    kind : {"pooled", "maps"}
    levels : tuple of str, optional
        Default: all levels pooled, or the maps of strides 8 and 16.
    """
    backbone = _backbone(profile.backbone)
    store = store or Store()
    if kind == "pooled":
        return store.features(category.images, backbone, profile.image_size)
    return store.features(category.images, backbone, profile.image_size, levels or map_levels(backbone))


@lru_cache(maxsize=2)
def _backbone(name: str) -> Backbone:
    return backbones.load(name)


@lru_cache(maxsize=8)
def _weights_hash(name: str) -> str:
    return backbones.weights_hash(name)


@lru_cache(maxsize=8)
def _category(benchmark: str, category: str, limit: int | None) -> Category:
    return benchmarks.get(benchmark).load(category, limit)


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = round(self.laps.get(stage, 0.0) + now - self._last, 3)
        self._last = now


def _peak_memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().rss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def export(found: Iterable[Record], folder: Path) -> int:
    """Copy records (without scores) as one JSON file each, for ``results/``; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for record in found:
        path = folder / f"{record.experiment.slug}.json"
        path.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        number += 1
    return number


def mean_over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean of ``value``, ``low`` and ``high`` over seeds, one row a (method, benchmark, category, split)."""
    axes = ["method", "benchmark", "category", "split"]
    return frame.groupby(axes, sort=False)[["value", "low", "high"]].agg(np.mean).reset_index()
