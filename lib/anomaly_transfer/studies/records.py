"""Records: what was measured, on what, by which code. The book's numbers are read from these and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict

from anomaly_transfer import atomic
from anomaly_transfer.errors import StoreError
from anomaly_transfer.provenance import Provenance
from anomaly_transfer.settings import results_folder

DIGITS = 5


class Experiment(BaseModel):
    """What is asked: the coordinates of one record.

    Attributes
    ----------
    study : str
        See :func:`anomaly_transfer.studies.names`.
    variant : str
        One of the study's.
    benchmark, category : str
    split : str
        How images are divided; empty where the study has a division of its own.
    seed : int
    profile : str
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    variant: str
    benchmark: str
    category: str
    split: str = ""
    seed: int
    profile: str

    @property
    def slug(self) -> str:
        """Unique in a study and a profile, and a file name."""
        parts = (self.variant, self.benchmark, self.category, self.split, str(self.seed))
        return "__".join(part for part in parts if part)

    @property
    def name(self) -> str:
        """Unique in a profile."""
        return f"{self.study}/{self.slug}"


class Record(BaseModel):
    """One experiment's result.

    Attributes
    ----------
    key : str
        Hash of experiment, settings, code, data and weights: the record is stale when it changes.
    experiment : Experiment
    axis : str
        What a variant of this study is; in :meth:`frame` the name of its column.
    settings : dict
        The profile's sizes at the time.
    note : str
        What the numbers must be read with, e.g. that the data are a compressed copy.
    facts : dict
        What is no measurement, e.g. how many images there were; each study says which.
    columns, rows : list
        What was measured, floats to five significant digits.
    provenance : Provenance
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 2
    key: str
    experiment: Experiment
    axis: str = "variant"
    settings: dict[str, str | int]
    note: str = ""
    facts: dict[str, int | list[int] | dict[str, int]] = {}
    columns: list[str]
    rows: list[list[str | float | int | None]]
    provenance: Provenance

    def frame(self) -> pd.DataFrame:
        """The rows, with the coordinates as further columns."""
        # Without the split where there is none.
        where = self.experiment.model_dump(exclude={"study", "variant"}, exclude_defaults=True)
        return pd.DataFrame(self.rows, columns=self.columns).assign(**{self.axis: self.experiment.variant}, **where)


def rows_of(frame: pd.DataFrame) -> list[list[str | float | int | None]]:
    """Rows as a record has them: floats to five significant digits, and nothing for NaN."""
    return [[_short(value) for value in row] for row in frame.itertuples(index=False)]


def export(found: Iterable[Record], folder: Path) -> None:
    """Write records into the folder of a profile, ``STUDY/SLUG.json`` each, whole or not at all."""
    for record in found:
        (folder / record.experiment.study).mkdir(parents=True, exist_ok=True)
        with atomic.writing(folder / f"{record.experiment.name}.json", force=True) as path:
            path.write_text(record.model_dump_json() + "\n", encoding="utf-8")


def load(folder: Path, study: str = "*") -> list[Record]:
    """The records in the folder of a profile, sorted by name.

    Parameters
    ----------
    folder : Path
        E.g. ``results/study``.
    study : str
        Only those of one study.

    Raises
    ------
    StoreError
        If there is no such folder, or a file in it is no whole record.
    """
    if not folder.is_dir():
        raise StoreError(f"There is no folder of records {folder}.")
    found = []
    for path in sorted(folder.glob(f"{study}/*.json")):
        try:
            found.append(Record.model_validate_json(path.read_bytes()))
        except ValueError as error:
            raise StoreError(f"{path} is no whole record: restore it (git checkout), or take it away.") from error
    return found


def recorded(study: str, profile: str = "study", benchmark: str | None = None) -> list[Record]:
    """What is recorded of a study under ``results/``: in the package's wheel, or in the repository.

    Parameters
    ----------
    study : str
    profile : str
    benchmark : str, optional
        Only on this one.

    Raises
    ------
    StoreError
        If there is nothing, or a record is damaged.
    """
    folder = results_folder() / profile
    found = load(folder, study) if folder.is_dir() else []
    found = [record for record in found if benchmark in (None, record.experiment.benchmark)]
    if not found:
        where = f" on {benchmark}" if benchmark else ""
        raise StoreError(
            f"There are no records of the study {study!r}{where} at the profile {profile!r}: `make study` makes them."
        )
    return found


def frame(study: str, profile: str = "study") -> pd.DataFrame:
    """The rows of all records of a study, see :meth:`Record.frame` and :func:`recorded`."""
    return pd.concat([record.frame() for record in recorded(study, profile)], ignore_index=True)


def _short(value) -> str | float | int | None:
    """A value as it is written: five significant digits, and nothing for NaN."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return None
    if float(value).is_integer():
        return int(value)
    return float(f"{float(value):.{DIGITS}g}")
