"""Tables: what an experiment measured that is not one detector's record. Kept and recorded like records."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from anomaly_transfer import atomic, benchmarks, detectors
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.code_used import Code, code_of
from anomaly_transfer.device import engines
from anomaly_transfer.errors import StoreError
from anomaly_transfer.features.features import Features
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.networks import backbones
from anomaly_transfer.profiles import Profile
from anomaly_transfer.provenance import Provenance
from anomaly_transfer.settings import results_folder
from anomaly_transfer.store import Store

FILE = "table.json"
DIGITS = 5


#: What of a profile the features of the four networks depend on.
SIZES = ("backbone", "image_size", "images_per_category", "self_supervised_images", "self_supervised_epochs")


class Table(BaseModel):
    """One experiment's rows with what they were computed from.

    Attributes
    ----------
    key : str
        Hash of study, coordinates, settings, code, data and weights.
    study : str
        The kind of experiment, e.g. ``"relations"``.
    coordinates : dict
        What was asked: benchmark, category, ..., seed, profile.
    settings : dict
        Sizes at the time.
    note : str
        What the numbers must be read with.
    columns, rows : list
        The table, floats to five significant digits.
    provenance : Provenance
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    key: str
    study: str
    coordinates: dict[str, str | int]
    settings: dict[str, str | int]
    note: str = ""
    columns: list[str]
    rows: list[list[str | float | int | None]]
    provenance: Provenance

    @property
    def slug(self) -> str:
        """A readable, unique file name."""
        return "__".join([self.study, *(str(value) for value in self.coordinates.values())])

    def frame(self) -> pd.DataFrame:
        """The rows, with the coordinates as further columns."""
        return pd.DataFrame(self.rows, columns=self.columns).assign(**self.coordinates)


@dataclass(frozen=True)
class Request:
    """One experiment that is asked for, with everything that its table depends on.

    Attributes
    ----------
    study : Study
    coordinates, settings, note
        See :class:`Table`.
    code : Code
        What computes it.
    data, weights : str
        Hashes.
    compute : callable
        Gives the rows.
    """

    study: Study
    coordinates: dict[str, str | int]
    settings: dict[str, str | int]
    code: Code
    data: str
    weights: str
    compute: Callable[[], pd.DataFrame]
    note: str = ""

    @property
    def key(self) -> str:
        """Hash of all that the rows depend on."""
        return digest([self.study.name, self.coordinates, self.settings, self.code.hash, self.data, self.weights])


@dataclass(frozen=True)
class Study:
    """A kind of experiment whose results are tables.

    Attributes
    ----------
    name : str
    request : callable
        From benchmark, category, variant, seed, profile and store to a :class:`Request`: a function of a module, from
        which everything that computes is reached.
    variants : tuple of str
    default : str
        One of them.
    methods : callable
        Names of the detectors that a variant looks up, whose code counts too.
    axis : str
        The coordinate that a variant is.
    """

    name: str
    request: Callable[[str, str, str, int, str, Store], Request]
    variants: tuple[str, ...]
    default: str
    methods: Callable[[str], Sequence[str]] = lambda variant: ()
    axis: str = "variant"

    def code(self, variant: str) -> Code:
        """The code that a variant's numbers depend on."""
        function = self.request
        places = [detectors.place(method) for method in self.methods(variant)]
        return code_of(f"{function.__module__}:{function.__qualname__}", *places)

    def check(self, variant: str) -> None:
        """Raise ValueError unless there is such a variant."""
        if variant not in self.variants:
            raise ValueError(f"There is no variant {variant!r}; choose from {', '.join(self.variants)}.")

    def run(
        self, benchmark: str, category: str, variant: str, seed: int, profile: str, store: Store | None = None
    ) -> Table:
        """The table of one experiment: from the store if nothing it depends on has changed, else computed.

        Parameters
        ----------
        benchmark, category : str
        variant : str
            One of :attr:`variants`.
        seed : int
        profile : str
        store : Store, optional

        Raises
        ------
        ValueError
            If a name is unknown.
        AnomalyTransferError
            If data or weights cannot be used; the message names the fix.
        """
        self.check(variant)
        store = store or Store()
        return kept(self.request(benchmark, category, variant, seed, profile, store), store)


def kept(asked: Request, store: Store) -> Table:
    """The table that is asked for: from the store if nothing it depends on has changed, else computed."""
    with store.locked("tables", asked.key):
        path = store.path("tables", asked.key) / FILE
        if path.is_file():
            try:
                return Table.model_validate_json(path.read_text(encoding="utf-8"))
            except ValidationError:
                pass  # damaged: compute it again
        start = time.perf_counter()
        variant = str(asked.coordinates[asked.study.axis])
        with detectors.only(asked.study.methods(variant)), engines() as used:
            frame = asked.compute()
        seconds = {"all": time.perf_counter() - start}
        found = Table(
            key=asked.key,
            study=asked.study.name,
            coordinates=asked.coordinates,
            settings=asked.settings,
            note=asked.note,
            columns=list(frame.columns),
            rows=[[_short(value) for value in row] for row in frame.itertuples(index=False)],
            provenance=Provenance.now(asked.code, asked.data, asked.weights, used, seconds),
        )
        with store.writing("tables", asked.key) as folder:
            (folder / FILE).write_text(found.model_dump_json(), encoding="utf-8")
    return found


def export(found: Sequence[Table], folder: Path) -> None:
    """Write tables as one JSON file each, whole or not at all, for ``results/tables/PROFILE``."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in found:
        with atomic.writing(folder / f"{table.slug}.json", force=True) as path:
            path.write_text(table.model_dump_json() + "\n", encoding="utf-8")


def recorded(profile: str, study: str) -> list[Table]:
    """The tables of one kind that are recorded under ``results/tables``, in the package's wheel or the repository.

    Raises
    ------
    StoreError
        If there are none, or one is damaged.
    """
    found = []
    for path in sorted((results_folder() / "tables" / profile).glob(f"{study}__*.json")):
        try:
            found.append(Table.model_validate_json(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise StoreError(f"The recorded table {path} is damaged: restore it from the repository.") from error
    if not found:
        raise StoreError(
            f"There are no recorded tables {study!r} of the profile {profile!r}: `make study` records them."
        )
    return found


def _short(value) -> str | float | int | None:
    """A value as it is written: five significant digits, and nothing for NaN."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return None
    if float(value).is_integer():
        return int(value)
    return float(f"{float(value):.{DIGITS}g}")


def request(
    study: Study,
    settings: Sequence[str],
    category: Category,
    variant: str,
    seed: int,
    sizes: Profile,
    compute: Callable[[], pd.DataFrame],
    others: Sequence[Category] = (),
) -> Request:
    """One experiment on one category, with everything that its table depends on.

    Parameters
    ----------
    study : Study
    settings : sequence of str
        Names of the profile's sizes on which the numbers depend.
    category : Category
        All of its images count.
    variant : str
    seed : int
    sizes : Profile
    compute : callable
        Gives the rows.
    others : sequence of Category
        Further categories whose data are used.
    """
    pictures = not isinstance(category.content, Features)
    where: dict[str, str | int] = {"benchmark": category.benchmark, "category": category.name}
    data = [benchmarks.get(category.benchmark).protocol, *(part.fingerprint for part in (category, *others))]
    return Request(
        study=study,
        coordinates={**where, study.axis: variant, "seed": seed, "profile": sizes.name},
        settings=sizes.model_dump(include=set(settings)),
        code=study.code(variant),
        data=digest(data),
        weights=backbones.weights_hash(sizes.backbone) if pictures else "none",
        compute=compute,
        note=category.note,
    )
