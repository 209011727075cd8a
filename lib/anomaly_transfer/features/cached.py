"""Features in the store: extracted once, found by images, network, size and code, and mapped from disk."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from anomaly_transfer.code_used import code_of
from anomaly_transfer.data.images import Images
from anomaly_transfer.device import engines, note_engine
from anomaly_transfer.errors import StoreError
from anomaly_transfer.features.extraction import extract
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.pixels import LEVEL, SIDE
from anomaly_transfer.features.pixels import pixels as of_images
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.networks.backbones import Backbone
from anomaly_transfer.store import Store


def features(
    store: Store,
    images: Images,
    backbone: Backbone,
    image_size: int,
    levels: Sequence[str] | None = None,
    engine: str | None = None,
) -> Features:
    """Features of ``images``, extracted if they are not yet here; mapped from disk, not held in memory.

    Spatial means cost next to nothing where maps are made, and little to keep: whoever asks for maps leaves them
    here, too. So ask for maps first where both are needed, and the images pass the network once.

    Parameters
    ----------
    store : Store
    images : Images
    backbone : Backbone
    image_size : int
        Side of the network's input, pixels.
    levels : sequence of str, optional
        Levels whose spatial maps to return; None returns the spatial means of all levels.
    engine : str, optional
        See :func:`~anomaly_transfer.features.extraction.forward_function`; does not count in the key.
    """
    of = {
        "images": images.fingerprint,
        "backbone": backbone.fingerprint(),
        "image_size": image_size,
        "code": code_of("anomaly_transfer.features.extraction:extract").hash,
    }
    pooled, key = (digest(of | {"levels": kept and list(kept)}) for kept in (None, levels))
    note = {"backbone": backbone.name, "image_size": image_size, "images": len(images)}

    def write(folder: Path, beside: Path | None = None) -> None:
        extract(images, backbone, image_size, folder, levels, engine=engine, pooled=beside)

    def write_both(folder: Path) -> None:
        # The lock of maps is held: everybody takes that of pooled features last, so nobody waits in a circle.
        with store.locked("features", pooled):
            if store.path("features", pooled).is_dir():
                write(folder)
            else:
                _write(store, pooled, backbone.levels, lambda beside: write(folder, beside), note)

    if levels is None:
        return _stored(store, pooled, backbone.levels, write, note)
    return _stored(store, key, tuple(levels), write_both, note)


def pixels(store: Store, images: Images) -> Features:
    """The pixels of ``images``, as :func:`anomaly_transfer.features.pixels.pixels` gives them; mapped from disk."""
    key = digest({"pixels of": images.fingerprint, "code": code_of("anomaly_transfer.features.pixels:pixels").hash})

    def write(folder: Path) -> None:
        np.save(folder / f"{LEVEL}.npy", of_images(images)[LEVEL])

    return _stored(store, key, (LEVEL,), write, {"image_size": SIDE, "images": len(images)})


def _stored(
    store: Store, key: str, names: Sequence[str], write: Callable[[Path], None], note: dict[str, object]
) -> Features:
    """The entry with one array a name; ``write`` makes them if they are not yet here."""
    with store.locked("features", key):
        found = _mapped(store, key, names)
        if found is None:
            _write(store, key, names, write, note)
            found = _mapped(store, key, names)
            if found is None:
                raise StoreError(f"Features written to {store.path('features', key)} cannot be read back.")
        return found


def _write(
    store: Store, key: str, names: Sequence[str], write: Callable[[Path], None], note: dict[str, object]
) -> None:
    """Publish the entry that ``write`` makes; hold its lock around it."""
    with store.writing("features", key) as folder, engines() as used:
        write(folder)
        sizes = {name: (folder / f"{name}.npy").stat().st_size for name in names}
        entry = {**note, "engines": sorted(used), "sizes": sizes}
        (folder / "entry.json").write_text(json.dumps(entry), encoding="utf-8")


def _mapped(store: Store, key: str, names: Sequence[str]) -> Features | None:
    """The entry's arrays, or None if it is absent or damaged (then it is computed again)."""
    folder = store.path("features", key)
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
        note_engine(engine)
    return Features(arrays, np.arange(len(next(iter(arrays.values())))))
