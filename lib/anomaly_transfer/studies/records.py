"""Records: what was measured, on what, by which code. The book's numbers are read from these and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from anomaly_transfer.errors import StoreError
from anomaly_transfer.metrics.bootstrap import Interval
from anomaly_transfer.provenance import Provenance
from anomaly_transfer.settings import results_folder

RECORD, SCORES = "record.json", "scores.csv"


class Experiment(BaseModel):
    """What is asked: the coordinates of one record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    benchmark: str
    category: str
    split: str
    seed: int
    profile: str

    @property
    def slug(self) -> str:
        """A readable, unique file name."""
        return "__".join(str(value) for value in self.model_dump().values())


class Record(BaseModel):
    """One experiment's result.

    Attributes
    ----------
    key : str
        Hash of experiment, settings, code, data and weights: the record is stale when it changes.
    experiment : Experiment
    settings : dict
        The profile's sizes at the time.
    metrics : dict
        ``target`` (headline), ``within group`` (the same, images compared within their group), ``minus grouped``
        (headline minus that of the grouped split, each image with those that one model scored), ``all``, each anomaly
        class, ``grade`` and, with masks and a detector that localises, ``pixel``; each to metric name and Interval.
    counts : dict of str to int
        Scored images by anomaly class.
    fitted_on : tuple of int
        Normal training images of each fold.
    duplicates : int
        Scored images that are identical, byte for byte, to one that their model was fitted on.
    note : str
        What the numbers must be read with, e.g. that the data are a compressed copy.
    provenance : Provenance
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    key: str
    experiment: Experiment
    settings: dict[str, int | str]
    metrics: dict[str, dict[str, Interval]]
    counts: dict[str, int]
    fitted_on: tuple[int, ...] = ()
    duplicates: int = 0
    note: str = ""
    provenance: Provenance


def write(folder: Path, record: Record, scores: pd.DataFrame) -> None:
    """Write ``record.json`` and ``scores.csv`` into an existing folder."""
    (folder / RECORD).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    scores.to_csv(folder / SCORES, index=False)


def read(folder: Path) -> Record:
    """Read a record.

    Raises
    ------
    StoreError
        If it is missing, damaged or of another schema.
    """
    try:
        return Record.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"The record in {folder} cannot be read ({error}): remove the folder and run again."
        ) from error


def read_scores(folder: Path) -> pd.DataFrame:
    """The record's scores, one row an image: id, group, anomaly_class, grade, fold, score."""
    return pd.read_csv(folder / SCORES)


def recorded(profile: str, benchmark: str | None = None) -> list[Record]:
    """The runs recorded under ``results/`` for a profile: in the package's wheel, or in the repository.

    Parameters
    ----------
    profile : str
    benchmark : str, optional
        Only those on this benchmark.

    Raises
    ------
    StoreError
        If there are none.
    """
    folder = results_folder() / profile
    found = load_folder(folder) if folder.is_dir() else []
    found = [record for record in found if benchmark in (None, record.experiment.benchmark)]
    if not found:
        where = f" on {benchmark}" if benchmark else ""
        raise StoreError(f"There are no recorded runs of the profile {profile!r}{where}: `make study` records them.")
    return found


def load_folder(folder: Path) -> list[Record]:
    """All records in a folder such as ``results/study`` (one JSON file each), sorted by experiment.

    Raises
    ------
    StoreError
        If there is no such folder, or a file in it is no whole record.
    """
    if not folder.is_dir():
        raise StoreError(f"There is no folder of records {folder}.")
    found = []
    for path in folder.glob("*.json"):
        try:
            found.append(Record.model_validate(json.loads(path.read_text(encoding="utf-8"))))
        except ValueError as error:
            raise StoreError(f"{path} is no whole record: restore it (git checkout), or take it away.") from error
    return sorted(found, key=lambda record: record.experiment.slug)
