"""What executing a chapter takes: measured when the book is built, and told in a notebook before it is run."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from IPython import get_ipython
from IPython.display import Markdown

from anomaly_transfer import profiles
from anomaly_transfer.settings import results_folder

#: What a chapter can be given, and how the cell begins in which papermill gives it.
PARAMETERS, INJECTED = ("profile",), "# Parameters"
COLUMNS = ("profile", "chapter", "seconds", "memory_mb", "machine", "date")


def measured(path: Path) -> dict[str, Any]:
    """What the execution of one chapter took.

    Parameters
    ----------
    path : Path
        The executed copy; beside it, in ``benchmarks``, Snakemake has left the peak memory.

    Returns
    -------
    dict
        By :data:`COLUMNS`; ``memory_mb`` is None if it was not measured.
    """
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    run = metadata["papermill"]
    table, memory = path.parent / "benchmarks" / f"{path.stem}.tsv", None
    if table.is_file():
        with table.open(encoding="utf-8") as lines:
            value = next(csv.DictReader(lines, delimiter="\t")).get("max_rss", "-")
        memory = None if value in ("-", "NA") else round(float(value))
    return {
        "profile": run["parameters"]["profile"],
        "chapter": path.stem,
        "seconds": round(run["duration"]),
        "memory_mb": memory,
        "machine": metadata["machine"],
        "date": run["start_time"][:10],
    }


def recorded() -> pd.DataFrame:
    """The executions that are kept under ``results``: one row a profile and chapter."""
    return pd.read_csv(results_folder() / "executions.csv")


def check_parameters(cells: Sequence[str]) -> None:
    """Refuse what papermill put into a notebook under a name that no chapter has; papermill itself only warns.

    Parameters
    ----------
    cells : sequence of str
        The sources of the cells that have run.

    Raises
    ------
    ValueError
    """
    for cell in cells:
        if cell.startswith(INJECTED):
            given = {node.id for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Name)}
            unknown = sorted(given - set(PARAMETERS))
            if unknown:
                raise ValueError(f"A chapter has no parameter {unknown[0]!r}; it has: {', '.join(PARAMETERS)}.")


def announce(chapter: str, profile: str | None = None) -> Markdown:
    """What running a chapter will take, as far as it was measured.

    Parameters
    ----------
    chapter : str
    profile : str, optional
        Default: the one of ``profiles.get``.

    Raises
    ------
    ValueError
        If there is no such profile, or the notebook was given a parameter that it does not have.
    """
    shell = get_ipython()
    check_parameters(shell.user_ns["In"] if shell else [])
    wanted, rows = profiles.get(profile).name, recorded()
    rows = rows[rows["chapter"] == chapter].set_index("profile")
    rows["took"] = [f"{row.seconds} s and {row.memory_mb / 1000:.1f} GB on {row.machine}" for row in rows.itertuples()]
    if wanted in rows.index:
        return Markdown(f"With profile `{wanted}` this chapter took {rows.loc[wanted, 'took']}, without a GPU.")
    known = ", ".join(f"with `{name}` {took}" for name, took in rows["took"].items())
    return Markdown(
        f"What this chapter takes with profile `{wanted}` was not measured ({known or 'nor with another one'}). The "
        "chapter *Limits* forecasts recorded runs."
    )
