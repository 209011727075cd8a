"""Recorded results and the code at hand: which of them it would compute again, and whether a rerun agrees.

A recorded number stays in the book until it is recorded anew, also when the code that made it has changed since.
:func:`status` says for which this is so, and why; :func:`diff` whether running them again makes a difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from anomaly_transfer import profiles, studies
from anomaly_transfer.code_used import Code
from anomaly_transfer.errors import AnomalyTransferError, StoreError, WeightsError
from anomaly_transfer.networks import backbones
from anomaly_transfer.provenance import Provenance
from anomaly_transfer.settings import results_folder
from anomaly_transfer.store import Store
from anomaly_transfer.studies import detection, plan
from anomaly_transfer.studies.base import Request, Table
from anomaly_transfer.studies.records import Record

CURRENT, STALE, UNCHECKED, MISSING, ORPHANED = "current", "stale", "unchecked", "missing", "orphaned"

#: By how much a value of a rerun on the same images may differ, as a share of it or of 1, whichever is more. Measured
#: at the profile smoke on bricks, OpenVINO and one thread against PyTorch and two: 3e-5 on frozen features, 7e-5 where
#: a network was fine-tuned by small steps, 0.016 where more of it was trained (one of the 64 pairs of a validation).
FROZEN, TRAINED = 1e-3, 2e-2
#: Studies that train a network.
TRAINING = ("tuned", "localised", "oneclass", "supervised")
#: After self-supervision, in large steps and with batch norms that follow the batches, another number of threads gave
#: another network (0.036 of an AUROC, a multiple of a margin): then a rerun is another draw, and no tolerance holds.
APART = "apart"
#: Columns of times and of memory, by study: they differ from run to run.
TAKEN = {"peers": ("fit", "score", "memory", "own fit", "own score", "own memory")}


def recorded(profile: str) -> list[Record | Table]:
    """All that is recorded of a profile, records and tables."""
    folder = results_folder()
    return load(path for path in (folder / profile, folder / "tables" / profile) if path.is_dir())


def load(folders: Iterable[Path]) -> list[Record | Table]:
    """Records and tables in folders, one JSON file each, sorted by name.

    Raises
    ------
    StoreError
        If there is no such folder, or a file is neither a whole record nor a whole table.
    """
    found: list[Record | Table] = []
    for folder in folders:
        if not folder.is_dir():
            raise StoreError(f"There is no folder of records {folder}.")
        for path in sorted(folder.glob("*.json")):
            text = path.read_bytes()
            kind = Table if b'"study":' in text[:400] else Record
            try:
                found.append(kind.model_validate_json(text))
            except ValueError as error:
                raise StoreError(f"{path} is no whole record: restore it (git checkout), or take it away.") from error
    return sorted(found, key=name)


def name(result: Record | Table) -> str:
    """What a result is called: unique among the results of a profile."""
    return result.slug if isinstance(result, Table) else f"run__{result.experiment.slug}"


def status(profile: str, store: Store | None = None) -> pd.DataFrame:
    """Which recorded results of a profile the code at hand would give again.

    Parameters
    ----------
    profile : str
    store : Store, optional

    Returns
    -------
    DataFrame
        One row a result or a planned one: ``result`` (its name), ``state`` and ``why``. States: ``current``;
        ``stale`` (``why`` says what has moved: code by module, libraries by version, sizes, weights, data);
        ``unchecked`` (nothing has moved but, perhaps, the data, which are not at hand); ``missing`` (planned, not
        recorded); ``orphaned`` (recorded, not planned).
    """
    store = store or Store()
    planned = {
        (job.study, job.benchmark, job.category, job.variant, job.seed, split)
        for job in plan.jobs(profile, everywhere=True)
        for split in job.splits or ("",)
    }
    rows, there = [], set()
    for result in recorded(profile):
        where = _where(result)
        there.add(where)
        if where not in planned:
            rows.append((name(result), ORPHANED, "not in plan.yml"))
            continue
        moved = _moved(result)
        if moved:
            rows.append((name(result), STALE, "; ".join(moved)))
            continue
        try:
            moved = _moved_with_data(result, store)
        except AnomalyTransferError as error:
            rows.append((name(result), UNCHECKED, str(error)))
        else:
            rows.append((name(result), *((STALE, "; ".join(moved)) if moved else (CURRENT, ""))))
    rows += [("__".join(str(part) for part in where if part != ""), MISSING, "") for where in sorted(planned - there)]
    return pd.DataFrame(rows, columns=["result", "state", "why"])


def _where(result: Record | Table) -> tuple[str, str, str, str, int, str]:
    """Study, benchmark, category, variant, seed and, of a record, split."""
    if isinstance(result, Record):
        e = result.experiment
        return "run", e.benchmark, e.category, e.method, e.seed, e.split
    c = {key: str(value) for key, value in result.coordinates.items()}
    variant = c[studies.get(result.study).axis]
    return result.study, c["benchmark"], c["category"], variant, int(c["seed"]), ""


def _moved(result: Record | Table) -> list[str]:
    """What is no longer as it was, as far as it can be told without the data."""
    p = result.provenance
    moved = _code_moved(p, _code(*_where(result)[:4:3]))
    sizes = profiles.get(str(result.coordinates["profile"] if isinstance(result, Table) else result.experiment.profile))
    if p.weights != "none" and _weights(sizes.backbone) not in (None, p.weights):
        moved.append("weights")
    return moved


def _code_moved(provenance: Provenance, code: Code | None) -> list[str]:
    if code is None:
        return ["code of a package that is not installed"]
    if not provenance.modules:
        return ["code (recorded before its parts were)"]
    return code.moved(Code(provenance.modules, provenance.libraries))


@cache
def _code(study: str, variant: str) -> Code | None:
    """The code of a study's variant as it stands; None if it needs a package that is not installed."""
    try:
        return detection.code(variant) if study == "run" else studies.get(study).code(variant)
    except ValueError:
        return None


