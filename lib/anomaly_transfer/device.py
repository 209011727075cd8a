"""The device that computes: one for the whole process, and what to do when its memory is full.

Functions that take a device leave their arguments where they are, and bring results back to the CPU. Everything is
computed in single precision, on a GPU too: TensorFloat-32, with its three digits, is switched off, so that a number
does not depend on the card.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch

from anomaly_transfer.errors import DeviceError

VARIABLE = "ANOMALY_TRANSFER_DEVICE"


def default_device() -> str:
    """The device named by ``$ANOMALY_TRANSFER_DEVICE``, else ``cuda`` where there is one, else ``cpu``.

    Raises
    ------
    DeviceError
        If there is no such device here.
    """
    named = os.environ.get(VARIABLE)
    if named:
        _check(named)
    chosen = named or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen.startswith("cuda"):
        # Convolutions have it on by default.
        torch.backends.cudnn.allow_tf32 = False
    return chosen


def use(name: str | None) -> None:
    """Compute on ``name`` from here on, in this process and in those that it starts; None changes nothing.

    Raises
    ------
    DeviceError
        If there is no such device here.
    """
    if name is not None:
        _check(name)
        os.environ[VARIABLE] = name


@cache
def _check(name: str) -> None:
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        there = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise DeviceError(f"There is no device {name!r} here ({str(error).splitlines()[0]}): use {there}.") from error


@contextmanager
def memory_for(what: str, lower: str) -> Iterator[None]:
    """Say what to lower when the memory of the device or of the machine does not suffice for ``what``.

    Parameters
    ----------
    what : str
        e.g. ``"extracting features at 380 px"``.
    lower : str
        The settings, e.g. ``"the image size"``.

    Raises
    ------
    DeviceError
    """
    try:
        yield
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        raise DeviceError(f"Memory does not suffice for {what}: lower {lower}.") from error
    except RuntimeError as error:
        # What PyTorch says of the CPU's memory has no class of its own.
        if "can't allocate memory" not in str(error):
            raise
        raise DeviceError(f"Memory does not suffice for {what}: lower {lower}.") from error


_ENGINES: ContextVar[set[str] | None] = ContextVar("engines", default=None)


@contextmanager
def engines() -> Iterator[set[str]]:
    """Collects which engines ran networks within this block, or had run them for what was read from the store."""
    found: set[str] = set()
    token = _ENGINES.set(found)
    try:
        yield found
    finally:
        _ENGINES.reset(token)
        outer = _ENGINES.get()
        if outer is not None:
            outer |= found


def note_engine(engine: str) -> None:
    """Say that ``engine`` (``eager``: plain PyTorch; ``openvino``) runs a network: see :func:`engines`."""
    found = _ENGINES.get()
    if found is not None:
        found.add(engine)


def peak_memory_mb() -> float | None:
    """Largest memory that tensors took on the GPU since the process began or it was last asked to count, MiB.

    None where nothing computes on a GPU.
    """
    if not default_device().startswith("cuda"):
        return None
    return round(torch.cuda.max_memory_allocated() / 2**20, 1)
