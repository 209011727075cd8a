"""MNIST's file format, and the sets of pictures that come in it."""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from anomaly_transfer.benchmarks.one_class import Labelled, OneClass
from anomaly_transfer.data.downloads import Source, download, fetch_folder
from anomaly_transfer.data.images import ImageArray
from anomaly_transfer.errors import DataError
from anomaly_transfer.fingerprint import file_hash

#: The four files of MNIST and its descendants, and the part each belongs to.
IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def find_idx(folders: list[Path]) -> dict[str, Path] | None:
    """The four files, plain or gzipped, below the first of the folders that holds them all; else None."""
    names = [name for pair in IDX_FILES.values() for name in pair]
    for folder in folders:
        found = {path.name.removesuffix(".gz"): path for path in sorted(folder.rglob("*-ubyte*")) if path.is_file()}
        if set(names) <= set(found):
            return {name: found[name] for name in names}
    return None


def read_idx(path: Path) -> np.ndarray:
    """An idx file (LeCun's format), plain or gzipped, of unsigned bytes; torchvision reads the plain ones only.

    Raises
    ------
    DataError
        If it is truncated or something else.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it and fetch it again.") from error
    # 0, 0, type (8: unsigned byte), number of axes; then the axes as big-endian 32-bit integers.
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} is not an idx file of bytes: delete it and fetch it again.")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], dtype=">u4").astype(int)
    if len(content) - start != shape.prod():
        raise DataError(
            f"{path} should hold {shape.prod()} values and holds {len(content) - start}: delete it and fetch it again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


class IdxSet(OneClass):
    """A labelled set in MNIST's four files.

    Class attributes
    ----------------
    torchvision : str
        Name of the class there.
    unpacked : dict of file name to SHA-256 of the plain file
    system : Path, optional
        Where a system package puts the files.
    """

    torchvision: str
    unpacked: ClassVar[Mapping[str, str]]
    system: Path | None = None

    def available(self) -> tuple[str, ...]:
        return self.categories if self._files() else ()

    def _fetch(self) -> None:
        mirror, resources = self.web()
        packed_folder = self.folder.with_name("downloads") / self.name

        def fill(folder: Path) -> None:
            for name, md5 in resources:
                packed = download(Source(mirror + name, f"md5:{md5}", name), packed_folder)
                plain = folder / packed.stem
                with gzip.open(packed) as stream, open(plain, "wb") as file:
                    shutil.copyfileobj(stream, file)
                if file_hash(plain) != self.unpacked[plain.name]:
                    raise DataError(f"{name} unpacks to something else than expected: nothing was kept.")

        fetch_folder(self.folder, fill)

    def web(self) -> tuple[str, list[tuple[str, str]]]:
        """Address, and name and MD5 sum of each gzipped file, as torchvision knows them."""
        from torchvision import datasets  # takes seconds to import

        known = getattr(datasets, self.torchvision)
        return known.mirrors[0], known.resources

    def read(self) -> Labelled:
        files = self._files()
        if files is None:
            raise DataError(f"{self.title} is not at hand. {self.obtained}")
        pixels, tables = [], []
        for part, (images, labels) in IDX_FILES.items():
            images_of, labels_of = read_idx(files[images]), read_idx(files[labels])
            if len(images_of) != len(labels_of):
                raise DataError(
                    f"{files[images]} holds {len(images_of)} images and {files[labels]} {len(labels_of)} labels: "
                    "delete them and fetch them again."
                )
            pixels.append(images_of)
            ids = [f"{part}/{number:05}" for number in range(len(labels_of))]
            tables.append(pd.DataFrame({"id": ids, "label": np.array(self.categories)[labels_of], "part": part}))
        return Labelled(ImageArray(np.concatenate(pixels)), pd.concat(tables, ignore_index=True))

    def _files(self) -> dict[str, Path] | None:
        return find_idx([self.folder, self.system] if self.system else [self.folder])
