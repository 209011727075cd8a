"""Keep what the executed chapters of a profile took: python book/tools/executions.py PROFILE.

The notebooks tell it before they are run (``anomaly_transfer.pages.executions``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from anomaly_transfer import profiles
from anomaly_transfer.pages import contents, executions

ROOT = Path(__file__).resolve().parents[2]


def keep(profile: str, root: Path = ROOT) -> pd.DataFrame:
    """Replace the rows of a profile in results/executions.csv by those of the executed copies at hand."""
    folder = root / "_executed" / profiles.get(profile).name
    paths = [path for name in contents.chapters(root) if (path := folder / f"{name}.ipynb").is_file()]
    if not paths:
        raise SystemExit(f"No chapter has been executed with {profile}: make book PROFILE={profile}")
    file = root / "results" / "executions.csv"
    before = pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=list(executions.COLUMNS))
    rows = pd.concat([before[before["profile"] != profile], pd.DataFrame(map(executions.measured, paths))])
    rows.to_csv(file, index=False)
    return rows


if __name__ == "__main__":
    keep(sys.argv[1])
