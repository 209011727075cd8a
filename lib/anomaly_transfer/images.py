"""Sets of images, on disk or in memory: any of them is read as RGB, or it is said clearly why not."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from anomaly_transfer.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def read_image(path: str | Path) -> Image.Image:
    """Read one image file as 8-bit RGB, upright (EXIF orientation applied).

    16-bit images are scaled by their type's range (65535 to 255), so that equal pixels stay equal across
    images; transparency is laid over black.

    Raises
    ------
    DataError
        If the file is missing, empty, truncated or not an image; the message names the file.
    """
    path = Path(path)
    try:
        with Image.open(path) as file:
            kind = file.format
            image: Image.Image = ImageOps.exif_transpose(file)
    except FileNotFoundError as error:
        raise DataError(f"There is no image {path}.") from error
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        why = "is empty" if path.is_file() and path.stat().st_size == 0 else f"cannot be read ({error})"
        raise DataError(f"The image {path} {why}: replace it or take it out of the folder.") from error
    if image.mode.startswith(("I", "F")):
        # A PNG has 16 bits at the most; of a TIFF, "I" says 32, whose white is anywhere.
        if image.mode == "F" or (image.mode == "I" and kind != "PNG"):
            bits = "floating-point" if image.mode == "F" else "32-bit"
            raise DataError(f"The image {path} holds {bits} pixels: save it as 8 or 16 bit integers.")
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values / 257.0).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB")


class Images(Sequence):
    """An ordered set of images. An integer index gives an RGB picture, a slice or array of indices a subset."""

    def take(self, rows: Sequence[int] | np.ndarray) -> Images:
        """The subset at some rows, as of ``Features``."""
        return self[rows]  # type: ignore[call-overload]

    @cached_property
    @abstractmethod
    def hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each image."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all images, in order: names and places do not count."""
        return hashlib.sha256(b"".join(self.hashes)).hexdigest()


@dataclass(frozen=True)
class ImageFiles(Images):
    """Image files, read one at a time.

    Parameters
    ----------
    paths : tuple of Path
    """

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        if isinstance(index, int | np.integer):
            return read_image(self.paths[index])
        if isinstance(index, slice):
            return ImageFiles(self.paths[index])
        return ImageFiles(tuple(self.paths[i] for i in index))

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each file's bytes."""

        def of_file(path: Path) -> bytes:
            try:
                with open(path, "rb") as stream:
                    return hashlib.file_digest(stream, "sha256").digest()
            except OSError as error:
                raise DataError(f"The image {path} cannot be read: {error.strerror}.") from error

        with ThreadPoolExecutor() as pool:
            return tuple(pool.map(of_file, self.paths))


@dataclass(frozen=True, eq=False)
class ImageArray(Images):
    """Images of one size in memory.

    Parameters
    ----------
    pixels : uint8 array, shape (n, height, width) grey or (n, height, width, 3) RGB
    """

    pixels: np.ndarray

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim not in (3, 4):
            raise DataError(
                "Images in memory are uint8 with shape (n, height, width) or (n, height, width, 3), "
                f"not {self.pixels.dtype} with shape {self.pixels.shape}."
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index):
        if isinstance(index, int | np.integer):
            return Image.fromarray(self.pixels[index]).convert("RGB")
        return ImageArray(self.pixels[index])

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each image's shape and pixels."""
        shape = str(self.pixels.shape[1:]).encode()
        return tuple(hashlib.sha256(shape + image.tobytes()).digest() for image in self.pixels)


def duplicates(images: Images, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Rows in ``test`` of images that are identical, byte for byte, to one in ``train``.

    A picture that was saved again in another format or size is not found.

    Parameters
    ----------
    images : Images
    train, test : int array
        Rows of images.
    """
    seen = {images.hashes[row] for row in train}
    return np.array([row for row in test if images.hashes[row] in seen], dtype=int)


class Masks(Sequence):
    """Defect masks of a set of images; an item is a bool array (height, width), or None where nothing is known."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> Masks:
        """The masks at some rows."""

    @cached_property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over all masks, in order."""


@dataclass(frozen=True)
class MaskFiles(Masks):
    """Masks as image files, above 127 is defect.

    Parameters
    ----------
    paths : tuple of Path, or None where there is no mask
    """

    paths: tuple[Path | None, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        return None if path is None else np.asarray(read_image(path).convert("L")) > 127

    def take(self, rows: np.ndarray) -> MaskFiles:
        return MaskFiles(tuple(self.paths[row] for row in rows))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of all files, and where there is none."""
        there = "".join("-" if path is None else "x" for path in self.paths)
        files = ImageFiles(tuple(path for path in self.paths if path is not None))
        return hashlib.sha256((there + files.fingerprint).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class MaskArray(Masks):
    """Masks in memory.

    Parameters
    ----------
    pixels : bool array, shape (n, height, width)
    """

    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index):
        return self.pixels[index]

    def take(self, rows: np.ndarray) -> MaskArray:
        return MaskArray(self.pixels[rows])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shape and pixels."""
        return hashlib.sha256(str(self.pixels.shape).encode() + np.packbits(self.pixels).tobytes()).hexdigest()


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask, bool array (height, width), at another size (height, width): each pixel takes the nearest one's value."""
    picture = Image.fromarray(mask.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(picture).astype(bool)
