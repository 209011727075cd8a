"""CIFAR-10: 60,000 small photographs of ten kinds of things."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomaly_transfer.benchmarks.one_class import Labelled, OneClass
from anomaly_transfer.data.downloads import Source, fetch_archive
from anomaly_transfer.data.images import SUFFIXES, ImageArray, ImageFiles
from anomaly_transfer.errors import DataError

SOURCE = Source(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "cifar-10-python.tar.gz",
)
BATCHES = "cifar-10-batches-py"


class CIFAR10(OneClass):
    """60,000 photographs, 32 x 32 pixels."""

    name = "cifar10"
    title = "CIFAR-10"
    about = (
        "60,000 photographs of ten kinds of animals and vehicles, 32 x 32 pixels. One kind is normal, the nine others "
        "are anomalous. One of the three sets of the third paper."
    )
    categories = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    splits = ("official",)
    groups = "each photograph is its own group"
    traps = (
        "Most of the ten kinds are among the thousand of ImageNet, on which the backbone was trained with labels: "
        "whoever transfers from it has seen the anomalies named.",
        "Copies saved as JPEG are about; numbers from them are not comparable with published ones to the decimal.",
    )
    licence = "no licence stated; cite the source"
    citation = "krizhevsky2009"
    size = "60,000 images, 170 MB to download"
    obtained = (
        "`anomaly-transfer fetch cifar10` downloads it (address not tried yet), or put class folders of images at "
        "cifar10/train/CLASS and cifar10/test/CLASS in the data folder."
    )
    largest_input = 128
    per_class = dict.fromkeys(categories, 6000)

    def available(self) -> tuple[str, ...]:
        return self.categories if (self.folder / BATCHES).is_dir() or (self.folder / "train").is_dir() else ()

    def _fetch(self) -> None:
        fetch_archive(SOURCE, self.folder, max_bytes=500_000_000, inside=BATCHES)

    def read(self) -> Labelled:
        return self._from_batches() if (self.folder / BATCHES).is_dir() else self._from_folders()

    def _from_batches(self) -> Labelled:
        from torchvision.datasets import CIFAR10 as Known

        try:
            parts = {part: Known(self.folder, train=part == "train") for part in ("train", "test")}
        except RuntimeError as error:  # torchvision compares MD5 sums before it opens anything
            raise DataError(f"{self.folder / BATCHES} is damaged: delete it and fetch it again.") from error
        tables = [
            pd.DataFrame(
                {
                    "id": [f"{part}/{number:05}" for number in range(len(known.targets))],
                    "label": np.array(self.categories)[known.targets],
                    "part": part,
                }
            )
            for part, known in parts.items()
        ]
        pixels = np.concatenate([known.data for known in parts.values()])
        return Labelled(ImageArray(pixels), pd.concat(tables, ignore_index=True))

    def _from_folders(self) -> Labelled:
        rows = []
        for part in ("train", "test"):
            for label in self.categories:
                folder = self.folder / part / label
                files = sorted(folder.iterdir()) if folder.is_dir() else []
                files = [path for path in files if path.suffix.lower() in SUFFIXES]
                if not files:
                    raise DataError(f"{folder} holds no images. {self.obtained}")
                rows += [(path, label, part) for path in files]
        paths, labels, parts = zip(*rows, strict=True)
        ids = [path.relative_to(self.folder).as_posix() for path in paths]
        suffixes = {path.suffix.lower() for path in paths}
        note = "JPEG copy of CIFAR-10: not comparable with published numbers to the decimal"
        return Labelled(
            ImageFiles(tuple(paths)),
            pd.DataFrame({"id": ids, "label": labels, "part": parts}),
            note if suffixes & {".jpg", ".jpeg"} else "",
        )


BENCHMARK = CIFAR10()
