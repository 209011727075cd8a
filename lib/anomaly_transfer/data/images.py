"""Sets of images, on disk or in memory: any of them is read as RGB, or it is said clearly why not."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from anomaly_transfer.errors import DataError

SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".gif",
    ".jp2",
    ".pgm",
    ".ppm",
    ".pnm",
}

#: Formats that lose something: around the edges of a mask they leave values that are not zero.
LOSSY = {"JPEG", "MPO", "WEBP", "JPEG2000"}

#: Bits of a pixel that cameras give.
BIT_DEPTHS = (8, 10, 12, 14, 16)

#: Sum of the table by which JPEG's reference program quantises luminance at quality 50 (ITU-T T.81, table K.1).
_QUALITY_50 = 3688

_EXIF, _EXIF_TAKEN, _EXIF_CHANGED = 0x8769, 36867, 306


@dataclass(frozen=True)
class Facts:
    """What is to be known of an image file beside its picture.

    Attributes
    ----------
    format : str
        ``"JPEG"``, ``"PNG"``, ...: what the file is, whatever its name says.
    stored : str
        How pixels are stored, e.g. ``"8-bit colour"`` or ``"16-bit grey"``.
    width, height : int
        Pixels, upright.
    largest : int
        The largest value, in 0..65535, of a pixel that is stored with more than 8 bits; 0 of one with fewer.
    pages : int
        Pictures in the file; the first one is read.
    quality : float
        Of a JPEG file in 0..100, as its quantisation table lets one guess; NaN of any other.
    taken : float
        When the picture was taken by what its file says (EXIF), seconds since 1970; NaN if it does not say.
    modified : float
        When the file was changed, seconds since 1970.
    pixels : str
        SHA-256 of size and pixels: equal for one picture saved twice, if nothing was lost.
    """

    format: str
    stored: str
    width: int
    height: int
    largest: int
    pages: int
    quality: float
    taken: float
    modified: float
    pixels: str


@dataclass(frozen=True)
class _Opened:
    """A decoded file: the picture, upright, and what must be known to make RGB of it."""

    image: Image.Image
    format: str
    deep: bool
    quality: float
    taken: float


def read_image(path: str | Path, bit_depth: int = 16) -> Image.Image:
    """Read one image file as 8-bit RGB, upright (EXIF orientation applied).

    Transparency is laid over black. Of a file with several pictures the first is read.

    Parameters
    ----------
    path : path
    bit_depth : int, 8..16
        How many bits those pixels use that are stored with 16: the largest value they can have becomes 255. It must be
        the same for all images that are compared, so that equal pixels stay equal (see :func:`common_bit_depth`).

    Raises
    ------
    DataError
        If the file is missing, empty, truncated or not an image; the message names the file.
    """
    return _rgb(_open(Path(path)), bit_depth)


def examine(path: str | Path) -> Facts:
    """Read one image file, and say what is to be known of it.

    Raises
    ------
    DataError
        As :func:`read_image`.
    """
    opened = _open(Path(path))
    mode = opened.image.mode
    # Of colour with 16 bits Pillow keeps the upper 8.
    exact, step = (np.asarray(opened.image), 1) if mode.startswith("I") else (np.asarray(_rgb(opened, 16)), 257)
    bits = 16 if opened.deep else 1 if mode == "1" else 8
    return Facts(
        format=opened.format,
        stored=f"{bits}-bit {'grey' if mode[0] in '1LI' else 'palette' if mode[0] == 'P' else 'colour'}",
        width=opened.image.width,
        height=opened.image.height,
        largest=int(exact.max()) * step if opened.deep else 0,
        pages=_pages(path),
        quality=opened.quality,
        taken=opened.taken,
        modified=Path(path).stat().st_mtime,
        pixels=hashlib.sha256(str(exact.shape).encode() + exact.tobytes()).hexdigest(),
    )


def common_bit_depth(largest: int) -> int:
    """How many bits the pixels of a set of images use, by the largest value among those stored with more than 8.

    Cameras give 8, 10, 12, 14 or 16 bits, and many programs save them as 16 without scaling.

    >>> common_bit_depth(1023), common_bit_depth(1024), common_bit_depth(0)
    (10, 12, 16)
    """
    if not largest:
        return BIT_DEPTHS[-1]
    return min(bits for bits in BIT_DEPTHS if largest < 2**bits)


def read_mask(path: str | Path) -> np.ndarray:
    """Read a person's mask: which pixels are foreground, in whatever way they were painted.

    Foreground is what is not ground:

    - where parts of the picture are transparent, they are ground, and so is black unless all the rest is black;
    - else ground is black, zero in all channels; any other value counts, be it 1 or 255, grey or red;
    - the ground of a palette without black is its entry 0;
    - in a format that loses something (JPEG, WebP) edges are never clean: there foreground is what is
      above half of the largest value.

    Benchmarks that state another rule do not come here (see :class:`MaskFiles`).

    Returns
    -------
    bool array, shape (height, width)

    Raises
    ------
    DataError
        As :func:`read_image`.
    """
    opened = _open(Path(path))
    image = opened.image
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        values = np.asarray(image.convert("RGBA"))
        visible, coloured = values[..., 3] > 0, values[..., :3].any(axis=-1)
        both = np.asarray(visible & coloured)
        return both if both.any() or visible.all() else visible
    entries = np.asarray(image)
    values = np.asarray(image.convert("RGB")) if image.mode in ("P", "CMYK", "YCbCr", "HSV", "LAB") else entries
    values = values.max(axis=-1) if values.ndim == 3 else values
    if image.mode == "P" and values.all():
        return entries > 0
    return values > (values.max() / 2 if opened.format in LOSSY else 0)


def _open(path: Path) -> _Opened:
    try:
        with Image.open(path) as file:
            kind = file.format or ""
            # Pillow tells of 16 bits in colour, of which it keeps 8, by the name of its decoder's layout only.
            deep = any(";16" in str(tile[3]) for tile in file.tile)
            table = getattr(file, "quantization", {}).get(0)
            image: Image.Image = ImageOps.exif_transpose(file)
            taken = _taken(file)
    except FileNotFoundError as error:
        raise DataError(f"There is no image {path}.") from error
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        why = "is empty" if path.is_file() and path.stat().st_size == 0 else f"cannot be read ({error})"
        raise DataError(f"The image {path} {why}: replace it or take it out of the folder.") from error
    if image.mode == "F" or (image.mode == "I" and kind != "PNG"):
        # A PNG has 16 bits at the most; of a TIFF, "I" says 32, whose white is anywhere.
        bits = "floating-point" if image.mode == "F" else "32-bit"
        raise DataError(f"The image {path} holds {bits} pixels: save it as 8 or 16 bit integers.")
    deep |= image.mode.startswith("I")
    return _Opened(image, kind, deep, _quality(table), taken)


def _rgb(opened: _Opened, bit_depth: int) -> Image.Image:
    image, white = opened.image, 2**bit_depth - 1
    if image.mode.startswith("I"):
        return _scaled(np.asarray(image, dtype=np.float64), white).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert("RGB")
    return _scaled(np.asarray(image) * 257.0, white) if opened.deep and bit_depth < 16 else image


def _scaled(values: np.ndarray, white: int) -> Image.Image:
    return Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))


def _quality(table: Sequence[int] | None) -> float:
    """The quality at which JPEG's reference program makes a table as coarse as this one."""
    if not table:
        return np.nan
    scale = 100 * sum(table) / _QUALITY_50
    return float(np.clip(100 - scale / 2 if scale <= 100 else 5000 / scale, 0, 100))


