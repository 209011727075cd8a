"""One module a study, one interface; a new module in this folder with a ``STUDY`` appears everywhere by itself."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from anomaly_transfer.fingerprint import module_source

if TYPE_CHECKING:
    from anomaly_transfer.store import Store
    from anomaly_transfer.studies.base import Study
    from anomaly_transfer.studies.records import Experiment, Record


def names() -> list[str]:
    """Names of all studies, sorted.

    >>> "few_shot" in names()
    True
    """
    # By reading them: importing them all imports torch.
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if "\nSTUDY = " in module_source(f"{__name__}.{name}"))


def get(name: str) -> Study:
    """The study called ``name``.

    Raises
    ------
    ValueError
        If there is none; the message lists those that are.
    """
    if name not in names():
        raise ValueError(f"There is no study {name!r}; choose from {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}").STUDY


def run(experiment: Experiment, store: Store | None = None) -> Record:
    """The record of one experiment: from the store if nothing it depends on has changed, else computed.

    Errors as of :meth:`anomaly_transfer.studies.base.Study.run`.
    """
    # Not before it is needed: it imports torch.
    from anomaly_transfer.store import Store
    from anomaly_transfer.studies import base

    store = store or Store()
    return base.record_of(get(experiment.study).asked(experiment, store), store)
