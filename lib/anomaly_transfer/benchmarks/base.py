"""The interface of every benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anomaly_transfer.images import ImageFiles
from anomaly_transfer.labels import Annotations


@dataclass(frozen=True)
class Category:
    """One detection problem: the images of one object or surface.

    Attributes
    ----------
    benchmark, name : str
    images : ImageFiles
    annotations : Annotations
        One row an image, in the same order; sealed while a detector works.
    """

    benchmark: str
    name: str
    images: ImageFiles
    annotations: Annotations


class Benchmark(ABC):
    """A set of categories with everything a reader must know to use and cite it.

    Class attributes
    ----------------
    name, title : str
    categories : tuple of str
    target_classes : tuple of str
        Anomaly classes of the headline number; empty means all.
    splits : tuple of str
        Names in ``splits.SPLITS``, the recommended one first.
    licence, citation, obtained : str
        Terms of use, key in ``book/references.bib``, how the data get here.
    """

    name: str
    title: str
    categories: tuple[str, ...]
    target_classes: tuple[str, ...] = ()
    splits: tuple[str, ...]
    licence: str
    citation: str
    obtained: str

    @abstractmethod
    def missing(self) -> str | None:
        """None if the data are at hand, else what to do to get them."""

    @abstractmethod
    def load(self, category: str, limit: int | None = None) -> Category:
        """Load one category.

        Parameters
        ----------
        category : str
        limit : int, optional
            Keep about so many images, the same share of each group and anomaly class (see :func:`thin`).

        Raises
        ------
        DataError
            If the data are not at hand; the message says how to get them.
        ValueError
            If there is no such category.
        """

    def check_category(self, category: str) -> None:
        """Raise ValueError, naming the categories there are, unless ``category`` is one of them."""
        if category not in self.categories:
            raise ValueError(f"{self.name} has no category {category!r}; choose from {', '.join(self.categories)}.")


def thin(table: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """Keep about ``limit`` rows, evenly spaced within each group and anomaly class, at least two of each."""
    if limit is None or limit >= len(table):
        return table
    share = limit / len(table)

    def spaced(rows: np.ndarray) -> np.ndarray:
        keep = min(len(rows), max(2, round(share * len(rows))))
        return rows[np.linspace(0, len(rows) - 1, keep).round().astype(int)]

    positions = pd.Series(np.arange(len(table)), index=table.index)
    kept = [spaced(rows.to_numpy()) for _, rows in positions.groupby([table["group"], table["anomaly_class"]])]
    return table.iloc[np.sort(np.concatenate(kept))]
