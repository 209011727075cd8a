"""A folder of images in the layout of MVTec AD: ``train/good``, ``test/CLASS``, ``ground_truth/CLASS``.

The layout is the field's common one, so it is how a reader brings images of their own. Every image in the folder
counts, or is named with the reason why not.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.images import (
    BIT_DEPTHS,
    SUFFIXES,
    Facts,
    ImageFiles,
    MaskFiles,
    common_bit_depth,
    examine,
    read_mask,
)
from anomaly_transfer.errors import DataError

GOOD = "good"

#: Folders of normal images have one of these names; case, spaces and punctuation do not count.
GOOD_WORDS = {GOOD, "ok", "okay", "normal", "pass", "passed", "nodefect", "nodefects", "defectfree", "io"}

#: Folders of masks have one of these names, written in whatever way.
MASK_WORDS = {"groundtruth", "gt", "mask", "masks"}

#: ``anomaly_class`` of test images that lie in ``test/`` itself: they are scored, but nothing is known of them.
UNLABELLED = "unlabelled"

#: What systems and programs leave in folders, beside what begins with a dot.
_SYSTEM = {
    "__macosx",
    "__pycache__",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
}

_CONVERT = "save it as PNG or JPEG"
_PLUG_IN = f"cannot be read without a plug-in of Pillow: {_CONVERT}"
#: Files that are pictures but cannot be read, and what to do.
_ELSEWHERE = (
    dict.fromkeys((".heic", ".heif"), f"{_PLUG_IN} (an iPhone does with Camera, Formats, Most Compatible)")
    | dict.fromkeys((".avif", ".jxl"), _PLUG_IN)
    | dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"), f"is the raw data of a camera: {_CONVERT}")
    | dict.fromkeys((".mp4", ".mov", ".avi", ".mkv"), "is a film: save its pictures one by one")
    | dict.fromkeys((".dcm", ".svg", ".pdf", ".psd"), f"is not a picture file that is read here: {_CONVERT}")
    | dict.fromkeys((".npy", ".npz", ".mat"), f"holds arrays: {_CONVERT}")
)

#: What the name of a mask may have after the name of its image.
_ENDING = re.compile(r"[ _.-](mask|gt)$", re.IGNORECASE)


@dataclass
class Survey:
    """Everything that was found in a folder, before anything is done with it.

    Attributes
    ----------
    folder : Path
    files : DataFrame
        One row an image that can be used: ``path``, ``id``, ``part`` (``"train"`` or ``"test"``), ``anomaly_class``,
        ``mask`` (Path or None), and what :class:`anomaly_transfer.data.images.Facts` says of it.
    skipped : dict of str to str
        Files and folders that are not used, or not wholly, and why.
    notes : list of str
        What was read otherwise than it is called.
    n_masks : int
        Mask files that were found, used or not.
    mask_shares : tuple of float
        Share of the picture, 0..1, that each mask marks of those that are used.
    """

    folder: Path
    files: pd.DataFrame
    skipped: dict[str, str]
    notes: list[str] = field(default_factory=list)
    n_masks: int = 0
    mask_shares: tuple[float, ...] = ()

    @property
    def bit_depth(self) -> int:
        """Bits that all images of this folder are read with (see ``data.images.common_bit_depth``)."""
        return common_bit_depth(int(self.files["largest"].max())) if len(self.files) else BIT_DEPTHS[-1]

    @property
    def problem(self) -> str | None:
        """Why no detector can be fitted, if so."""
        found = int((self.files["part"] == "train").sum())
        if found > 1:
            return None
        return (
            f"{printable(self.folder)} holds {found} readable image(s) to learn from, fewer than 2: at least 2 normal "
            f"images are needed to fit.{self.unused}"
        )

    @property
    def unused(self) -> str:
        """What is not used, by suffix, each with one of the reasons; empty if all is."""
        reasons: dict[str, list[str]] = defaultdict(list)
        for name, why in self.skipped.items():
            reasons[Path(name).suffix.lower()].append(why)
        return "".join(f" Not used: {len(why)} {suffix or 'others'}: {why[0]}" for suffix, why in reasons.items())

    def images(self, part: str) -> ImageFiles:
        """The images of ``"train"`` or of ``"test"``."""
        return ImageFiles(tuple(self.files.loc[self.files["part"] == part, "path"]), self.bit_depth)

    def category(self, benchmark: str = "folder") -> Category:
        """The folder as a detection problem.

        Raises
        ------
        DataError
            If fewer than two training images can be read.
        """
        if self.problem:
            raise DataError(self.problem)
        files, masks = self.files, tuple(self.files["mask"])
        table = files[["id", "anomaly_class", "part"]].assign(group=files["id"], grade=np.nan)
        return Category(
            benchmark,
            printable(self.folder.resolve().name),
            ImageFiles(tuple(files["path"]), self.bit_depth),
            Annotations(
                table[["id", "group", "anomaly_class", "grade", "part"]],
                MaskFiles(masks, above=None) if any(masks) else None,
            ),
            skipped=self.skipped,
        )


def read_folder(folder: str | Path, benchmark: str = "folder") -> Category:
    """Read a folder in the MVTec AD layout; what cannot be used is left out and reported in ``skipped``.

    Parameters
    ----------
    folder : path
        See :func:`survey`.
    benchmark : str
        Name of the benchmark that it belongs to.

    Raises
    ------
    DataError
        If the layout is another one, or fewer than two training images can be read.
    """
    return survey(folder).category(benchmark)


def survey(folder: str | Path) -> Survey:
    """Look through a folder in the MVTec AD layout.

    Parameters
    ----------
    folder : path
        Holds ``train/good``, and optionally ``test/good``, ``test/CLASS`` and ``ground_truth/CLASS``. Images at any
        depth below those count; images in ``test/`` itself are unlabelled. Folders named by one of ``GOOD_WORDS`` are
        as ``good``, those named by one of ``MASK_WORDS`` hold masks: in the folder of the class or all together,
        called as their image, with or without ``_mask``, in any format that keeps the image's size.

    Raises
    ------
    DataError
        If the layout is another one; the message says what to do.
    """
    folder = Path(folder)
    if not has_layout(folder):
        raise DataError(_advice(folder))
    look, parts = _Look(folder), {name: _parts(folder, name) for name in ("train", "test")}
    for path in parts["train"]:
        look.train(path)
    for path in parts["test"]:
        look.test(path)
    for path in _entries(folder):
        if path not in parts["train"] + parts["test"]:
            look.beside(path)
    return look.survey()


def survey_training(folder: str | Path) -> Survey:
    """Look through a folder of normal images to learn from: in the MVTec AD layout, or images directly in it.

    Raises
    ------
    DataError
        If there is no such folder, or it is neither.
    """
    folder = Path(folder)
    entries = _entries(folder) if folder.is_dir() else []
    if has_layout(folder) or not any(path.is_file() and not _is_system(path) for path in entries):
        return survey(folder)
    look = _Look(folder)
    for path in entries:
        if path.is_dir():
            look.unused(path, "only the images in the folder itself are learnt from")
        else:
            look.add("train", NORMAL, look.inside(path))
    return look.survey()


def survey_images(source: str | Path) -> Survey:
    """Look at one image, or through all images at any depth below a folder, of which nothing is known.

    Raises
    ------
    DataError
        If there is no such file or folder, or no image in it that can be read.
    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"There is no file or folder {printable(source)}.")
    look = _Look(source if source.is_dir() else source.parent)
    # A file that is named by itself is tried, whatever its suffix.
    look.add("test", UNLABELLED, look.inside(source) if source.is_dir() else [source])
    found = look.survey()
    if found.files.empty:
        raise DataError(f"{printable(source)} holds no image that can be read.{found.unused}")
    return found


