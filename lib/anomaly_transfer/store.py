"""The on-disk store of features, networks, records and tables: computed once, found by what they were computed from.

An entry is a folder named by its key. It is written beside its place under a lock, flushed to disk and renamed,
so a reader sees all of it or nothing; a process killed while writing leaves only a ``.partial`` folder, which the
next writer of that key (or :meth:`Store.prune`) removes. Arrays are plain ``.npy`` files, never pickle.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from anomaly_transfer.code_used import code_of
from anomaly_transfer.data.images import Images
from anomaly_transfer.device import engines, ran
from anomaly_transfer.errors import StoreError
from anomaly_transfer.features import pixels
from anomaly_transfer.features.extraction import extract
from anomaly_transfer.features.features import Features
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.networks.backbones import Backbone
from anomaly_transfer.settings import store_folder

KINDS = ("features", "encoders", "tunings", "records", "tables")


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
        final = self.path(kind, key)
        partial = final.with_name(f"{key}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            yield partial
            for file in partial.iterdir():
                with open(file, "rb+") as stream:
                    os.fsync(stream.fileno())
            shutil.rmtree(final, ignore_errors=True)
            os.rename(partial, final)
        except OSError as error:
            raise _explained(error, self.root) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

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

    def features(
        self,
        images: Images,
        backbone: Backbone,
        image_size: int,
        levels: Sequence[str] | None = None,
        engine: str | None = None,
    ) -> Features:
        """Features of ``images``, extracted if they are not yet here; mapped from disk, not held in memory.

        Parameters
        ----------
        images : Images
        backbone : Backbone
        image_size : int
            Side of the network's input, pixels.
        levels : sequence of str, optional
            Levels whose spatial maps to return; None returns the spatial means of all levels.
        engine : str, optional
            See :func:`anomaly_transfer.features.extraction.forward_function`; does not count in the key.
        """
        key = digest(
            {
                "images": images.fingerprint,
                "backbone": backbone.fingerprint(),
                "image_size": image_size,
                "levels": None if levels is None else list(levels),
                "code": code_of("anomaly_transfer.features.extraction:extract").hash,
            }
        )
        note = {"backbone": backbone.name, "image_size": image_size, "images": len(images)}
        return self._features(
            key,
            backbone.levels if levels is None else tuple(levels),
            lambda folder: extract(images, backbone, image_size, folder, levels, engine=engine),
            note,
        )

    def pixels(self, images: Images) -> Features:
        """The pixels of ``images``, as :func:`anomaly_transfer.features.pixels.pixels` gives them; mapped from disk."""
        key = digest({"pixels of": images.fingerprint, "code": code_of("anomaly_transfer.features.pixels:pixels").hash})

        def write(folder: Path) -> None:
            np.save(folder / f"{pixels.LEVEL}.npy", pixels.pixels(images)[pixels.LEVEL])

        return self._features(key, (pixels.LEVEL,), write, {"image_size": pixels.SIDE, "images": len(images)})

    def _features(
        self, key: str, names: Sequence[str], write: Callable[[Path], None], note: dict[str, object]
    ) -> Features:
        """The entry with one array a name; ``write`` makes them if they are not yet here."""
        with self.locked("features", key):
            found = self._mapped(key, names)
            if found is None:
                with self.writing("features", key) as folder, engines() as used:
                    write(folder)
                    sizes = {name: (folder / f"{name}.npy").stat().st_size for name in names}
                    entry = {**note, "engines": sorted(used), "sizes": sizes}
                    (folder / "entry.json").write_text(json.dumps(entry), encoding="utf-8")
                found = self._mapped(key, names)
                if found is None:
                    raise StoreError(f"Features written to {self.path('features', key)} cannot be read back.")
            return found

    def _mapped(self, key: str, names: Sequence[str]) -> Features | None:
        """The entry's arrays, or None if it is absent or damaged (then it is computed again)."""
        folder = self.path("features", key)
        if not folder.is_dir():
            return None
        try:
            entry = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
            sizes = entry["sizes"]
            if any((folder / f"{name}.npy").stat().st_size != sizes[name] for name in names):
                raise ValueError("a file is shorter or longer than it was written")
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
        except (OSError, ValueError, KeyError) as error:
            warnings.warn(f"The store entry {folder} is damaged ({error}); it is computed again.", stacklevel=3)
            return None
        for engine in entry["engines"]:
            ran(engine)
        return Features(arrays, np.arange(len(next(iter(arrays.values())))))

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
