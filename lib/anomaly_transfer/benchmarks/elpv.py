"""ELPV: electroluminescence images of solar cells, graded by how likely each cell is defective."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd

from anomaly_transfer.benchmarks.base import Benchmark, Category, thin
from anomaly_transfer.errors import DataError
from anomaly_transfer.images import ImageFiles
from anomaly_transfer.labels import NORMAL, Annotations

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
    categories = ("mono", "poly")
    target_classes = ("p = 1",)
    splits = ("grouped", "random", "matched")
    licence = "images CC BY-NC-SA 4.0"
    citation = "deitsch2019"
    obtained = "Python package elpv-dataset (extra `embedded`)"

    def missing(self) -> str | None:
        if importlib.util.find_spec("elpv_dataset"):
            return None
        return "pip install elpv-dataset"

    def load(self, category: str, limit: int | None = None) -> Category:
        self.check_category(category)
        folder, table = self._table()
        table = thin(table[table["material"] == category], limit)
        images = ImageFiles(tuple(folder / path for path in table["id"]))
        return Category(self.name, category, images, Annotations(table))

    def _table(self) -> tuple[Path, pd.DataFrame]:
        spec = importlib.util.find_spec("elpv_dataset")
        if spec is None or spec.origin is None:
            raise DataError(f"The ELPV images are not installed: {self.missing()}")
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
