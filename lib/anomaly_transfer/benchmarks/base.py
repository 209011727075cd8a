"""The interface of every benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.images import Images, resize_mask
from anomaly_transfer.data.splits import are_few
from anomaly_transfer.errors import DataError
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.settings import data_folder

if TYPE_CHECKING:  # torch takes seconds to import; only the benchmark of features needs it
    from anomaly_transfer.features.features import Features


@dataclass(frozen=True)
class Category:
    """One detection problem: the images of one object, surface or class.

    Attributes
    ----------
    benchmark, name : str
    content : Images or Features
        The images; their features, one row an image, where a benchmark gives no pictures.
    annotations : Annotations
        One row an image, in the same order; sealed while a detector works.
    largest_input : int, optional
        Small pictures are not enlarged beyond this side (pixels) for the network: it would see nothing new.
    note : str
        What a number measured on these data must be read with, e.g. that they are a compressed copy.
    skipped : dict of str to str
        Files that could not be used, and why.
    """

    benchmark: str
    name: str
    content: Images | Features
    annotations: Annotations
    largest_input: int | None = None
    note: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> Images:
        """The images.

        Raises
        ------
        DataError
            If the benchmark gives features only.
        """
        if not isinstance(self.content, Images):
            raise DataError(f"{self.benchmark} gives one feature vector an image: there are no pictures.")
        return self.content

    def input_side(self, wanted: int) -> int:
        """Side of the network's input, pixels: the one that is wanted, unless the pictures are too small for it."""
        return min(wanted, self.largest_input or wanted)

    def masks(self, rows: Sequence[int] | np.ndarray, side: int) -> list[np.ndarray | None]:
        """Defect masks as the network sees the images: squares of ``side`` pixels.

        Returns
        -------
        list of bool arrays, shape (side, side)
            All False for a normal image; None for a defect without a mask.

        Raises
        ------
        DataError
            If a mask cannot be read, or has another size than its image.
        """
        table = self.annotations.open()

        def of(row: int) -> np.ndarray | None:
            if table["anomaly_class"][row] == NORMAL:
                return np.zeros((side, side), dtype=bool)
            found = self.annotations.mask(row)
            if found is None:
                return None
            width, height = self.images[row].size
            if found.shape != (height, width):
                raise DataError(
                    f"The mask of {table['id'][row]} has {found.shape[1]} x {found.shape[0]} pixels, its image "
                    f"{width} x {height}: replace the mask or take it away."
                )
            return resize_mask(found, (side, side))

        return [of(int(row)) for row in rows]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of images and annotations, in order, and of how large they are shown."""
        return digest([self.content.fingerprint, self.annotations.fingerprint, self.largest_input])

    def thinned(self, limit: int | None, by: str = "anomaly_class") -> Category:
        """The category with about ``limit`` images (see :func:`thin`), or all of them if it has no more."""
        if limit is None or limit >= len(self.annotations):
            return self
        return self.taken(thin(self.annotations.open(), limit, by))

    def taken(self, rows: np.ndarray) -> Category:
        """The category with some of its images."""
        return replace(self, content=self.content.take(rows), annotations=self.annotations.take(rows))


class Benchmark(ABC):
    """A set of categories with everything a reader must know to use and cite it.

    Class attributes
    ----------------
    name, title : str
    about : str
        Two or three sentences: what is pictured, what is anomalous.
    anomalies : str
        ``"defects"``, or ``"other classes"``.
    categories : tuple of str
    target_classes : tuple of str
        Anomaly classes of the headline number; empty means all.
    splits : tuple of str
        Names in ``splits.SPLITS``, the recommended one first.
    groups : str
        Which images share a group, and how we know.
    traps : tuple of str
        What has misled, or would mislead, a user of these data.
    licence, citation, size, obtained : str
        Terms of use, key in ``book/references.bib``, number of images and megabytes, how the data get here.
    pictures : bool
        False where features are all there is.
    """

    name: str
    title: str
    about: str
    anomalies: str = "defects"
    categories: tuple[str, ...]
    target_classes: tuple[str, ...] = ()
    splits: tuple[str, ...]
    groups: str
    traps: tuple[str, ...] = ()
    licence: str
    citation: str
    size: str
    obtained: str
    pictures: bool = True

    @property
    def folder(self) -> Path:
        """Where this benchmark's files are looked for: its name in the data folder."""
        return data_folder() / self.name

    @abstractmethod
    def available(self) -> tuple[str, ...]:
        """The categories whose data are at hand."""

    @abstractmethod
    def load(self, category: str, limit: int | None = None) -> Category:
        """Load one category.

        Parameters
        ----------
        category : str
        limit : int, optional
            Keep about so many images, the same share of each anomaly class (see :func:`thin`).

        Raises
        ------
        DataError
            If the data are not at hand or not whole; the message says what to do.
        ValueError
            If there is no such category.
        """

    def fetch(self) -> None:
        """Get the data, if that takes no more than a download; what is at hand stays as it is.

        Raises
        ------
        DataError
            If it does take more (the message says what), or the download fails.
        """
        if not self.available() or self.available() != self.categories:
            self._fetch()
        if not self.available():
            raise DataError(
                f"{self.folder} is there, but does not hold {self.title}: move it away and fetch again. {self.obtained}"
            )

    def _fetch(self) -> None:
        raise DataError(f"{self.title} does not come by a plain download. {self.obtained}")

    def published(self, category: str) -> dict[str, int] | None:
        """Images by anomaly class as the authors of the data give them; None if they give none."""
        return None

    @property
    def protocol(self) -> list:
        """What of a benchmark, besides its data, numbers depend on."""
        return [self.anomalies, list(self.target_classes), list(self.splits[:1]), self.pictures]

    def check(self, category: str) -> None:
        """Raise ValueError unless there is such a category, DataError unless its data are at hand."""
        if category not in self.categories:
            raise ValueError(f"{self.name} has no category {category!r}; choose from {', '.join(self.categories)}.")
        if category not in self.available():
            raise DataError(f"{self.title} ({category}) is not at hand. {self.obtained}")


def evenly_spaced(rows: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of some rows, evenly spaced, the first and the last among them.

    >>> evenly_spaced(np.arange(10), 4).tolist()
    [0, 3, 6, 9]
    """
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int)]


def thin(table: pd.DataFrame, limit: int, by: str = "anomaly_class") -> np.ndarray:
    """Row numbers of about ``limit`` rows, evenly spaced within each class, and at least two of each.

    Classes are taken within each part of an official split and, where groups are few (each is a fold of its own),
    within each group.

    Parameters
    ----------
    table : DataFrame
    limit : int
    by : str
        Column with the classes.
    """
    share = limit / len(table)

    def spaced(rows: np.ndarray) -> np.ndarray:
        return evenly_spaced(rows, max(2, round(share * len(rows))))

    keys = [by, *(["part"] if "part" in table else []), *(["group"] if are_few(table["group"]) else [])]
    positions = pd.Series(np.arange(len(table)), index=table.index)
    return np.sort(np.concatenate([spaced(rows.to_numpy()) for _, rows in positions.groupby([table[k] for k in keys])]))
