"""What a study is: a kind of experiment that is asked for by name, computed once, kept and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from anomaly_transfer import benchmarks, detectors
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.code_used import Code, code_of
from anomaly_transfer.device import engines
from anomaly_transfer.features.features import Features
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.networks import backbones
from anomaly_transfer.profiles import Profile
from anomaly_transfer.provenance import Provenance
from anomaly_transfer.store import Store
from anomaly_transfer.studies.records import Experiment, Record, rows_of

RECORD, SCORES = "record.json", "scores.csv"
#: Where the side of a network's input is that of self-supervised training.
SELF_SUPERVISED = "self-supervised"
#: What of a profile the features of the four networks depend on.
SIZES = ("backbone", "image_size", "images_per_category", "self_supervised_images", "self_supervised_epochs")


@dataclass(frozen=True)
class Result:
    """What one experiment gives.

    Attributes
    ----------
    rows : DataFrame
        What was measured.
    facts : dict
        See :class:`~anomaly_transfer.studies.records.Record`.
    scores : DataFrame, optional
        One row an image; kept in the store, not recorded.
    seconds : dict of str to float
        By stage, if it has several.
    """

    rows: pd.DataFrame
    facts: dict[str, Any] = field(default_factory=dict)
    scores: pd.DataFrame | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One experiment that is asked for, with everything that its record depends on.

    Attributes
    ----------
    study : Study
    experiment, settings, note
        See :class:`~anomaly_transfer.studies.records.Record`.
    data, weights : str
        Hashes.
    compute : callable
        Gives the result.
    """

    study: Study
    experiment: Experiment
    settings: dict[str, str | int]
    data: str
    weights: str
    compute: Callable[[], Result]
    note: str = ""

    @property
    def code(self) -> Code:
        """What computes it."""
        return self.study.code(self.experiment.variant)

    @property
    def key(self) -> str:
        """Hash of all that the result depends on."""
        return digest([self.experiment.model_dump(), self.settings, self.code.hash, self.data, self.weights])


@dataclass(frozen=True)
class Work:
    """What an experiment passes through a network that it trains.

    Attributes
    ----------
    side : str or None
        Of the input: the profile's size of this name, or :data:`SELF_SUPERVISED`; None for the small network, which is
        the same at every profile.
    images, epochs, folds : int
        Images of an epoch with their gradients back.
    looked : int
        Images of an epoch that are looked at only: to estimate, to validate and to test.
    trained : bool
        Whether gradients go back; not where a head alone is trained.
    kept : bool
        Whether the network of every epoch is kept, and not the last alone.
    """

    side: str | None
    images: int
    epochs: int
    folds: int = 1
    looked: int = 0
    trained: bool = True
    kept: bool = True


