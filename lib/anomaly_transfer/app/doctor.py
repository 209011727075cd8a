"""Is everything here that a run needs? Each check answers OK or names the fix."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement

from anomaly_transfer import benchmarks
from anomaly_transfer.device import default_device
from anomaly_transfer.errors import AnomalyTransferError
from anomaly_transfer.features.extraction import default_engine
from anomaly_transfer.networks import backbones
from anomaly_transfer.provenance import hardware
from anomaly_transfer.store import Store

#: The benchmarks that the chapters are executed on; the others add to them.
EMBEDDED = ("elpv", "mnist5k", "surfaces")


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes
    ----------
    name, found : str
    fix : str, optional
        What to do; None if all is well.
    needed : bool
        False for what makes things faster or adds a benchmark.
    """

    name: str
    found: str
    fix: str | None = None
    needed: bool = True


def checks() -> Iterator[Check]:
    """All checks, in the order in which a reader should mend them."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("Python", version, None if sys.version_info >= (3, 11) else "use Python 3.11 or newer")
    yield from _packages()
    device = default_device()
    yield Check("machine", hardware())
    yield Check("device", device)
    engine = default_engine(device)
    slow = device == "cpu" and engine == "eager"
    yield Check(
        "extraction",
        engine,
        "pip install openvino (several times faster on a CPU)" if slow else None,
        needed=False,
    )
    for name in backbones.PACKAGED:
        try:
            yield Check(f"weights {name}", f"sha256 {backbones.load(name).weights_sha256[:12]}")
        except AnomalyTransferError as error:
            # The book needs the smallest one only.
            yield Check(f"weights {name}", "missing", str(error), needed=name == "efficientnet_lite0")
    for name in benchmarks.names():
        known = benchmarks.get(name)
        found, all_of_them = known.available(), known.categories
        yield Check(
            f"benchmark {name}",
            "not at hand" if not found else f"{len(found)} of {len(all_of_them)} categories at hand",
            None if found == all_of_them and found else known.obtained,
            needed=name in EMBEDDED,
        )
    yield _store()


def _packages() -> Iterator[Check]:
    """Installed versions against the bounds of this package's metadata; of extras, what is there and does not fit."""
    for requirement in map(Requirement, importlib.metadata.requires("anomaly-transfer") or []):
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        good = bool(version) and requirement.specifier.contains(version, prereleases=True)
        if needed or (version and not good):
            fix = None if good else f'pip install "{requirement.name}{requirement.specifier}"'
            yield Check(requirement.name, version or "missing", fix, needed)


def _store() -> Check:
    store = Store()
    try:
        with store.locked("records", "doctor"), store.writing("records", "doctor") as folder:
            (folder / "probe").write_text("ok", encoding="utf-8")
        shutil.rmtree(store.path("records", "doctor"))
    except AnomalyTransferError as error:
        return Check("store", str(store.root), str(error))
    free = shutil.disk_usage(store.root).free / 2**30
    fix = "less than 1 GiB free: run `anomaly-transfer store prune --features-only`" if free < 1 else None
    return Check("store", f"{store.root}, {free:.0f} GiB free", fix)