@cache
def _weights(backbone: str) -> str | None:
    try:
        return backbones.weights_hash(backbone)
    except WeightsError:
        return None


def _moved_with_data(result: Record | Table, store: Store) -> list[str]:
    """Whether sizes or data are no longer as they were."""
    study, benchmark, category, variant, seed, _ = _where(result)
    asked: detection.Plan | Request
    if isinstance(result, Record):
        asked = detection.Plan(result.experiment)
    else:
        profile = str(result.coordinates["profile"])
        asked = studies.get(study).request(benchmark, category, variant, seed, profile, store)
    moved = [
        f"{size} {value}, now {asked.settings.get(size)}"
        for size, value in result.settings.items()
        if asked.settings.get(size) != value
    ]
    return moved + ["data"] * (asked.data != result.provenance.data)


def diff(fresh: Sequence[Record | Table], kept: Sequence[Record | Table]) -> pd.DataFrame:
    """Whether results that were computed again agree with those that are recorded.

    Parameters
    ----------
    fresh, kept : sequence of Record or Table

    Returns
    -------
    DataFrame
        One row a result of either: ``result`` (its name), ``state``: ``same`` (every value to the tolerance of its
        study, :data:`FROZEN` or :data:`TRAINED`), ``moved``, ``apart`` (so, but after self-supervision: see
        :data:`APART`), ``missing`` (recorded, not run) or ``new`` (run, not recorded); ``where`` the largest difference
        is, ``kept`` and ``fresh`` there, and ``difference``, as a share of the kept value or of 1, whichever is more.

    Raises
    ------
    StoreError
        If there is no fresh result.
    """
    if not fresh:
        raise StoreError("There are no fresh records to compare: run some with --export.")
    now, then = ({name(result): result for result in part} for part in (fresh, kept))
    rows: list[tuple] = []
    for which in sorted({*now, *then}):
        if which not in now or which not in then:
            rows.append((which, "new" if which in now else "missing", "", None, None, math.nan))
            continue
        a, b = values(then[which]), values(now[which])
        worst = max(((_difference(a.get(key), b.get(key)), key) for key in sorted({*a, *b})), default=(0.0, ""))
        key = worst[1]
        state = "same" if worst[0] <= tolerance(then[which]) else APART if _self_supervised(then[which]) else "moved"
        rows.append((which, state, key, a.get(key), b.get(key), worst[0]))
    return pd.DataFrame(rows, columns=["result", "state", "where", "kept", "fresh", "difference"])


def tolerance(result: Record | Table) -> float:
    """By how much a value of a rerun may differ: see :data:`FROZEN`."""
    study, _, _, variant, *_ = _where(result)
    trained = study in TRAINING or variant == "network-all" or _self_supervised(result)
    return TRAINED if trained else FROZEN


def _self_supervised(result: Record | Table) -> bool:
    study, _, _, variant, *_ = _where(result)
    return study == "twins" or variant.endswith("+normal")


def values(result: Record | Table) -> dict[str, str | float | None]:
    """Every value of a result by its place, but for times and memory."""
    if isinstance(result, Record):
        return {
            f"{group} {metric} {part}": number
            for group, metrics in result.metrics.items()
            for metric, interval in metrics.items()
            for part, number in interval.model_dump().items()
        }
    return {
        f"row {number} {column}": value
        for number, row in enumerate(result.rows)
        for column, value in zip(result.columns, row, strict=True)
        if column not in TAKEN.get(result.study, ())
    }


def _difference(kept: str | float | None, fresh: str | float | None) -> float:
    """As a share of the kept value or of 1, whichever is more; infinite where one of them is no number."""
    if kept == fresh:
        return 0.0
    if not isinstance(kept, int | float) or not isinstance(fresh, int | float):
        return float("inf")
    return abs(fresh - kept) / max(1.0, abs(kept))
