"""Concrete cracks (Ozgenel): the third paper's case from civil engineering."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.images import SUFFIXES, ImageFiles
from anomaly_transfer.errors import DataError

PAGE = "https://data.mendeley.com/datasets/5y9wdsg2zt/2"

#: Images of one class and consecutive numbers that count as one group.
BLOCK = 2000


class ConcreteCracks(Benchmark):
    """40,000 crops of photographs of concrete, half of them with a crack."""

    name = "concrete_cracks"
    title = "Concrete crack images"
    about = (
        "40,000 crops of 227 x 227 pixels from 458 photographs of concrete walls and floors, half of them with a "
        "crack. One of the three sets of the third paper."
    )
    categories = ("concrete",)
    splits = ("grouped", "random", "matched")
    groups = (
        f"blocks of {BLOCK:,} consecutive file numbers of one class. On average 87 crops share a photograph, which one "
        "is not published; if crops were numbered photograph by photograph, only those at the ends of a block are torn "
        "apart"
    )
    traps = (
        "Random splits put crops of one photograph on both sides.",
        "Crops with and without crack of one photograph carry unrelated numbers, so even the blocks may share some.",
    )
    licence = "CC BY 4.0"
    citation = "ozgenel2018"
    size = "40,000 images"
    obtained = (
        f"It is a RAR archive, which Python cannot unpack: get it from {PAGE}, unpack it, and put the folders Negative "
        "and Positive into the folder concrete_cracks of the data folder."
    )

    def available(self) -> tuple[str, ...]:
        return self.categories if all((self.folder / name).is_dir() for name in ("Negative", "Positive")) else ()

    def load(self, category: str, limit: int | None = None) -> Category:
        self.check(category)
        rows = []
        for name, kind in (("Negative", NORMAL), ("Positive", "crack")):
            files = [path for path in (self.folder / name).iterdir() if path.suffix.lower() in SUFFIXES]
            if not files:
                raise DataError(f"{self.folder / name} holds no images. {self.obtained}")
            for path in sorted(files):
                # 00001.jpg, and a few like 19379_1.jpg
                number = re.match(r"\d+", path.stem)
                if number is None:
                    raise DataError(f"{path} is not named by a number, like the images of this set: remove it.")
                group = f"{name} {(int(number[0]) - 1) // BLOCK * BLOCK + 1:05}-"
                rows.append((path, path.relative_to(self.folder).as_posix(), group, kind))
        paths, ids, groups, kinds = zip(*rows, strict=True)
        table = pd.DataFrame({"id": ids, "group": groups, "anomaly_class": kinds, "grade": np.nan})
        return Category(self.name, category, ImageFiles(tuple(paths)), Annotations(table)).thinned(limit)

    def published(self, category: str) -> dict[str, int]:
        """Ozgenel (2018)."""
        return {NORMAL: 20_000, "crack": 20_000}


BENCHMARK = ConcreteCracks()
