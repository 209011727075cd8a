"""A folder of images in the layout of MVTec AD: ``train/good``, ``test/CLASS``, ``ground_truth/CLASS``.

The layout is the field's common one, so it is how a reader brings images of their own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.errors import DataError
from anomaly_transfer.images import SUFFIXES, ImageFiles, read_image
from anomaly_transfer.labels import NORMAL, Annotations
from anomaly_transfer.splits import Fold

GOOD = "good"

#: ``anomaly_class`` of test images that lie in ``test/`` itself: they are scored, but nothing is known of them.
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class FolderContent:
    """What a folder in the MVTec AD layout holds.

    Attributes
    ----------
    category : Category
        Its annotations have a further column ``mask``: path of the defect mask, or "".
    fold : Fold
        The official split: ``train/good`` against ``test``.
    skipped : dict of str to str
        Files that could not be used, and why.
    """

    category: Category
    fold: Fold
    skipped: dict[str, str]


def read_folder(folder: str | Path) -> FolderContent:
    """Read a folder in the MVTec AD layout; unreadable images are left out and reported.

    Parameters
    ----------
    folder : path
        Holds ``train/good/*``, and optionally ``test/good/*``, ``test/CLASS/*``, ``ground_truth/CLASS/*_mask.png``;
        images directly in ``test/`` count as unlabelled.

    Raises
    ------
    DataError
        If the layout is another one, or fewer than two training images can be read.
    """
    folder = Path(folder)
    good = folder / "train" / GOOD
    if not good.is_dir():
        raise DataError(
            f"{folder} has no folder train/good. Expected: train/good/*.png (normal images to learn from), "
            "test/good/*.png and test/DEFECT/*.png (images to score), optionally ground_truth/DEFECT/*_mask.png."
        )
    rows = [("train", NORMAL, path) for path in list_images(good)]
    test = folder / "test"
    if test.is_dir():
        rows += [("test", UNLABELLED, path) for path in list_images(test)]
        for kind in sorted(path for path in test.iterdir() if path.is_dir()):
            rows += [("test", NORMAL if kind.name == GOOD else kind.name, path) for path in list_images(kind)]
    readable, skipped = sift([path for _, _, path in rows])
    rows = [row for row in rows if row[2] in readable]
    if sum(part == "train" for part, _, _ in rows) < 2:
        raise DataError(f"{good} holds fewer than 2 readable images: at least 2 normal images are needed to fit.")
    table = pd.DataFrame(
        {
            "id": [path.relative_to(folder).as_posix() for _, _, path in rows],
            "group": [path.stem for _, _, path in rows],
            "anomaly_class": [kind for _, kind, _ in rows],
            "grade": np.nan,
            "part": [part for part, _, _ in rows],
            "mask": [_mask(folder, kind, path) if part == "test" else "" for part, kind, path in rows],
        }
    )
    images = ImageFiles(tuple(path for _, _, path in rows))
    category = Category("folder", folder.resolve().name, images, Annotations(table))
    is_train = (table["part"] == "train").to_numpy()
    return FolderContent(category, Fold(np.flatnonzero(is_train), np.flatnonzero(~is_train)), skipped)


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def sift(paths: list[Path]) -> tuple[set[Path], dict[str, str]]:
    """Those files that can be read as images, and for each of the others why not."""

    def problem(path: Path) -> str | None:
        try:
            read_image(path)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        problems = dict(zip(paths, pool.map(problem, paths), strict=True))
    return {path for path, why in problems.items() if why is None}, {str(p): w for p, w in problems.items() if w}


def read_mask(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """A defect mask as a bool array of ``size`` (height, width); above 127 is defect.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    height, width = size
    grey = read_image(path).convert("L").resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(grey) > 127


def _mask(folder: Path, kind: str, image: Path) -> str:
    path = folder / "ground_truth" / kind / f"{image.stem}_mask.png"
    return str(path) if path.is_file() else ""
