"""Magnetic tiles: five kinds of surface defects with masks, each view photographed in several exposures."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.downloads import Source, fetch_archive
from anomaly_transfer.data.images import ImageFiles, MaskFiles
from anomaly_transfer.errors import DataError

SOURCE = Source(
    "https://github.com/abin24/Magnetic-tile-defect-datasets./archive/cc4eb530.zip", None, "magnetic-tile-cc4eb530.zip"
)
FILES = "MT_*/Imgs/*"
CONTENT = "96b660ca03e863f0a94c9e9e000ac7a2f78251d43a68cda243ee7fc75627390d"

FREE = "MT_Free"
DEFECTS = ("Blowhole", "Break", "Crack", "Fray", "Uneven")
_NAME = re.compile(r"exp(?P<exposure>\d)_num_(?P<number>\d+)")

#: Exposures of one view follow each other within so many counts of the number in the file name ...
_NEAR = 600
#: ... and their crops differ by no more than this factor in width or height.
_ALIKE = 1.35
#: A whole view has at least so many exposures.
_COMPLETE = 6


@dataclass
class _View:
    """The exposures of one view of a tile found so far."""

    exposures: set[int] = field(default_factory=set)
    rows: list[int] = field(default_factory=list)
    last: int = 0
    size: tuple[int, int] = (0, 0)

    def distance(self, size: tuple[int, int]) -> float:
        """How unlike two crops are: the larger ratio of widths or of heights."""
        return max(max(a, b) / min(a, b) for a, b in zip(self.size, size, strict=True))


def views(table: pd.DataFrame) -> np.ndarray:
    """Which images show the same view of a tile: not published, but found in numbers and sizes.

    Each view was photographed in up to seven exposures (``exp0`` to ``exp6``) at increasing numbers, and cropped by
    hand to about the same size. Two views may be interleaved. In order of the numbers, an image joins the view of the
    most similar size among those photographed shortly before that lack its exposure; if there is none, it
    begins a view. What is left with fewer than six exposures may be a piece of the view before it, and is joined to
    that: two views in one group do no harm, one view in two groups leaks.

    Parameters
    ----------
    table : DataFrame
        Columns ``number``, ``exposure``, ``width``, ``height``.

    Returns
    -------
    int array, shape (n,)
        The number of each image's view.
    """
    found: list[_View] = []
    for row in table.assign(row=np.arange(len(table))).sort_values(["number", "exposure"]).itertuples():
        size = (row.width, row.height)
        near = [v for v in found[-6:] if row.number - v.last <= _NEAR and row.exposure not in v.exposures]
        view = min(near, key=lambda v: v.distance(size), default=None)
        if view is None or view.distance(size) > _ALIKE:
            view = _View()
            found.append(view)
        view.exposures.add(row.exposure)
        view.rows.append(row.row)
        view.last, view.size = row.number, size
    result = np.empty(len(table), dtype=int)
    number = -1
    for view in found:
        number += number < 0 or len(view.exposures) >= _COMPLETE
        result[view.rows] = number
    return result


class MagneticTile(Benchmark):
    """1,344 pictures of magnetic tiles, 392 of them with a defect of five kinds."""

    name = "magnetic_tile"
    title = "Magnetic tile defects"
    about = (
        "Close-ups of ferrite tiles from electric motors, with five kinds of defects (blowhole, break, crack, fray, "
        "uneven) and pixel masks. A surface with named anomaly classes, as the first paper has in mind."
    )
    categories = ("tile",)
    splits = ("grouped", "random", "matched")
    groups = "exposures of one view of a tile, guessed from file number, exposure and crop size"
    traps = (
        "Six exposures of each view: a random split puts the same spot of the same tile on both sides.",
        "A view may be called free in one exposure and defective in another.",
        "One cracked view appears three times in nearly equal copies (exposure 4: 85602, 85998, 88149).",
        "Four masks of the class uneven are empty: those images count for detection, not for localisation.",
        "Crops differ in size and shape, and so do the classes: all are resized to a square.",
    )
    licence = "no licence stated; cite the source"
    citation = "huang2018"
    size = "1,344 images, 51 MB"
    obtained = (
        "`anomaly-transfer fetch magnetic_tile` downloads it (address not tried yet), or put the folders MT_Blowhole "
        "to MT_Uneven into the folder magnetic_tile of the data folder."
    )

    def available(self) -> tuple[str, ...]:
        return self.categories if (self.folder / FREE).is_dir() else ()

    def _fetch(self) -> None:
        fetch_archive(SOURCE, self.folder, max_bytes=200_000_000, pattern=FILES, content=CONTENT)

    def load(self, category: str, limit: int | None = None) -> Category:
        self.check(category)
        table = self._table()
        table["group"] = [f"view {number:03}" for number in views(table)]
        images = ImageFiles(tuple(self.folder / name for name in table["id"]))
        masks = MaskFiles(tuple(map(self._mask, table["id"], table["anomaly_class"])))
        return Category(self.name, category, images, Annotations(table, masks)).thinned(limit)

    def published(self, category: str) -> dict[str, int]:
        """Huang et al. (2018)."""
        return {NORMAL: 952, "blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103}

    def _table(self) -> pd.DataFrame:
        rows = []
        for kind in ("Free", *DEFECTS):
            folder = self.folder / f"MT_{kind}" / "Imgs"
            found = sorted(folder.glob("*.jpg"))
            if not found:
                raise DataError(f"{folder} holds no images. {self.obtained}")
            for path in found:
                name = _NAME.fullmatch(path.stem)
                if name is None:
                    raise DataError(f"{path} is not named like an image of this set (exp1_num_2.jpg): remove it.")
                try:
                    with Image.open(path) as image:
                        width, height = image.size
                except OSError as error:
                    raise DataError(f"The image {path} cannot be read ({error}): fetch the set again.") from error
                rows.append(
                    {
                        "id": path.relative_to(self.folder).as_posix(),
                        "anomaly_class": NORMAL if kind == "Free" else kind.lower(),
                        "grade": np.nan,
                        "exposure": int(name["exposure"]),
                        "number": int(name["number"]),
                        "width": width,
                        "height": height,
                    }
                )
        return pd.DataFrame(rows)

    def _mask(self, name: str, kind: str) -> Path | None:
        """Path of a defect's mask, unless there is none or it is empty."""
        path = (self.folder / name).with_suffix(".png")
        if kind == NORMAL or not path.is_file():
            return None
        with Image.open(path) as mask:
            return path if (np.asarray(mask.convert("L")) > 127).any() else None


BENCHMARK = MagneticTile()
