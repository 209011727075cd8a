"""The on-disk store of features, networks and records: computed once, found by what they were computed from.

An entry is a folder named by its key. It is written beside its place under a lock, flushed to disk and renamed,
so a reader sees all of it or nothing; a process killed while writing leaves only a ``.partial`` folder, which the
next writer of that key (or :meth:`Store.prune`) removes. Arrays are plain ``.npy`` files, never pickle.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from anomaly_transfer import atomic
from anomaly_transfer.errors import StoreError
from anomaly_transfer.settings import store_folder

KINDS = ("features", "encoders", "tunings", "records")


class Store:
    """What has been computed, on disk.

    Parameters
    ----------
    root : Path, optional
        Default: ``$ANOMALY_TRANSFER_STORE``, else the user's cache folder.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = Path(root).expanduser().resolve() if root else store_folder()

    def path(self, kind: str, key: str) -> Path:
        """Where the entry is, or would be."""
        return self.root / kind / key

    @contextmanager
    def locked(self, kind: str, key: str) -> Iterator[None]:
        """Hold the lock of one entry, so that two processes do not compute it at once."""
        try:
            (self.root / kind).mkdir(parents=True, exist_ok=True)
            (self.root / "locks").mkdir(exist_ok=True)
        except OSError as error:
            raise _explained(error, self.root) from error
        with FileLock(self.root / "locks" / f"{kind}-{key}.lock"):
            yield

    @contextmanager
    def writing(self, kind: str, key: str) -> Iterator[Path]:
        """A folder to write an entry into; published when the block ends, discarded if it fails.

        Hold the lock (:meth:`locked`) around it.

        Raises
        ------
        StoreError
            If the disk is full or the store cannot be written; nothing of the entry is left behind.
        """
        try:
            with atomic.folder(self.path(kind, key)) as partial:
                yield partial
        except OSError as error:
            raise _explained(error, self.root) from error

    @contextmanager
    def resuming(self, kind: str, key: str) -> Iterator[Path]:
        """The folder of one entry whose writer keeps it whole by itself, and goes on in it after it was broken off.

        Raises
        ------
        StoreError
            If the disk is full or the store cannot be written; what was written whole is kept.
        """
        with self.locked(kind, key):
            try:
                folder = self.path(kind, key)
                folder.mkdir(parents=True, exist_ok=True)
                yield folder
            except OSError as error:
                raise _explained(error, self.root) from error

    def sizes(self) -> pd.DataFrame:
        """Entries and bytes by kind, indexed by kind."""
        rows = []
        for kind in KINDS:
            entries = [path for path in (self.root / kind).glob("*") if path.is_dir()]
            size = sum(file.stat().st_size for entry in entries for file in entry.iterdir())
            rows.append({"kind": kind, "entries": len(entries), "bytes": size})
        return pd.DataFrame(rows).set_index("kind")

    def prune(self, unused_days: float = 0.0, kinds: Sequence[str] = KINDS) -> int:
        """Remove entries not read for so many days, and what killed processes left; returns bytes freed.

        What another process holds, and what is no entry (a stray file), is left alone.
        """
        freed = 0
        limit = time.time() - unused_days * 86_400
        for kind in kinds:
            for entry in [path for path in (self.root / kind).glob("*") if path.is_dir()]:
                lock = FileLock(self.root / "locks" / f"{kind}-{entry.name.removesuffix('.partial')}.lock")
                try:
                    Path(lock.lock_file).parent.mkdir(exist_ok=True)
                    with lock.acquire(timeout=0):
                        # Only now: until then its writer may have renamed or filled it.
                        found = [file.stat() for file in entry.rglob("*") if file.is_file()]
                        used = max((max(stat.st_atime, stat.st_mtime) for stat in found), default=0.0)
                        if entry.is_dir() and (used <= limit or entry.name.endswith(".partial")):
                            freed += sum(stat.st_size for stat in found)
                            shutil.rmtree(entry, ignore_errors=True)
                except Timeout:
                    continue
        return freed


def _explained(error: OSError, root: Path) -> StoreError:
    if error.errno == errno.ENOSPC:
        return StoreError(
            f"The disk is full; nothing half-written was kept in the store {root}. Free some space (`anomaly-transfer "
            "store prune --features-only`) or set ANOMALY_TRANSFER_STORE to another disk, and run again."
        )
    return StoreError(
        f"The store {root} cannot be used ({error.strerror or error}): set ANOMALY_TRANSFER_STORE to a folder "
        "that you can write to."
    )
