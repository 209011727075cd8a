"""Files and folders that are there whole or not at all.

In places of our own (the store, the data folder, the recorded results) :func:`file` and :func:`folder` see to
that. Where a reader said, nothing of somebody else may be lost either: :func:`replacing`, :func:`creating` and
:func:`writing`. All is written into a hidden folder beside the place, flushed to disk, and put there in one step at the
end. A folder keeps a list of the files that were written into it (:data:`LIST`), with their hashes. What is not on the
list, or is no longer as it was written, is somebody else's: it stops the command before any work, and is kept in any
case. A lock, held from before the work until the end, lets one process at a time write to a place; it lies in the
store's folder, so that nothing is left beside the output.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from anomaly_transfer.errors import DataError
from anomaly_transfer.fingerprint import digest, file_hash
from anomaly_transfer.settings import store_folder

#: The list, in every folder that this program wrote.
LIST = ".anomaly-transfer.json"
OTHER = "choose another --out"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """A file to write, which becomes ``path`` when the block ends; for one writer at a time, in a place of our own."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        _flush([partial])
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def folder(path: Path, flush: bool = True) -> Iterator[Path]:
    """An empty folder to fill, which becomes ``path`` when the block ends; for one writer at a time, as :func:`file`.

    What a process left that died while it wrote is removed by the next.

    Parameters
    ----------
    path : Path
    flush : bool
        Whether its files are on the disk before it is there; thousands of files that can be had again take too long.
    """
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if flush:
            _flush(made for made in partial.rglob("*") if made.is_file())
        shutil.rmtree(path, ignore_errors=True)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def replacing(out: Path, force: bool = False) -> Iterator[Path]:
    """A new folder, which takes the place of ``out`` when the block ends; if it fails, ``out`` stays as it was.

    Hold it around all work: what is wrong with ``out`` is said before it begins.

    Parameters
    ----------
    out : Path
        A new folder, an empty one, or one that was written by this.
    force : bool
        Whether it may hold something else. That stays there too: a file in the way of a new one as ``NAME~``.

    Raises
    ------
    DataError
        If ``out`` holds something else, or is being written by another process, or cannot be written, or the disk
        is full.
    """
    with _beside(out) as (out, work):
        if out.exists() and not out.is_dir():
            raise DataError(f"{out} is a file: {OTHER}.")
        # What systems leave in every folder is hidden: it is kept, but is no reason to stop.
        others = [path for path in foreign_files(out) if not path.name.startswith(".")]
        if others and not force:
            shown = ", ".join(map(str, others[:3])) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            raise DataError(
                f"{out} holds what this program did not write, or was changed since ({shown}): {OTHER}, or say --force "
                "to write there all the same; what is in the way of a new file is then kept as NAME~."
            )
        made = work / "new"
        made.mkdir()
        yield made
        written = [path for path in sorted(made.rglob("*")) if path.is_file()]
        files = {path.relative_to(made).as_posix(): file_hash(path) for path in written}
        (made / LIST).write_text(json.dumps({"files written by anomaly-transfer": files}, indent=1), encoding="utf-8")
        _flush([*written, made / LIST])
        for path in foreign_files(out):
            _keep(out / path, _free(made, path))
        _put(made, out)


@contextmanager
def creating(out: Path, word: str) -> Iterator[Path]:
    """A new folder, which becomes ``out`` when the block ends: for what a reader will change, so without a list.

    Parameters
    ----------
    out : Path
        A new folder, or an empty one.
    word : str
        What a message calls it.

    Raises
    ------
    DataError
        If ``out`` holds something, or as :func:`replacing`.
    """
    with _beside(out) as (out, work):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DataError(f"{out} is there already and not empty: choose another folder for {word}.")
        made = work / "new"
        made.mkdir()
        yield made
        _flush(path for path in made.rglob("*") if path.is_file())
        _put(made, out)


