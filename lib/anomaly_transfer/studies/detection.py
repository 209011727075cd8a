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
from tqdm import tqdm

from anomaly_transfer import atomic, benchmarks, detectors, profiles
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.code_used import Code, code_of
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import duplicates
from anomaly_transfer.data.splits import N_FOLDS, SPLITS
from anomaly_transfer.detectors.base import Localiser, pixel_scores
from anomaly_transfer.device import engines
from anomaly_transfer.errors import EvaluationError, StoreError
from anomaly_transfer.features import pixels
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.inputs import Kind, view
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.metrics.bootstrap import Interval
from anomaly_transfer.metrics.localisation import localisation
from anomaly_transfer.metrics.ranking import evaluate, evaluate_table, paired_difference
from anomaly_transfer.networks import backbones
from anomaly_transfer.networks.backbones import pretrained
from anomaly_transfer.provenance import Provenance
from anomaly_transfer.store import Store
from anomaly_transfer.studies import records
from anomaly_transfer.studies.records import Experiment, Record

#: The split without leak, with which the others are compared.
GROUPED = "grouped"


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
    plan = Plan(experiment)
    folder = store.path("records", plan.key)
    with store.locked("records", plan.key):
        if folder.is_dir():
            try:
                return records.read(folder)
            except StoreError:
                pass  # damaged: compute it again
        with engines() as used:
            record, scores = plan.compute(store, used)
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
        ``target``, ``within group``, ``minus grouped``, ``all``, an anomaly class, ``grade`` or ``pixel`` (see
        :class:`Record`).
    """
    return pd.DataFrame(
        [record.experiment.model_dump() | record.metrics[group][metric].model_dump() for record in found]
    )


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
    wanted = set(methods)
    found = recommended(records.recorded(profile))
    return table(r for r in found if r.experiment.method in wanted and r.experiment.seed == 0)


def recommended(found: Iterable[Record]) -> list[Record]:
    """Those records that are by the recommended split of their benchmark."""
    return [r for r in found if r.experiment.split == benchmarks.get(r.experiment.benchmark).splits[0]]


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
    return table["group"].nunique() > N_FOLDS


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


def code(method: str) -> Code:
    """The code that a detector's records depend on."""
    return code_of(f"{__name__}:Plan.compute", detectors.place(method))


class Plan:
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
        if self.detector.kind != "pooled" and not self.benchmark.pictures:
            raise ValueError(
                f"{experiment.benchmark} gives one feature vector an image: {experiment.method} needs pictures."
            )
        self.image_size = (
            pixels.SIDE if self.detector.kind == "pixels" else self.category.input_side(self.profile.image_size)
        )
        self.settings = self.profile.model_dump(include=set(_SIZES)) | {"image_size": self.image_size}
        if not self.benchmark.pictures:
            self.settings |= {"backbone": "as the benchmark gives them", "image_size": 0}
        self.code = code(experiment.method)
        self.data = digest([self.category.fingerprint, self.benchmark.protocol])
        self.weights = _weights_hash(self.profile.backbone) if self.benchmark.pictures else "none"
        self.key = digest([experiment.model_dump(), self.settings, self.code.hash, self.data, self.weights])

    def compute(self, store: Store, used: set[str]) -> tuple[Record, pd.DataFrame]:
        """Run the experiment; ``used`` are the engines that have run when it is over."""
        annotations = self.category.annotations.open()
        folds = SPLITS[self.experiment.split](annotations, self.experiment.seed)
        clock = _Clock()
        features = features_for(self.detector.kind, self.detector.levels, self.profile, self.category, store)
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
        result = pd.concat(parts, ignore_index=True)
        metrics = self._metrics(result, heat, store)
        clock.lap("evaluate")
        record = Record(
            key=self.key,
            experiment=self.experiment,
            settings=self.settings,
            metrics=metrics,
            counts={str(name): int(n) for name, n in result["anomaly_class"].value_counts().items()},
            fitted_on=tuple(len(fold.train) for fold in folds),
            duplicates=n_duplicates,
            note=self._note(annotations),
            provenance=Provenance.now(self.code, self.data, self.weights, used, clock.laps),
        )
        return record, result.drop(columns="row")

    def _metrics(self, result: pd.DataFrame, heat: list[np.ndarray], store: Store) -> dict[str, dict[str, Interval]]:
        """All that a record holds (see :class:`Record`); ``heat`` are the maps of a localiser, fold by fold."""
        targets, bootstrap = self.benchmark.target_classes, self.profile.bootstrap
        metrics = evaluate_table(result, targets, "fold", bootstrap, cluster="group" if _clustered(result) else None)
        within = _within_group(result, targets, bootstrap)
        if within:
            metrics["within group"] = within
        if self.experiment.split != GROUPED and GROUPED in self.benchmark.splits:
            metrics["minus grouped"] = self._minus_grouped(result, store)
        if heat:
            metrics["pixel"] = self._localisation(result, np.concatenate(heat))
        return metrics

    def _minus_grouped(self, result: pd.DataFrame, store: Store) -> dict[str, Interval]:
        """By how much the split flatters: headline metrics minus those of the grouped split, on the same images."""
        grouped = run(self.experiment.model_copy(update={"split": GROUPED}), store)
        targets = self.benchmark.target_classes
        return _paired(_headline(result, targets), _targets(grouped, store), "fold", self.profile.bootstrap)

    def _localisation(self, result: pd.DataFrame, heat: np.ndarray) -> dict[str, Interval]:
        """Pixel metrics at the network's input size, over normal images and those with a mask."""
        masks = self.category.masks(result["row"].to_numpy(), self.image_size)
        known = [index for index, mask in enumerate(masks) if mask is not None]
        part = result.iloc[known]
        return localisation(
            [pixel_scores(heat[index], self.image_size).astype(np.float32) for index in known],
            [mask for mask in masks if mask is not None],
            self.profile.bootstrap,
            strata=part["fold"].to_numpy(),
            clusters=part["group"].to_numpy() if _clustered(part) else None,
        )

    def _note(self, annotations: pd.DataFrame) -> str:
        """What the numbers must be read with: the benchmark's own note, and counts that are not the published ones."""
        notes = [self.category.note] if self.category.note else []
        published = self.benchmark.published(self.category.name)
        if published and not self.profile.limit:
            is_normal = annotations["anomaly_class"] == NORMAL
            here = int(is_normal.sum()), int((~is_normal).sum())
            there = published[NORMAL], sum(published.values()) - published[NORMAL]
            if here != there:
                notes.append(f"{here[0]} normal and {here[1]} anomalous images; published: {there[0]} and {there[1]}")
        return "; ".join(notes)


_SIZES = ("backbone", "image_size", "images_per_category", "bootstrap", "memory_bank")


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
        Whose maps are taken, see ``inputs.view``.
    """
    if isinstance(category.content, Features):
        return category.content
    side = category.input_side(profile.image_size)
    return view(kind, category.images, pretrained(profile.backbone), side, store or Store(), levels)


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
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now


def export(found: Iterable[Record], folder: Path) -> int:
    """Copy records (without scores) as one JSON file each, whole or not at all, for ``results/``; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for record in found:
        with atomic.writing(folder / f"{record.experiment.slug}.json", force=True) as path:
            path.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        number += 1
    return number
