"""The studies by name."""

from __future__ import annotations

import importlib

from anomaly_transfer.studies import plan
from anomaly_transfer.studies.base import Study


def names() -> list[str]:
    """Names of the studies whose results are tables, in the order of the book."""
    return [name for name in plan.MODULES if name != "run"]


def get(name: str) -> Study:
    """The study called ``name``.

    Raises
    ------
    ValueError
        If there is none; the message lists those that are.
    """
    if name not in names():
        raise ValueError(f"There is no study {name!r}; choose from {', '.join(names())}.")
    module = importlib.import_module(f"anomaly_transfer.{plan.MODULES[name]}")
    return next(found for found in vars(module).values() if isinstance(found, Study) and found.name == name)