@dataclass(frozen=True)
class Study:
    """A kind of experiment. A module of this package that ends with ``STUDY = Study(...)``, and has its name, is one.

    Attributes
    ----------
    name : str
    request : callable
        From an experiment and a store to a :class:`Request`: a function of a module, from which everything that
        computes is reached. It raises a ValueError for what the study cannot be of, and an AnomalyTransferError
        where data or weights cannot be used.
    variants : tuple of str
        Where they are detectors, each may be restricted to levels (see ``detectors.make``).
    default : str
        One of them.
    methods : callable
        Names of the detectors that a variant looks up, whose code counts too.
    axis : str
        What a variant is, as a column of analyses.
    by_split : bool
        Whether the benchmark's splits are an axis.
    work : callable, optional
        From an experiment and a profile to the :class:`Work` of its training; None if it trains no network.
    memory : tuple of str
        Measured cases of ``results/memory.csv``, by their first word, of which the largest stands for it.
    package : str, optional
        Of another distribution, without which it cannot be run.
    """

    name: str
    request: Callable[..., Request]
    variants: tuple[str, ...]
    default: str
    methods: Callable[[str], Sequence[str]] = lambda variant: ()
    axis: str = "variant"
    by_split: bool = False
    work: Callable[[Experiment, Profile], Work | None] = lambda experiment, sizes: None
    memory: tuple[str, ...] = ("run",)
    package: str | None = None

    def code(self, variant: str) -> Code:
        """The code that a variant's numbers depend on."""
        function = self.request
        places = [detectors.place(method) for method in self.methods(variant)]
        return code_of(f"{function.__module__}:{function.__qualname__}", *places)

    def check(self, variant: str) -> None:
        """Raise ValueError unless there is such a variant."""
        if variant.partition("@")[0] not in self.variants:
            raise ValueError(f"There is no variant {variant!r}; choose from {', '.join(self.variants)}.")

    def run(
        self,
        benchmark: str,
        category: str,
        variant: str,
        seed: int,
        profile: str,
        store: Store | None = None,
        split: str = "",
    ) -> Record:
        """The record of one experiment: from the store if nothing it depends on has changed, else computed.

        Parameters
        ----------
        benchmark, category : str
        variant : str
            One of :attr:`variants`.
        seed : int
        profile : str
        store : Store, optional
        split : str
            Of a study by splits: one of the benchmark's; default: the recommended one.

        Raises
        ------
        ValueError
            If a name is unknown.
        AnomalyTransferError
            If data or weights cannot be used; the message names the fix.
        """
        store = store or Store()
        return record_of(self.asked(self.experiment(benchmark, category, variant, seed, profile, split), store), store)

    def experiment(
        self, benchmark: str, category: str, variant: str, seed: int, profile: str, split: str = ""
    ) -> Experiment:
        """The coordinates of one experiment; parameters as of :meth:`run`."""
        return Experiment(
            study=self.name,
            variant=variant,
            benchmark=benchmark,
            category=category,
            split=split or (benchmarks.get(benchmark).splits[0] if self.by_split else ""),
            seed=seed,
            profile=profile,
        )

    def asked(self, experiment: Experiment, store: Store) -> Request:
        """One experiment, resolved but not computed; errors as of :meth:`run`."""
        self.check(experiment.variant)
        if experiment.split and not self.by_split:
            raise ValueError(f"The study {self.name!r} has a division of its own, and no split {experiment.split!r}.")
        return self.request(experiment, store)


def request(
    study: Study,
    asked: Experiment,
    settings: Sequence[str],
    category: Category,
    sizes: Profile,
    compute: Callable[[], pd.DataFrame],
    others: Sequence[Category] = (),
) -> Request:
    """One experiment on one category, with everything that its record depends on.

    Parameters
    ----------
    study : Study
    asked : Experiment
    settings : sequence of str
        Names of the profile's sizes on which the numbers depend.
    category : Category
        All of its images count.
    sizes : Profile
    compute : callable
        Gives the rows.
    others : sequence of Category
        Further categories whose data are used.
    """
    pictures = not isinstance(category.content, Features)
    data = [benchmarks.get(category.benchmark).protocol, *(part.fingerprint for part in (category, *others))]
    return Request(
        study=study,
        experiment=asked,
        settings=sizes.model_dump(include=set(settings)),
        data=digest(data),
        weights=backbones.weights_hash(sizes.backbone) if pictures else "none",
        compute=lambda: Result(compute()),
        note=category.note,
    )


def record_of(asked: Request, store: Store) -> Record:
    """The record that is asked for: from the store if nothing it depends on has changed, else computed."""
    with store.locked("records", asked.key):
        path = store.path("records", asked.key) / RECORD
        if path.is_file():
            try:
                return Record.model_validate_json(path.read_text(encoding="utf-8"))
            except ValueError:
                pass  # damaged: compute it again
        start = time.perf_counter()
        with detectors.only(asked.study.methods(asked.experiment.variant)), engines() as used:
            result = asked.compute()
        seconds = result.seconds or {"all": time.perf_counter() - start}
        found = Record(
            key=asked.key,
            experiment=asked.experiment,
            axis=asked.study.axis,
            settings=asked.settings,
            note=asked.note,
            facts=result.facts,
            columns=list(result.rows.columns),
            rows=rows_of(result.rows),
            provenance=Provenance.now(asked.code, asked.data, asked.weights, used, seconds),
        )
        with store.writing("records", asked.key) as folder:
            (folder / RECORD).write_text(found.model_dump_json(), encoding="utf-8")
            if result.scores is not None:
                result.scores.to_csv(folder / SCORES, index=False)
    return found


def scores(record: Record, store: Store | None = None) -> pd.DataFrame:
    """Per-image scores behind a record that a study's ``run`` returned, where it keeps them."""
    return pd.read_csv((store or Store()).path("records", record.key) / SCORES)
