"""Detectors in scikit-learn's manner; a new module in this folder with ``METHODS`` appears everywhere by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from anomaly_transfer.detectors.base import Detector, Localiser


@cache
def methods() -> dict[str, Callable[..., Detector]]:
    """What makes an unfitted detector, by method name; those of other packages only where they are installed.

    >>> sorted(methods())[-3:]
    ['svm', 'svm-pca', 'svm-pixels']
    """
    found: dict[str, Callable[..., Detector]] = {}
    for module in pkgutil.iter_modules(__path__):
        found |= getattr(importlib.import_module(f"{__name__}.{module.name}"), "METHODS", {})
    return found


def localising() -> list[str]:
    """Names of the methods that also say where an image is anomalous, sorted.

    >>> "patch-memory" in localising(), "gaussian" in localising()
    (True, False)
    """
    return sorted(name for name, maker in methods().items() if isinstance(maker(), Localiser))


def check_method(name: str) -> None:
    """Raise ValueError unless there is a method called ``name``."""
    if name not in methods():
        raise ValueError(
            f"There is no method {name!r}; choose one of {', '.join(sorted(methods()))}. Those of anomalib come with: "
            "pip install 'anomaly-transfer[peers]'"
        )


_ONLY: ContextVar[frozenset[str] | None] = ContextVar("only", default=None)


@contextmanager
def only(methods: Iterable[str]) -> Iterator[None]:
    """Within this block no other detectors can be made: these are the ones whose code is in the key of a result."""
    token = _ONLY.set(frozenset(method.partition("@")[0] for method in methods))
    try:
        yield
    finally:
        _ONLY.reset(token)


def place(method: str) -> str:
    """Where the code of a detector begins, for ``code_used.code_of``: ``"module:Class"``.

    What a method fixes of its class stands in the registry of its module, so that it counts where that does:
    ``"module:METHODS[name]"``.
    """
    name = method.partition("@")[0]
    check_method(name)
    maker = methods()[name]
    made = getattr(maker, "func", maker)
    return f"{made.__module__}:METHODS[{name}]"


def make(method: str, *, seed: int | None = None, memory_bank: int | None = None, **parameters: Any) -> Detector:
    """An unfitted detector.

    Parameters
    ----------
    method : str
        A name in :func:`methods`, optionally restricted to levels: ``gaussian@stage6``,
        ``patch-memory@stage3+stage5``.
    seed, memory_bank : int, optional
        Settings of a whole run, for whichever detector has them; default: the detector's own.
    **parameters
        Of this detector.

    Raises
    ------
    ValueError
        If there is no such method, or the detector has no such parameter; the message lists those that are.

    >>> make("gaussian@stage6", seed=3)
    GaussianDetector(levels=('stage6',))
    """
    name, _, levels = method.partition("@")
    check_method(name)
    counted = _ONLY.get()
    if counted is not None and name not in counted:
        raise RuntimeError(f"The method {name!r} is used by a study that does not name it among its `methods`.")
    detector = methods()[name]()
    accepted = detector.get_params()
    unknown = sorted(set(parameters) - set(accepted))
    if unknown:
        raise ValueError(f"{name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(accepted))}.")
    settings = {"seed": seed, "memory_bank": memory_bank}
    given = {key: value for key, value in settings.items() if key in accepted and value is not None}
    detector.set_params(**given, **parameters)
    return detector.set_params(levels=tuple(levels.split("+"))) if levels else detector