def _pages(path: str | Path) -> int:
    # In a file opened anew, since counting goes to the last page, and stays at one that is damaged.
    try:
        with Image.open(path) as file:
            return getattr(file, "n_frames", 1)
    except Exception:  # a later page is damaged: the first one may be whole
        return 1


def _taken(file: Image.Image) -> float:
    try:
        exif = file.getexif()
        told = exif.get_ifd(_EXIF).get(_EXIF_TAKEN) or exif.get(_EXIF_CHANGED)
        return datetime.strptime(str(told), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except Exception:  # it does not say, or the block is damaged: the picture may be whole
        return np.nan


class Images(Sequence):
    """An ordered set of images. An integer index gives an RGB picture, a slice or array of indices a subset.

    Attributes
    ----------
    bit_depth : int
        How many bits those pixels use that are stored with 16: the largest value they can have is read as white.
    """

    bit_depth: int = BIT_DEPTHS[-1]

    def take(self, rows: Sequence[int] | np.ndarray) -> Images:
        """The subset at some rows.

        Parameters
        ----------
        rows : int array

        Returns
        -------
        Images
        """
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
    bit_depth : int
        See :func:`read_image`.
    """

    paths: tuple[Path, ...]
    bit_depth: int = BIT_DEPTHS[-1]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        if isinstance(index, int | np.integer):
            return read_image(self.paths[index], self.bit_depth)
        chosen = self.paths[index] if isinstance(index, slice) else tuple(self.paths[i] for i in index)
        return replace(self, paths=chosen)

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """SHA-256 of each file's bytes, and of how they are read."""

        def of_file(path: Path) -> bytes:
            try:
                with open(path, "rb") as stream:
                    found = hashlib.file_digest(stream, "sha256")
            except OSError as error:
                raise DataError(f"The image {path} cannot be read: {error.strerror}.") from error
            if self.bit_depth != BIT_DEPTHS[-1]:
                found.update(f"{self.bit_depth} bits".encode())
            return found.digest()

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
    """Masks as image files.

    Parameters
    ----------
    paths : tuple of Path, or None where there is no mask
    above : int, optional
        Grey values above it are defect, as a benchmark states; None: all foreground is (:func:`read_mask`).
    """

    paths: tuple[Path | None, ...]
    above: int | None = 127

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        if path is None:
            return None
        return read_mask(path) if self.above is None else np.asarray(read_image(path).convert("L")) > self.above

    def take(self, rows: np.ndarray) -> MaskFiles:
        return replace(self, paths=tuple(self.paths[row] for row in rows))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of all files, where there is none, and how they are read."""
        there = "".join("-" if path is None else "x" for path in self.paths)
        there += "foreground" if self.above is None else ""
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
    """A mask, bool array (height, width), at another size (height, width), in which no defect is lost.

    Made smaller, a pixel is defect if any of those is that it takes the place of (each belongs to one); made larger,
    each takes the value of the nearest.

    >>> resize_mask(np.eye(4, dtype=bool), (2, 2)).astype(int).tolist()
    [[1, 0], [0, 1]]
    """
    for axis, (old, new) in enumerate(zip(mask.shape, size, strict=True)):
        if new < old:
            mask = np.logical_or.reduceat(mask, np.arange(new) * old // new, axis=axis)
        else:
            mask = mask.take((2 * np.arange(new) + 1) * old // (2 * new), axis=axis)
    return mask
