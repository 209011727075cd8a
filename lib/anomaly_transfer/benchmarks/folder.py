"""A folder of images in the layout of MVTec AD: ``train/good``, ``test/CLASS``, ``ground_truth/CLASS``.

The layout is the field's common one, so it is how a reader brings images of their own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.errors import DataError
from anomaly_transfer.images import SUFFIXES, ImageFiles, MaskFiles, read_image
from anomaly_transfer.labels import NORMAL, Annotations

GOOD = "good"

#: ``anomaly_class`` of test images that lie in ``test/`` itself: they are scored, but nothing is known of them.
UNLABELLED = "unlabelled"


def read_folder(folder: str | Path, benchmark: str = "folder") -> Category:
    """Read a folder in the MVTec AD layout; what cannot be used is left out and reported in ``skipped``.

    Parameters
    ----------
    folder : path
        Holds ``train/good/*``, and optionally ``test/good/*``, ``test/CLASS/*``, ``ground_truth/CLASS/*_mask.png``;
        images directly in ``test/`` count as unlabelled.
    benchmark : str
        Name of the benchmark that it belongs to.

    Raises
    ------
    DataError
        If the layout is another one, or fewer than two training images can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    good = folder / "train" / GOOD
    if not good.is_dir():
        raise DataError(
            f"{folder} has no folder train/good. Expected: train/good/*.png (normal images to learn from), "
            "test/good/*.png and test/DEFECT/*.png (images to score), optionally ground_truth/DEFECT/*_mask.png."
        )
    places = [("train", NORMAL, good)]
    test = folder / "test"
    if test.is_dir():
        kinds = sorted(path for path in test.iterdir() if path.is_dir())
        places += [("test", NORMAL if kind.name == GOOD else kind.name, kind) for kind in kinds]
        if list_images(test):
            places.append(("test", UNLABELLED, test))
    rows: list[tuple[str, str, Path]] = []
    skipped: dict[str, str] = {}
    for part, kind, place in places:
        found = list_images(place)
        skipped |= not_images(place) if found else {str(place): f"The folder {place} holds no images."}
        rows += [(part, kind, path) for path in found]
    readable, unreadable = sift([path for _, _, path in rows])
    rows = [row for row in rows if row[2] in readable]
    if sum(part == "train" for part, _, _ in rows) < 2:
        raise DataError(f"{good} holds fewer than 2 readable images: at least 2 normal images are needed to fit.")
    masks, unusable = _masks(folder, rows)
    table = pd.DataFrame(
        {
            "id": [path.relative_to(folder).as_posix() for _, _, path in rows],
            "group": [path.relative_to(folder).as_posix() for _, _, path in rows],
            "anomaly_class": [kind for _, kind, _ in rows],
            "grade": np.nan,
            "part": [part for part, _, _ in rows],
        }
    )
    return Category(
        benchmark,
        folder.resolve().name,
        ImageFiles(tuple(path for _, _, path in rows)),
        Annotations(table, masks),
        skipped=skipped | unreadable | unusable,
    )


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def not_images(folder: Path) -> dict[str, str]:
    """The other files in a folder, each with what is wrong; hidden files do not count."""
    others = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() not in SUFFIXES)
    return {str(path): f"The file {path} is not an image." for path in others if not path.name.startswith(".")}


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


def _masks(folder: Path, rows: list[tuple[str, str, Path]]) -> tuple[MaskFiles | None, dict[str, str]]:
    """Masks of the defective test images that have a usable one; and why the others are not used."""
    paths: list[Path | None] = []
    unusable = {}
    for part, kind, image in rows:
        mask = folder / "ground_truth" / kind / f"{image.stem}_mask.png"
        why = _unlike(mask, image) if part == "test" and mask.is_file() else None
        if why:
            unusable[str(mask)] = why
        paths.append(mask if part == "test" and mask.is_file() and not why else None)
    return (MaskFiles(tuple(paths)) if any(paths) else None), unusable


def _unlike(mask: Path, image: Path) -> str | None:
    """What is wrong with a mask, if anything."""
    try:
        sizes = read_image(mask).size, read_image(image).size
    except DataError as error:
        return str(error)
    if sizes[0] != sizes[1]:
        return f"The mask {mask} has {sizes[0][0]} x {sizes[0][1]} pixels, its image {sizes[1][0]} x {sizes[1][1]}."
    return None
