"""Surfaces with synthetic defects: real textures, five kinds of drawn defects of known severity, exact masks."""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.benchmarks.elpv import BENCHMARK as ELPV
from anomaly_transfer.data import synthetic
from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.images import ImageArray, MaskArray

TEXTURES = ("brick", "grass", "gravel")
CELLS = ("mono", "poly")
CONTROL = "control"
GRADES = (1 / 3, 2 / 3, 1.0)

#: A texture of 512 x 512 pixels is cut into blocks of this side; crops of one block overlap, so a block is a group.
BLOCK, CROP = 128, 96
#: What becomes of the images of one block: normal, untouched but called a defect (control), one of each kind and grade.
ROLES = [(NORMAL, 0.0)] * 12 + [(CONTROL, 0.0)] * 2 + [(kind, grade) for kind in synthetic.KINDS for grade in GRADES]
N_BLOCKS = 16
SEED = 2026


class Surfaces(Benchmark):
    """Crops of photographed textures, and solar cells without defects, on which defects are drawn."""

    name = "surfaces"
    title = "Surfaces with synthetic defects"
    about = (
        "Crops of photographs of brick, grass and gravel, and normal ELPV cells. On half of them a defect is drawn: "
        "crack, pit, scratch, stain or missing part, in three grades of severity. What is where, and how strong, is "
        "known exactly."
    )
    categories = (*TEXTURES, *CELLS)
    target_classes = tuple(synthetic.KINDS)
    splits = ("grouped", "random", "matched")
    groups = f"crops of one block of {BLOCK} x {BLOCK} pixels of a texture; for cells, the run (see ELPV)"
    traps = (
        "Drawn defects are easier to like than real ones. Use them where the truth must be known, not as a benchmark.",
        "The class control is handled like a defect, but nothing is drawn. It checks labels, folds and intervals, not "
        "whether a detector reacts to the way defects are drawn.",
        "A texture is one photograph of 512 x 512 pixels: its crops vary less than a production line.",
    )
    licence = "textures CC0 (brick, grass, gravel as shipped by scikit-image); cells CC BY-NC-SA 4.0"
    citation = "vanderwalt2014"
    size = f"5 x {N_BLOCKS * len(ROLES)} images, drawn on the fly"
    obtained = "Python packages scikit-image and elpv-dataset (extra `embedded`): pip install scikit-image elpv-dataset"

    def available(self) -> tuple[str, ...]:
        textures = TEXTURES if importlib.util.find_spec("skimage") else ()
        return (*textures, *(CELLS if ELPV.available() else ()))

    def load(self, category: str, limit: int | None = None) -> Category:
        self.check(category)
        rng = np.random.default_rng([SEED, self.categories.index(category)])
        clean, groups = _crops(category, rng) if category in TEXTURES else _cells(category)
        roles = [role for group in pd.unique(groups) for role in _dealt((groups == group).sum(), rng)]
        pixels, masks = zip(
            *(
                synthetic.draw(image, kind if kind in synthetic.KINDS else "stain", severity, rng)
                for image, (kind, severity) in zip(clean, roles, strict=True)
            ),
            strict=True,
        )
        kinds, grades = zip(*roles, strict=True)
        ids = [f"{category}-{number:03}" for number in range(len(clean))]
        table = pd.DataFrame({"id": ids, "group": groups, "anomaly_class": kinds, "grade": grades})
        annotations = Annotations(table, MaskArray(np.stack(masks)))
        # Crops are small; twice their size shows all there is.
        largest = 2 * CROP if category in TEXTURES else None
        return Category(self.name, category, ImageArray(np.stack(pixels)), annotations, largest).thinned(limit)


def _dealt(number: int, rng: np.random.Generator) -> list[tuple[str, float]]:
    """A random role for each of ``number`` images, in the proportions of ``ROLES``."""
    roles = ROLES * -(-number // len(ROLES))
    return [roles[index] for index in rng.permutation(len(roles))[:number]]


def _crops(texture: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random crops of each block, and the block of each."""
    from skimage import data

    whole = getattr(data, texture)()
    crops, groups = [], []
    for top in range(0, whole.shape[0], BLOCK):
        for left in range(0, whole.shape[1], BLOCK):
            for down, right in rng.integers(0, BLOCK - CROP + 1, (len(ROLES), 2)):
                crops.append(whole[top + down : top + down + CROP, left + right : left + right + CROP])
                groups.append(f"block {top // BLOCK}-{left // BLOCK}")
    return np.stack(crops), np.array(groups)


def _cells(material: str) -> tuple[np.ndarray, np.ndarray]:
    """Normal cells, evenly spaced over the runs, and the run of each."""
    cells = ELPV.load(material)
    table = cells.annotations.open()
    normal = np.flatnonzero(table["anomaly_class"] == NORMAL)
    some = cells.taken(normal).thinned(N_BLOCKS * len(ROLES))
    # Grouped by run, so that roles can be dealt run by run.
    groups = some.annotations.open()["group"].to_numpy()
    order = np.argsort(groups, kind="stable")
    pixels = np.stack([np.asarray(some.images[int(row)].convert("L")) for row in order])
    return pixels, groups[order]


BENCHMARK = Surfaces()
