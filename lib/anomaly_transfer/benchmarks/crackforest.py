"""CrackForest: photographs of roads with crack masks, cut into patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.downloads import Source, fetch_archive
from anomaly_transfer.data.images import ImageArray, MaskArray, read_image
from anomaly_transfer.errors import DataError

SOURCE = Source(
    "https://github.com/cuilimeng/CrackForest-dataset/archive/refs/heads/master.zip", None, "crackforest-master.zip"
)
FILES = "*/[01][0-9][0-9].*"
CONTENT = "580225bf1fdb67bfb1c169250bfb4bcb62f526ec6611d45d03293cb1d1a420f9"

#: Labels of the masks that are crack, plain or faint; 1 is road, and 3 is road too: what cracks enclose (seen in the
#: photographs, nowhere documented).
CRACKS = (2, 4)

#: Side of a patch, pixels: photographs of 480 x 320 are cut without rest.
PATCH = 80
#: A patch with fewer crack pixels than this share, but some, is neither normal nor clearly a crack: it is left out.
LEAST = 0.005


class CrackForest(Benchmark):
    """118 photographs of asphalt, cut into patches with and without crack."""

    name = "crackforest"
    title = "CrackForest road cracks"
    about = (
        "118 photographs of asphalt roads, 480 x 320 pixels, each with at least one crack and its mask; cut into "
        f"patches of {PATCH} pixels. Patches without a crack pixel are normal, those with at least {LEAST:.1%} are "
        "cracks, those between are left out."
    )
    categories = ("road",)
    splits = ("grouped", "random", "matched")
    groups = "patches of one photograph"
    traps = (
        "Patches of one photograph share light, asphalt and camera: a random split knows them already.",
        "In 22 masks the label 3 fills road that is enclosed by cracks. We count it as road; who takes every label "
        "above 1 for crack, calls intact asphalt a defect (no patch changes its class by it, but pixels do).",
        "37 more photographs come without masks. They show cracks, too (and manholes, cars and shoes), so they are no "
        "normal images; we leave them out.",
    )
    licence = "non-commercial research"
    citation = "shi2016"
    size = "118 photographs, 5 MB"
    obtained = (
        "`anomaly-transfer fetch crackforest` downloads it (address not tried yet), or put its folders image and "
        "groundTruth into the folder crackforest of the data folder."
    )

    def available(self) -> tuple[str, ...]:
        return self.categories if all((self.folder / name).is_dir() for name in ("image", "groundTruth")) else ()

    def _fetch(self) -> None:
        fetch_archive(SOURCE, self.folder, max_bytes=100_000_000, pattern=FILES, content=CONTENT)

    def load(self, category: str, limit: int | None = None) -> Category:
        self.check(category)
        pixels, masks, rows = [], [], []
        for path in sorted((self.folder / "groundTruth").glob("*.mat")):
            photograph, mask = self._photograph(path)
            for top in range(0, mask.shape[0] - PATCH + 1, PATCH):
                for left in range(0, mask.shape[1] - PATCH + 1, PATCH):
                    window = np.s_[top : top + PATCH, left : left + PATCH]
                    share = mask[window].mean()
                    if 0 < share < LEAST:
                        continue
                    pixels.append(photograph[window])
                    masks.append(mask[window])
                    kind = "crack" if share else NORMAL
                    rows.append((f"{path.stem}/{top:03}-{left:03}", f"photograph {path.stem}", kind))
        if not rows:
            raise DataError(f"{self.folder / 'groundTruth'} holds no masks. {self.obtained}")
        ids, groups, kinds = zip(*rows, strict=True)
        table = pd.DataFrame({"id": ids, "group": groups, "anomaly_class": kinds, "grade": np.nan})
        annotations = Annotations(table, MaskArray(np.stack(masks)))
        return Category(self.name, category, ImageArray(np.stack(pixels)), annotations, 2 * PATCH).thinned(limit)

    def _photograph(self, truth: Path) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (height, width, 3) and mask (height, width) of one photograph."""
        try:
            mask = np.isin(loadmat(truth)["groundTruth"][0, 0]["Segmentation"], CRACKS)
        except Exception as error:  # scipy raises many kinds for damaged files
            raise DataError(f"The mask {truth} cannot be read ({error}): fetch the set again.") from error
        pixels = np.asarray(read_image(self.folder / "image" / f"{truth.stem}.jpg"))
        if pixels.shape[:2] != mask.shape:
            raise DataError(
                f"The mask {truth} has {mask.shape[1]} x {mask.shape[0]} pixels, its photograph {pixels.shape[1]} x "
                f"{pixels.shape[0]}: fetch the set again."
            )
        return pixels, mask


BENCHMARK = CrackForest()
