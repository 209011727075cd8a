"""Recorded results and the code at hand: which of them it would compute again, and whether a rerun agrees.

A recorded number stays in the book until it is recorded anew, also when the code that made it has changed since.
:func:`status` says for which this is so, and why; :func:`diff` whether running them again makes a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import pandas as pd

from anomaly_transfer import profiles, studies
from anomaly_transfer.code_used import Code
from anomaly_transfer.errors import AnomalyTransferError, StoreError, WeightsError
from anomaly_transfer.networks import backbones
from anomaly_transfer.provenance import Provenance
from anomaly_transfer.settings import results_folder
from anomaly_transfer.store import Store
from anomaly_transfer.studies import plan
from anomaly_transfer.studies.records import Record, load

CURRENT, STALE, UNCHECKED, MISSING, ORPHANED = "current", "stale", "unchecked", "missing", "orphaned"

#: By how much a value of a rerun on the same images may differ, as a share of it or of 1, whichever is more. Measured
#: at the profile smoke on bricks, OpenVINO and one thread against PyTorch and two: 3e-5 on frozen features, 7e-5 where
#: a network was fine-tuned by small steps, 0.016 where more of it was trained (one of the 64 pairs of a validation).
FROZEN, TRAINED = 1e-3, 2e-2
#: Studies that train a network.
TRAINING = ("finetuning", "localisation", "deep_one_class", "supervised")
#: After self-supervision, in large steps and with batch norms that follow the batches, another number of threads gave
#: another network (0.036 of an AUROC, a multiple of a margin): then a rerun is another draw, and no tolerance holds.
APART = "apart"
#: Columns of times and of memory, by study: they differ from run to run.
TAKEN = {"anomalib_comparison": ("fit", "score", "memory", "own fit", "own score", "own memory")}


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
    planned = {experiment.name for experiment in plan.experiments(profile, everywhere=True)}
    rows, there = [], set()
    for result in load(results_folder() / profile):
        name = result.experiment.name
        there.add(name)
        if name not in planned:
            rows.append((name, ORPHANED, "not in plan.yml"))
            continue
        moved = _moved(result)
        if moved:
            rows.append((name, STALE, "; ".join(moved)))
            continue
        try:
            moved = _moved_with_data(result, store)
        except AnomalyTransferError as error:
            rows.append((name, UNCHECKED, str(error)))
        else:
            rows.append((name, *((STALE, "; ".join(moved)) if moved else (CURRENT, ""))))
    rows += [(name, MISSING, "") for name in sorted(planned - there)]
    return pd.DataFrame(rows, columns=["result", "state", "why"])


def _moved(result: Record) -> list[str]:
    """What is no longer as it was, as far as it can be told without the data."""
    p, e = result.provenance, result.experiment
    moved = _code_moved(p, _code(e.study, e.variant))
    if p.weights != "none" and _weights(profiles.get(e.profile).backbone) not in (None, p.weights):
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
        return studies.get(study).code(variant)
    except ValueError:
        return None


@cache
def _weights(backbone: str) -> str | None:
    try:
        return backbones.weights_hash(backbone)
    except WeightsError:
        return None


def _moved_with_data(result: Record, store: Store) -> list[str]:
    """Whether sizes or data are no longer as they were."""
    asked = studies.get(result.experiment.study).asked(result.experiment, store)
    moved = [
        f"{size} {value}, now {asked.settings.get(size)}"
        for size, value in result.settings.items()
        if asked.settings.get(size) != value
    ]
    return moved + ["data"] * (asked.data != result.provenance.data)


def diff(fresh: Sequence[Record], kept: Sequence[Record]) -> pd.DataFrame:
    """Whether results that were computed again agree with those that are recorded.

    Parameters
    ----------
    fresh, kept : sequence of Record

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
    now, then = ({result.experiment.name: result for result in part} for part in (fresh, kept))
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


def tolerance(result: Record) -> float:
    """By how much a value of a rerun may differ: see :data:`FROZEN`."""
    e = result.experiment
    trained = e.study in TRAINING or e.variant == "network-all" or _self_supervised(result)
    return TRAINED if trained else FROZEN


def _self_supervised(result: Record) -> bool:
    return result.experiment.study == "paired_networks" or result.experiment.variant.endswith("+normal")


def values(result: Record) -> dict[str, str | float | None]:
    """Every value of a result by its place, but for times and memory."""
    return {
        " ".join([*(part for part in row if isinstance(part, str)), column, f"(row {number})"]): value
        for number, row in enumerate(result.rows)
        for column, value in zip(result.columns, row, strict=True)
        if column not in TAKEN.get(result.experiment.study, ())
    }


def _difference(kept: str | float | None, fresh: str | float | None) -> float:
    """As a share of the kept value or of 1, whichever is more; infinite where one of them is no number."""
    if kept == fresh:
        return 0.0
    if not isinstance(kept, int | float) or not isinstance(fresh, int | float):
        return float("inf")
    return abs(fresh - kept) / max(1.0, abs(kept))
