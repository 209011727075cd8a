"""What a command writes where a reader said: whole or not at all, and nothing of somebody else is replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomaly_transfer.errors import DataError


def check(out: Path, mark: str | None = None) -> None:
    """Find out, before any work, whether ``out`` can be written.

    Parameters
    ----------
    out : Path
    mark : str, optional
        For a folder: the file by which an earlier output of the same kind is known, which may be replaced. Without it
        ``out`` is a file.

    Raises
    ------
    DataError
        If it cannot, or ``out`` is a folder that holds something else.
    """
    other = "choose another --out."
    if out.exists() and out.is_dir() != (mark is not None):
        raise DataError(f"{out} is a {'folder' if out.is_dir() else 'file'}: {other}")
    if mark is not None and out.exists() and any(out.iterdir()) and not (out / mark).is_file():
        raise DataError(f"{out} is not empty and holds no earlier {mark}: {other}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}): {other}") from error
    if not os.access(out.parent, os.W_OK):
        raise DataError(f"{out.parent} cannot be written to: {other}")


@contextmanager
def replacing(out: Path, mark: str) -> Iterator[Path]:
    """A new folder to write into, which takes the place of ``out`` when all is written; else ``out`` stays as it was.

    Raises
    ------
    DataError
        As :func:`check`.
    """
    out = out.resolve()
    check(out, mark)
    made, old = (out.with_name(f"{out.name}.{state}") for state in ("partial", "old"))
    for left in (made, old):
        shutil.rmtree(left, ignore_errors=True)
    made.mkdir()
    try:
        yield made
    except BaseException:
        shutil.rmtree(made)
        raise
    if out.exists():
        out.rename(old)
    made.rename(out)
    shutil.rmtree(old, ignore_errors=True)