@contextmanager
def writing(out: Path, force: bool = False) -> Iterator[Path]:
    """A new file, which becomes ``out`` when the block ends; if it fails, ``out`` stays as it was.

    A file keeps no list, so that none is known to be this program's: one that is there is replaced only if asked for.

    Parameters
    ----------
    out : Path
        A pipe or a device is written to as it is.
    force : bool
        Whether ``out`` may be replaced.

    Raises
    ------
    DataError
        If ``out`` is there, or as :func:`replacing`.
    """
    if out.exists() and not out.is_dir() and not out.is_file():
        with _told_if_full(out):
            yield out
        return
    with _beside(out) as (out, work):
        if out.is_dir():
            raise DataError(f"{out} is a folder: {OTHER}.")
        if out.exists() and not force:
            raise DataError(f"{out} is there already: {OTHER}, or say --force to replace it.")
        made = work / out.name
        yield made
        _flush([made])
        if out.exists() and not force:
            # It came during the work.
            out.rename(_free(out.parent, Path(out.name)))
        made.replace(out)


def foreign_files(folder: Path) -> list[Path]:
    """What is in a folder that :func:`replacing` did not write there, or was changed since: paths in the folder."""
    if not folder.is_dir():
        return []
    mark = folder / LIST
    try:
        written = dict(json.loads(mark.read_text(encoding="utf-8"))["files written by anomaly-transfer"])
        written[LIST] = file_hash(mark)
    except (OSError, ValueError, KeyError, TypeError):
        written = {}

    def ours(path: Path) -> bool:
        name = path.relative_to(folder).as_posix()
        return name in written and path.is_file() and not path.is_symlink() and file_hash(path) == written[name]

    # Folders are told by what is in them, empty ones by themselves.
    ends = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir() or not any(path.iterdir()))
    return sorted(path.relative_to(folder) for path in ends if not ours(path))


@contextmanager
def _beside(out: Path) -> Iterator[tuple[Path, Path]]:
    """``out`` without links, and a folder of ours beside it; nobody else writes ``out`` meanwhile."""
    out = out.resolve()
    if os.path.ismount(out) or Path.cwd().is_relative_to(out):
        raise DataError(f"{out} is a disk of its own or the folder where you are: choose a new folder in it.")
    name = digest([str(store_folder()), str(out)])[:16]
    # No other store has this name, and within one the lock decides: what is there was left by a process that died.
    work = out.with_name(f".anomaly-transfer-{name}")
    lock = FileLock(store_folder() / "locks" / f"output-{name}.lock")
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{store_folder()} cannot be written ({error.strerror}): set ANOMALY_TRANSFER_STORE to another folder."
        ) from error
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"Another process is writing {out}: wait until it is done, or {OTHER}.") from None
    try:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            if (work / "old").exists() and not out.exists():
                (work / "old").rename(out)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
        except OSError as error:
            raise DataError(f"{out} cannot be written ({error.strerror}): {OTHER}.") from error
        with _told_if_full(out):
            yield out, work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()


@contextmanager
def _told_if_full(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DataError(
            f"{out} cannot be written ({error.strerror}) and is as it was before: free some space, or {OTHER}."
        ) from error


def _flush(files: Iterable[Path]) -> None:
    for path in files:
        with open(path, "rb+") as stream:
            os.fsync(stream.fileno())


def _free(folder: Path, path: Path) -> Path:
    """A path in a folder, with as many ``~`` as it takes for it to be nobody's."""
    for part in path.parts[:-1]:
        folder /= part
        while os.path.lexists(folder) and not folder.is_dir():
            folder = folder.with_name(f"{folder.name}~")
    place = folder / path.name
    while os.path.lexists(place):
        place = place.with_name(f"{place.name}~")
    return place


def _keep(path: Path, place: Path) -> None:
    """Have the same at another place too, which takes no space where links can be made."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        place.mkdir()
        return
    try:
        os.link(path, place, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, place, follow_symlinks=False)


def _put(made: Path, out: Path) -> None:
    """Let a folder take the place of another, in one step where the system can; the other goes."""
    if not out.exists():
        made.rename(out)
    elif not _exchanged(made, out):
        # For a moment there is neither; the next run puts the old one back if this process dies then.
        out.rename(made.with_name("old"))
        made.rename(out)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two paths could be made to change places in one step (Linux can, and Python has no word for it)."""
    try:
        exchange = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, swap = -100, 2
    return exchange(here, os.fsencode(one), here, os.fsencode(other), swap) == 0
