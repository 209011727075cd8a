"""ELPV: electroluminescence images of solar cells, graded by how likely each cell is defective."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.images import ImageFiles
from anomaly_transfer.errors import DataError

#: The four grades of the data set, p = probability that the cell is defective.
GRADES = {0.0: NORMAL, 1 / 3: "p = 1/3", 2 / 3: "p = 2/3", 1.0: "p = 1"}


class ELPV(Benchmark):
    """2,624 solar cells of 300 x 300 pixels from 44 modules, monocrystalline and polycrystalline.

    Which cell came from which module is not published. The files are numbered, though, and consecutive cells of
    one material form ten *runs* (five of each material) that look alike inside and unlike one another. A run
    holds one or several modules, so the run is the smallest group that is safe to keep together.
    """

    name = "elpv"
    title = "ELPV solar cells"
    about = (
        "Electroluminescence images of single solar cells, cut out of 44 modules, mono- and polycrystalline. Experts "
        "gave each a probability of being defective: 0, 1/3, 2/3 or 1."
    )
    categories = ("mono", "poly")
    target_classes = ("p = 1",)
    splits = ("grouped", "random", "matched")
    groups = "runs of consecutive file numbers of one material; a run holds cells of one or several modules"
    traps = (
        "Cells of one module look alike, and some runs are nearly all defective: a random split, or a comparison "
        "across runs, rewards recognising the run.",
        "The grades p = 1/3 and 2/3 are doubt, not small defects: headline numbers leave them out.",
    )
    licence = "images CC BY-NC-SA 4.0"
    citation = "deitsch2019"
    size = "2,624 images, 91 MB"
    obtained = "Python package elpv-dataset (extra `embedded`): pip install elpv-dataset"

    def available(self) -> tuple[str, ...]:
        return self.categories if importlib.util.find_spec("elpv_dataset") else ()

    def load(self, category: str, limit: int | None = None) -> Category:
        self.check(category)
        folder, table = self._table()
        table = table[table["material"] == category]
        images = ImageFiles(tuple(folder / path for path in table["id"]))
        return Category(self.name, category, images, Annotations(table)).thinned(limit)

    def published(self, category: str) -> dict[str, int]:
        """Deitsch et al. (2019) and the data set's README."""
        numbers = {"mono": (588, 117, 56, 313), "poly": (920, 178, 50, 402)}[category]
        return dict(zip(GRADES.values(), numbers, strict=True))

    def _table(self) -> tuple[Path, pd.DataFrame]:
        spec = importlib.util.find_spec("elpv_dataset")
        if spec is None or spec.origin is None:
            raise DataError(f"The ELPV images are not installed. {self.obtained}")
        folder = Path(spec.origin).parent / "data"
        raw = pd.read_csv(folder / "labels.csv", sep=r"\s+", names=["id", "probability", "material"])
        grade = (raw["probability"] * 3).round() / 3
        run = (raw["material"] != raw["material"].shift()).cumsum()
        # A run is named by its 1-based cell numbers, as the files are.
        number = pd.Series(range(1, len(raw) + 1))
        first, last = number.groupby(run).transform("min"), number.groupby(run).transform("max")
        table = pd.DataFrame(
            {
                "id": raw["id"],
                "group": "cells " + first.astype(str) + "-" + last.astype(str),
                "anomaly_class": grade.map(GRADES),
                "grade": grade,
                "material": raw["material"],
            }
        )
        return folder, table


BENCHMARK = ELPV()
