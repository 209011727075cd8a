"""One module a benchmark, one interface; a new module in this folder appears everywhere by itself."""

from __future__ import annotations

import importlib
import pkgutil

from anomaly_transfer.benchmarks.base import Benchmark


def names() -> list[str]:
    """Names of all benchmarks, sorted.

    >>> "elpv" in names()
    True
    """
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if hasattr(_module(name), "BENCHMARK"))


def get(name: str) -> Benchmark:
    """The benchmark called ``name``.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in names():
        raise ValueError(f"There is no benchmark {name!r}; choose one of {', '.join(names())}.")
    return _module(name).BENCHMARK


def _module(name: str):
    # By name at run time, so that no benchmark's code counts among another's dependencies (fingerprint.py).
    return importlib.import_module(f"{__name__}.{name}")
