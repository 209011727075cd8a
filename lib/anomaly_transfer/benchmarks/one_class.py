"""Labelled sets of pictures turned into detection problems: one class is normal, all others are anomalous.

The usual one-class protocol: a detector is fitted on the training images of the normal class, and scores the whole
official test set. The images are the same in every category; only what is called normal changes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.images import Images


@dataclass(frozen=True)
class Labelled:
    """A whole labelled set.

    Attributes
    ----------
    images : Images
    table : DataFrame, one row an image
        ``id``, ``label`` (one of the benchmark's categories) and, with an official split, ``part``.
    note : str
        See :class:`Category`.
    """

    images: Images
    table: pd.DataFrame
    note: str = ""


class OneClass(Benchmark):
    """A benchmark whose categories are the classes of a labelled set.

    Class attributes
    ----------------
    largest_input : int
        See :class:`Category`.
    per_class : dict of category to int
        Published number of images of each class.
    """

    anomalies = "other classes"
    largest_input: int
    per_class: ClassVar[Mapping[str, int]]

    @abstractmethod
    def read(self) -> Labelled:
        """Read the whole set, which is at hand."""

    def load(self, category: str, limit: int | None = None) -> Category:
        self.check(category)
        whole = _whole(self, self.folder)
        table = whole.table
        inside = table["label"] == category
        table = table.assign(group=table["id"], grade=np.nan, anomaly_class=table["label"].where(~inside, NORMAL))
        found = Category(self.name, category, whole.images, Annotations(table), self.largest_input, whole.note)
        # By label, so that all categories keep the same images, and share their features.
        return found.thinned(limit, by="label")

    def published(self, category: str) -> dict[str, int]:
        return {NORMAL if name == category else name: number for name, number in self.per_class.items()}


@lru_cache(maxsize=1)
def _whole(benchmark: OneClass, folder: Path) -> Labelled:
    """The set read last: its categories are usually asked for one after the other."""
    return benchmark.read()
