"""Where data sets and computed things lie on this machine: environment variables, else the user's folders."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_NAME = "anomaly-transfer"


def data_folder() -> Path:
    """Fetched data sets: ``$ANOMALY_TRANSFER_DATA``, else the user's data folder."""
    return _chosen("ANOMALY_TRANSFER_DATA", platformdirs.user_data_dir(_NAME))


def store_folder() -> Path:
    """Features and records: ``$ANOMALY_TRANSFER_STORE``, else the user's cache folder."""
    return _chosen("ANOMALY_TRANSFER_STORE", platformdirs.user_cache_dir(_NAME))


def results_folder() -> Path:
    """Recorded runs: inside the installed package where a wheel brought them, else the repository's ``results``."""
    packaged = Path(__file__).parent / "results"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "results"


def claims_file() -> Path:
    """The claims ledger: inside the installed package where a wheel brought it, else the repository's ``book``."""
    packaged = Path(__file__).parent / "claims.yml"
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "book" / "claims.yml"


def _chosen(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().resolve()


def offline() -> bool:
    """Whether the network is forbidden."""
    return os.environ.get("ANOMALY_TRANSFER_OFFLINE", "0") not in ("", "0")