def has_layout(folder: Path) -> bool:
    """Whether :func:`survey` can read a folder."""
    return any(_plain(path) in GOOD_WORDS for part in _parts(folder, "train") for path in _folders(part))


def printable(text: object) -> str:
    r"""A name as it can be written anywhere: control characters and bytes that are not UTF-8 become ``%XX``.

    >>> printable("a\udce9\nb")
    'a%E9%0Ab'
    """
    return "".join(
        f"%{ord(sign) & 0xFF:02X}" if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in str(text)
    )


class _Look:
    """A walk through a folder, and what it meets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[tuple[str, str, Path]] = []
        self.masks: list[Path] = []
        self.skipped: dict[Path, str] = {}
        self.notes: list[str] = []

    def train(self, part: Path) -> None:
        for path in _entries(part):
            if path.is_dir() and _plain(path) in GOOD_WORDS:
                self.labelled("train", path, NORMAL)
            else:
                self.unused(path, "only train/good is learnt from")

    def test(self, part: Path) -> None:
        for path in _entries(part):
            if not path.is_dir() or _plain(path) in MASK_WORDS:
                self.add("test", UNLABELLED, self.inside(path))
            elif _plain(path) in GOOD_WORDS:
                self.labelled("test", path, NORMAL)
            else:
                self.labelled("test", path, printable(path.name.strip()))

    def labelled(self, part: str, path: Path, kind: str) -> None:
        found = self.inside(path)
        if not found and path not in self.skipped:
            self.skipped[path] = f"The folder {path} holds no images."
        if kind == NORMAL and path.name != GOOD and found:
            self.notes.append(f"{self.name(path)} is read as normal images, like {part}/good.")
        self.add(part, kind, found)

    def add(self, part: str, kind: str, found: Iterable[Path]) -> None:
        self.rows += [(part, kind, path) for path in found]

    def beside(self, path: Path) -> None:
        """What lies beside train and test: masks, or nothing that is used."""
        if path.is_dir() and _plain(path) in MASK_WORDS:
            self.inside(path)
        elif path.is_dir() or not path.exists() or path.suffix.lower() in SUFFIXES:
            self.unused(path, "only train/good is learnt from, and only what is in test is scored")

    def unused(self, path: Path, why: str) -> None:
        """Say that what is in a folder, or an image, does not count."""
        if path.is_dir() and not _is_system(path):
            n_images = _n_images(self.folder, path)
            if n_images:
                self.skipped[path] = f"The folder {path} holds {n_images} image(s) that are not used: {why}."
        else:
            self.skipped |= {image: f"The image {image} is not used: {why}." for image in self.inside(path)}

    def inside(self, path: Path, above: tuple[Path, ...] = ()) -> list[Path]:
        """Images at any depth in a folder, or the file itself if it is one; masks and all the rest are noted."""
        if path != self.folder and _is_system(path):
            self._system(path)
        elif not path.exists():
            self.skipped[path] = f"{path} is a link to nothing: put the file there."
        elif path.is_dir():
            real = path.resolve()
            above = above or tuple((real if path == self.folder else path.parent.resolve() / path.name).parents)
            if real in above:
                self.skipped[path] = f"{path} is a link to a folder that it lies in: take it away."
                return []
            entries = _entries(path, self.skipped)
            found = self._apart([image for entry in entries for image in self.inside(entry, (*above, real))])
            if path == self.folder or _plain(path) not in MASK_WORDS:
                return found
            self.masks += found
        elif path.suffix.lower() in SUFFIXES:
            return [path]
        else:
            self.skipped[path] = f"The file {path} {_ELSEWHERE.get(path.suffix.lower(), 'is not an image')}."
        return []

    def _system(self, path: Path) -> None:
        inside = [path, *path.rglob("*")] if path.is_dir() else [path]
        n_images = sum(entry.suffix.lower() in SUFFIXES and entry.is_file() for entry in inside)
        if n_images:
            what = "hidden, or what a system or program leaves"
            self.skipped[path] = f"{path} is {what}: {n_images} image(s) in it do not count."

    def _apart(self, found: list[Path]) -> list[Path]:
        """The images among some files, without the masks that lie beside the image whose name they bear."""
        names = {(path.parent, path.stem) for path in found}
        masks = {
            path
            for path in found
            if path.stem.lower().endswith("_mask") and (path.parent, _ENDING.sub("", path.stem)) in names
        }
        self.masks += sorted(masks)
        return [path for path in found if path not in masks]

    def survey(self) -> Survey:
        with ThreadPoolExecutor() as pool:
            facts = list(pool.map(_facts, (path for _, _, path in self.rows)))
        usable = [(row, fact) for row, fact in zip(self.rows, facts, strict=True) if isinstance(fact, Facts)]
        self.skipped |= {row[2]: fact for row, fact in zip(self.rows, facts, strict=True) if isinstance(fact, str)}
        for (_, _, path), fact in usable:
            # Telephones put small copies of the picture into the same file.
            if fact.pages > 1 and fact.format != "MPO":
                self.skipped[path] = f"The file {path} holds {fact.pages} pictures: only the first is used."
        masks, shares = self._masks(usable)
        files = pd.DataFrame(
            {
                "path": [path for (_, _, path), _ in usable],
                "id": [self.name(path) for (_, _, path), _ in usable],
                "part": [part for (part, _, _), _ in usable],
                "anomaly_class": [kind for (_, kind, _), _ in usable],
                "mask": pd.Series([masks.get(path) for (_, _, path), _ in usable], dtype=object),
            }
        )
        of_files = pd.DataFrame([asdict(fact) for _, fact in usable], columns=list(Facts.__dataclass_fields__))
        skipped = {printable(path): printable(why) for path, why in self.skipped.items()}
        return Survey(self.folder, files.join(of_files), skipped, self.notes, len(self.masks), shares)

    def name(self, path: Path) -> str:
        """How a file is called in reports: its place in the folder."""
        return printable(path.relative_to(self.folder).as_posix())

    def _masks(self, usable: list[tuple[tuple[str, str, Path], Facts]]) -> tuple[dict[Path, Path], tuple[float, ...]]:
        """The mask of each image that has a usable one, and what each marks; why others are not used is noted."""
        by_name: dict[tuple, list[Path]] = defaultdict(list)
        for mask in self.masks:
            place = tuple(_same(name) for name in self._place(mask))
            for name in dict.fromkeys((mask.stem, _ENDING.sub("", mask.stem))):
                by_name[place, _same(name)].append(mask)
        claims: dict[Path, list[tuple[str, Path, Facts]]] = defaultdict(list)
        for (part, kind, image), fact in usable:
            if part == "test":
                for mask in self._candidates(image, by_name):
                    claims[mask].append((kind, image, fact))
        chosen: dict[Path, list[tuple[Path, float]]] = defaultdict(list)
        for mask in self.masks:
            images = claims[mask]
            images = [image for image in images if image[0] != NORMAL] or images
            names = ", ".join(self.name(image) for _, image, _ in images[:3])
            why: str | None
            if not images:
                why = "no test image has its name"
            elif len(images) > 1:
                why = f"it fits {len(images)} images, {names}"
            elif images[0][0] == NORMAL:
                why = f"{names} is normal and needs none"
            elif images[0][0] == UNLABELLED:
                why = f"of {names} no class is known"
            else:
                why, share = _judged(mask, (images[0][2].width, images[0][2].height))
            if why:
                self.skipped[mask] = f"The mask {mask} is not used: {why}."
            else:
                chosen[images[0][1]].append((mask, share))
        for image, found in chosen.items():
            for mask, _ in found if len(found) > 1 else ():
                self.skipped[mask] = f"The mask {mask} is not used: {self.name(image)} has {len(found)} masks."
        single = {image: found[0] for image, found in chosen.items() if len(found) == 1}
        return {image: mask for image, (mask, _) in single.items()}, tuple(share for _, share in single.values())

    def _candidates(self, image: Path, by_name: dict[tuple, list[Path]]) -> list[Path]:
        """Masks with the image's name in the folder that is nearest to it: of its part of a class, its class, or all.

        A mask with the whole name, ``0.jpg_mask.png``, or with the very spelling is preferred.
        """
        place = self._place(image)
        for depth in range(len(place), -1, -1):
            where = tuple(_same(name) for name in place[:depth])
            for name in (image.name, image.stem):
                found = by_name.get((where, _same(name)), [])
                exact = [mask for mask in found if _ENDING.sub("", mask.stem) == name]
                if exact or found:
                    return exact or found
        return []

    def _place(self, path: Path) -> tuple[str, ...]:
        """The folders that an image or mask lies in, without ``test`` and those of masks."""
        folders = path.relative_to(self.folder).parts[:-1]
        return tuple(name for name in folders if _plain(name) not in MASK_WORDS | {"test"})


def _facts(path: Path) -> Facts | str:
    try:
        return examine(path)
    except DataError as error:
        return str(error)


def _judged(mask: Path, size: tuple[int, int]) -> tuple[str | None, float]:
    """What is wrong with a mask of an image of some width and height, if anything; and what share it marks."""
    try:
        found = read_mask(mask)
    except DataError as error:
        return str(error).rstrip("."), np.nan
    height, width = found.shape
    if (width, height) != size:
        return f"it has {width} x {height} pixels, its image {size[0]} x {size[1]}", np.nan
    if not found.any() or found.all():
        which = "every" if found.any() else "no"
        return f"it marks {which} pixel; paint the defect, and leave the ground black", np.nan
    return None, float(found.mean())


def _n_images(folder: Path, path: Path) -> int:
    """How many images and masks there are at any depth in a part of a folder, those that cannot be read included."""
    aside = _Look(folder)
    found = [*aside.inside(path), *aside.masks, *aside.skipped]
    return sum(entry.suffix.lower() in SUFFIXES | set(_ELSEWHERE) for entry in found)


def _advice(folder: Path) -> str:
    """What somebody with another layout has, and what to do with it."""
    if not folder.is_dir():
        return printable(f"There is no folder {folder}.")
    missing = f"{folder} has no folder train/good"
    held = {path: _n_images(folder, path) for path in _entries(folder) if not _is_system(path)}
    parts = {path: n for path, n in held.items() if path.is_dir() and n and _plain(path) not in MASK_WORDS}
    loose = sum(n for path, n in held.items() if path.is_file())
    train = [path for path in parts if _plain(path) == "train"]
    good = [path for path in parts if _plain(path) in GOOD_WORDS]
    bad = [path for path in parts if path not in good and _plain(path) not in ("train", "test")]
    if train:
        inside = ", ".join(path.name for path in _folders(train[0])) or "images only"
        return printable(
            f"{missing}; {train[0].name} holds {inside}. Make the folder {train[0].name}/good and move the normal "
            "images into it: nothing else is learnt from."
        )
    if good:
        here = ", ".join(f"{path.name} ({parts[path]} images)" for path in (*good, *bad))
        return printable(
            f"{missing}, but {here}. Make train/good and move most images of {good[0].name} into it, move the others "
            f"(of other parts, other days) to test/good"
            + "".join(f", and {path.name} to test/{path.name}" for path in bad)
            + "."
        )
    have = f"but {loose} images: move them" if loose else "and no images: bring some"
    return printable(
        f"{missing}, {have} to train/good (normal images to learn from), test/good and test/DEFECT (images to score; "
        "DEFECT is any name), masks, if there are any, to ground_truth/DEFECT/*_mask.png."
    )


def _parts(folder: Path, name: str) -> list[Path]:
    return [path for path in _folders(folder) if _plain(path) == name] if folder.is_dir() else []


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir() and not _is_system(path)]


def _entries(folder: Path, skipped: dict[Path, str] | None = None) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        if skipped is None:
            raise
        skipped[folder] = f"The folder {folder} cannot be opened: {error.strerror}."
        return []


def _is_system(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def _plain(path: Path | str) -> str:
    """A folder's name without case, spaces and punctuation."""
    return re.sub(r"[\W_]", "", (path if isinstance(path, str) else path.name).casefold())


def _same(name: str) -> str:
    """A name as systems that know no case, or write accents in two ways, compare it."""
    return unicodedata.normalize("NFC", name).casefold()


def counted(values: Iterable[str]) -> str:
    """Values and how often they occur, the most frequent first.

    >>> counted(["PNG", "JPEG", "PNG"])
    '2 PNG, 1 JPEG'
    """
    return ", ".join(f"{number} {value}" for value, number in Counter(values).most_common())
