"""What a result was computed from and by, and what it cost."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psutil
import torch
from pydantic import BaseModel, ConfigDict

from anomaly_transfer import device
from anomaly_transfer.code_used import LIBRARIES, Code


class Provenance(BaseModel):
    """What a result was computed from and by, and what it cost.

    Attributes
    ----------
    code, data, weights : str
        Hashes of what counts: see ``code_used``.
    modules, libraries : dict of str to str
        What of each module, and which version of each library, is behind ``code``; empty in records that are older.
    versions, hardware, device : str or dict
        What computed.
    engine : str
        What ran networks, features that were read from the store included: ``eager`` (PyTorch), ``openvino``, or both.
    seconds : dict of str to float
        By stage.
    peak_memory_mb, gpu_memory_mb : float
        Largest memory of the process, and on the GPU, if there was one, MiB.
    date : str
        UTC.
    carried_over : str, optional
        From which earlier form of records, where a later one was not computed anew.
    """

    model_config = ConfigDict(extra="forbid")

    code: str
    modules: dict[str, str] = {}
    libraries: dict[str, str] = {}
    data: str
    weights: str
    versions: dict[str, str]
    hardware: str
    device: str
    engine: str
    seconds: dict[str, float]
    peak_memory_mb: float
    gpu_memory_mb: float | None = None
    date: str
    carried_over: str | None = None

    @classmethod
    def now(cls, code: Code, data: str, weights: str, engines: Iterable[str], seconds: dict[str, float]) -> Provenance:
        """Of a result that has just been computed in this process."""
        return cls(
            code=code.hash,
            modules=code.modules,
            libraries=code.libraries,
            data=data,
            weights=weights,
            versions=versions(),
            hardware=hardware(),
            device=device.default_device(),
            engine=", ".join(sorted(engines)) or "none",
            seconds={stage: round(value, 3) for stage, value in seconds.items()},
            peak_memory_mb=peak_memory_mb(),
            gpu_memory_mb=device.peak_memory_mb(),
            date=now(),
        )


@cache
def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    names = ("anomaly-transfer", *sorted({*LIBRARIES.values(), "openvino"}))
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def hardware() -> str:
    """One line on the machine: processor, cores, memory, GPU."""
    memory = psutil.virtual_memory().total / 2**30
    parts = [_processor(), f"{os.cpu_count()} cores", f"{memory:.0f} GiB"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MiB."""
    try:
        import resource
    except ImportError:  # Windows
        return round(psutil.Process().memory_info().rss / 2**20, 1)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
