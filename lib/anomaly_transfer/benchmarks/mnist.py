"""MNIST: all 70,000 handwritten digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from anomaly_transfer.benchmarks.idx import IdxSet


class MNIST(IdxSet):
    """70,000 handwritten digits, 28 x 28 pixels."""

    name = "mnist"
    title = "MNIST handwritten digits"
    about = (
        "70,000 handwritten digits, 28 x 28 pixels, grey. One digit is normal, the nine others are anomalous. One of "
        "the three sets of the third paper."
    )
    categories = tuple("0123456789")
    splits = ("official",)
    groups = "each digit is its own group; the writers of the test set are not those of the training set"
    traps = ("Nearly solved by pixels alone: a high number here says little about surfaces.",)
    licence = "CC BY-SA 3.0 (as commonly stated)"
    citation = "lecun1998"
    size = "70,000 images, 12 MB to download"
    obtained = (
        "`anomaly-transfer fetch mnist` downloads it (address not tried yet), or put the four idx files, plain or "
        "gzipped, below the folder mnist in the data folder."
    )
    largest_input = 112
    torchvision = "MNIST"
    per_class: ClassVar[Mapping[str, int]] = dict(
        zip(categories, (6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958), strict=True)
    )
    unpacked: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }


BENCHMARK = MNIST()
