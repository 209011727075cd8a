"""Fashion-MNIST: 70,000 pictures of clothes in MNIST's format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from anomaly_transfer.benchmarks.idx import IdxSet


class FashionMNIST(IdxSet):
    """70,000 pictures of clothes, 28 x 28 pixels."""

    name = "fashion_mnist"
    title = "Fashion-MNIST"
    about = (
        "70,000 catalogue pictures of clothes and shoes, 28 x 28 pixels, grey. One kind is normal, the nine others are "
        "anomalous; some kinds (shirt, coat, pullover) differ in detail only."
    )
    categories = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
    splits = ("official",)
    groups = "each picture is its own group"
    traps = ("A shirt is an anomaly among t-shirts by label, hardly by its looks: no detector can reach 1 everywhere.",)
    licence = "MIT"
    citation = "xiao2017"
    size = "70,000 images, 31 MB to download"
    obtained = (
        "`anomaly-transfer fetch fashion_mnist` downloads it (address not tried yet); on Debian `apt-get install "
        "dataset-fashion-mnist` brings it, too."
    )
    largest_input = 112
    torchvision = "FashionMNIST"
    per_class = dict.fromkeys(categories, 7000)
    #: Where Debian's package dataset-fashion-mnist puts it.
    system = Path("/usr/share/datasets/fashion-mnist")
    unpacked: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }


BENCHMARK = FashionMNIST()
