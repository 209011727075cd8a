"""A person's own images, as a detector takes them: of a folder, or arrays in memory."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np

from anomaly_transfer.benchmarks.folder import printable, survey_images
from anomaly_transfer.data.images import ImageArray, ImageFiles, Images
from anomaly_transfer.errors import DataError

#: What :func:`as_images` takes.
Given = Images | np.ndarray | Sequence[np.ndarray]


def read_images(source: str | Path) -> ImageFiles:
    """Read one image file, or all images at any depth below a folder, in the order of their names.

    Files that cannot be used are left out, with a warning that says how many and why. Of a folder in the layout of
    MVTec AD a detector learns from ``train/good`` alone: give that.

    Parameters
    ----------
    source : path

    Returns
    -------
    ImageFiles
        The images; ``paths`` are their files.

    Raises
    ------
    DataError
        If there is no such file or folder, or no image in it that can be read.

    Examples
    --------
    >>> import anomaly_transfer as at
    >>> at.read_images("nowhere")
    Traceback (most recent call last):
    anomaly_transfer.errors.DataError: There is no file or folder nowhere.
    """
    found = survey_images(source)
    if found.skipped:
        warnings.warn(f"{printable(source)}:{found.unused}", stacklevel=2)
    return found.images("test")


def as_images(given: Given) -> Images:
    """Images as they are given to a model: already read, or arrays.

    Parameters
    ----------
    given : Images, uint8 array or sequence of them
        One array has shape (n, height, width) grey or (n, height, width, 3) RGB; a sequence holds one array an image,
        (height, width) or (height, width, 3), each of its own size.

    Raises
    ------
    DataError
        If there are none, or an array has another shape or type, or a path was given.

    Examples
    --------
    >>> wide, high = as_images([np.zeros((20, 30, 3), np.uint8), np.zeros((30, 20), np.uint8)])
    >>> wide.size, high.size
    ((30, 20), (20, 30))
    """
    if isinstance(given, str | PathLike):
        raise DataError(f"{printable(given)} is a path: read its images first, with read_images.")
    if not len(given):
        raise DataError("There are no images.")
    if isinstance(given, Images):
        return given
    if isinstance(given, np.ndarray):
        if given.ndim == 3 and given.shape[-1] in (3, 4):
            raise DataError(f"An array of shape {given.shape} is one image, not a set of them: give image[None].")
        return _checked(given)
    return ImageList(tuple(_checked(np.asarray(image)[None]) for image in given))


def _checked(pixels: np.ndarray) -> ImageArray:
    if pixels.ndim == 4 and pixels.shape[-1] != 3:
        raise DataError(f"Images in memory have three channels, RGB, not {pixels.shape[-1]}.")
    return ImageArray(pixels)


@dataclass(frozen=True, eq=False)
class ImageList(Images):
    """Images in memory, each of its own size.

    Parameters
    ----------
    single : tuple of ImageArray
        Of one image each.
    """

    single: tuple[ImageArray, ...]

    def __len__(self) -> int:
        return len(self.single)

    def __getitem__(self, index):
        if isinstance(index, int | np.integer):
            return self.single[index][0]
        return ImageList(self.single[index] if isinstance(index, slice) else tuple(self.single[i] for i in index))

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each image's shape and pixels."""
        return tuple(image.hashes[0] for image in self.single)
