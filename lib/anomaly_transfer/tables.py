"""Tables: what an experiment measured that is not one detector's record. Kept and recorded like records."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from anomaly_transfer import records
from anomaly_transfer.errors import StoreError
from anomaly_transfer.features import default_device, default_engine
from anomaly_transfer.fingerprint import code_hash, digest
from anomaly_transfer.places import results_folder
from anomaly_transfer.records import Provenance
from anomaly_transfer.store import Store

FILE = "table.json"
DIGITS = 5


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


def kept(
    study: str,
    module: str,
    coordinates: dict[str, str | int],
    settings: dict[str, str | int],
    data: str,
    weights: str,
    compute: Callable[[], pd.DataFrame],
    note: str = "",
    store: Store | None = None,
) -> Table:
    """The table of one experiment: from the store if nothing it depends on has changed, else computed.

    Parameters
    ----------
    study, coordinates, settings, note
        See :class:`Table`.
    module : str
        The module whose code, with all it imports, the numbers depend on.
    data, weights : str
        Hashes.
    compute : callable
        Gives the rows.
    store : Store, optional
    """
    store = store or Store()
    code = code_hash(module)
    key = digest([study, coordinates, settings, code, data, weights])
    with store.locked("tables", key):
        path = store.path("tables", key) / FILE
        if path.is_file():
            try:
                return Table.model_validate_json(path.read_text(encoding="utf-8"))
            except ValidationError:
                pass  # damaged: compute it again
        start = time.perf_counter()
        frame = compute()
        found = Table(
            key=key,
            study=study,
            coordinates=coordinates,
            settings=settings,
            note=note,
            columns=list(frame.columns),
            rows=[[_short(value) for value in row] for row in frame.itertuples(index=False)],
            provenance=Provenance(
                code=code,
                data=data,
                weights=weights,
                versions=records.versions(),
                hardware=records.hardware(),
                device=default_device(),
                engine=default_engine(default_device()),
                seconds={"all": round(time.perf_counter() - start, 3)},
                peak_memory_mb=records.peak_memory_mb(),
                date=records.now(),
            ),
        )
        with store.writing("tables", key) as folder:
            (folder / FILE).write_text(found.model_dump_json(), encoding="utf-8")
    return found


def export(found: Sequence[Table], folder: Path) -> None:
    """Write tables as one JSON file each, for ``results/tables/PROFILE``."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in found:
        (folder / f"{table.slug}.json").write_text(table.model_dump_json() + "\n", encoding="utf-8")


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
