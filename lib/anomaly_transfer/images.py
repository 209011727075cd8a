"""Images on disk: reading any of them as RGB, or saying clearly why not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
            image: Image.Image = ImageOps.exif_transpose(file)
    except FileNotFoundError as error:
        raise DataError(f"There is no image {path}.") from error
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        why = "is empty" if path.is_file() and path.stat().st_size == 0 else f"cannot be read ({error})"
        raise DataError(f"The image {path} {why}: replace it or take it out of the folder.") from error
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        if image.mode == "F":
            raise DataError(f"The image {path} holds floating-point pixels: save it as 8 or 16 bit integers.")
        image = Image.fromarray((values / 257.0).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB")


@dataclass(frozen=True)
class ImageFiles(Sequence):
    """An ordered set of image files, read one at a time.

    Parameters
    ----------
    paths : tuple of Path
    """

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        """The image at an integer index (RGB), or the subset at a slice or array of indices."""
        if isinstance(index, int | np.integer):
            return read_image(self.paths[index])
        if isinstance(index, slice):
            return ImageFiles(self.paths[index])
        return ImageFiles(tuple(self.paths[i] for i in index))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of all files, in order: names and places do not count."""
        total = hashlib.sha256()
        for path in self.paths:
            try:
                with open(path, "rb") as stream:
                    total.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                raise DataError(f"The image {path} cannot be read: {error.strerror}.") from error
        return total.hexdigest()
