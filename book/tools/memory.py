"""What the studies take of memory at the profile `full`: python book/tools/memory.py [CASE ...]

Each case runs in a process of its own on the largest data of the plan, with random pixels, random features and a
network with random weights in their place: memory depends on sizes, not on what is in them. What only takes time is cut
short: a training runs for one step, and in patch detectors the first batch stands for the others. The maps of the
largest benchmark would take 35 GB of disk; those of 256 images stand for them, since of a mapped file nothing has to
stay in memory. Writes results/memory.csv.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "results" / "memory.csv"
#: Images of concrete cracks, the largest benchmark of one category; distinct ones among them are enough.
N_IMAGES, DISTINCT = 40_000, 256


def concrete() -> None:
    """Random pictures in the layout of concrete cracks, where data are looked for."""
    from PIL import Image

    rng, folder = np.random.default_rng(0), Path(os.environ["ANOMALY_TRANSFER_DATA"]) / "concrete_cracks"
    for name in ("Negative", "Positive"):
        (folder / name).mkdir(parents=True)
        for number in range(N_IMAGES // 2):
            path = folder / name / f"{number + 1:05}.jpg"
            if number < DISTINCT:
                Image.fromarray(rng.integers(0, 256, (227, 227, 3), dtype=np.uint8)).save(path)
            else:
                os.link(folder / name / f"{number % DISTINCT + 1:05}.jpg", path)


def stand_ins() -> None:
    """A network with random weights, and random features of it, so that nothing is downloaded or extracted."""
    from anomaly_transfer.features import cached
    from anomaly_transfer.features.features import Features
    from anomaly_transfer.networks import backbones

    original = backbones._timm_network
    backbones._timm_network = lambda name, pretrained: original(name, False)

    def features(store, images, backbone, image_size, levels=None, engine=None):
        import torch

        with torch.no_grad():
            maps = backbone.level_maps(torch.zeros(1, image_size, image_size, 3))
        shapes = {
            level: m.shape[1:2] if levels is None else m.shape[1:]
            for level, m in zip(backbone.levels, maps, strict=True)
            if levels is None or level in levels
        }
        rng, arrays, folder = np.random.default_rng(0), {}, Path(tempfile.mkdtemp(dir=store.root))
        for level, shape in shapes.items():
            path = folder / f"{level}.npy"
            np.save(path, rng.standard_normal((DISTINCT, *shape), dtype=np.float32))
            arrays[level] = np.load(path, mmap_mode="r")
        return Features(arrays, np.arange(len(images)) % DISTINCT)

    cached.features = features


def in_brief(case: Callable[..., None], *arguments: str) -> None:
    """A case in whose patch detectors the first batch, added and scored in full, stands for all others.

    Arrays have the sizes that they would have. The patches to keep are the first ones, since the first step of their
    choice takes as much as any. There are two folds: what the first one leaves is there while the second one is fitted;
    scoring in full is measured in the first.
    """
    from anomaly_transfer.data import splits
    from anomaly_transfer.detectors import patch

    patches, update, choose = patch.patch_features, patch.Moments.update, patch.k_centre_greedy
    known: dict[int, np.ndarray] = {}

    def patch_features(features, start=0):
        if len(features) not in known:
            known[len(features)] = patches(features, start)
        return known[len(features)]

    def k_centre_greedy(points, k, rng):
        choose(points, 2, rng)
        return points[:k].copy()

    def once(anomaly_map):
        first = []

        def repeated(self, features):
            if not first:
                first.append(anomaly_map(self, features))
            return np.resize(first[0], (len(features), *first[0].shape[1:]))

        return repeated

    patch.patch_features, patch.k_centre_greedy = patch_features, k_centre_greedy
    patch.Moments.update = lambda self, x: self if self.n else update(self, x)
    for kind in (patch.PatchGaussian, patch.PatchMemoryBank):
        kind._anomaly_map = once(kind._anomaly_map)
    grouped = splits.SPLITS["grouped"]
    splits.SPLITS["grouped"] = lambda table, seed: grouped(table, seed)[:2]
    case(*arguments)


def a_detector(method: str) -> None:
    """A detector on frozen features of the largest benchmark."""
    from anomaly_transfer.studies import detection

    concrete()
    detection.run("concrete_cracks", "concrete", method, 0, "full", split="grouped")


def cracks(variant: str) -> None:
    """Decisions about cracks, on the same."""
    from anomaly_transfer import studies

    concrete()
    studies.get("decisions").run("concrete_cracks", "concrete", variant, 0, "full")


def localised() -> None:
    """The heat maps of all magnetic tiles, by two detectors and three networks, and their metrics."""
    from anomaly_transfer import profiles
    from anomaly_transfer.studies import localisation as study

    sizes, n, rng = profiles.get("full"), 1344, np.random.default_rng(0)
    side = sizes.tuned_image_size
    masks = [np.zeros((side, side), dtype=bool) for _ in range(n)]
    for mask in masks[: n // 3]:
        mask[100:160, 100:160] = True
    keys = [(name, state) for name in study.DETECTORS for state in study.STATES]
    maps = {key: rng.random((n, side, side), dtype=np.float32) for key in keys}
    scores = {key: rng.random(n) for key in keys}
    part = study.Heat(np.arange(n), masks, dict.fromkeys(study.STATES, 0), maps, scores)
    study.heat = lambda *rest: part
    study.protocol.folds = lambda *rest: [None]
    study.protocol.clusters_of = lambda *rest: None
    study._rows(None, "mahalanobis", 0, sizes.model_copy(update={"bootstrap": 2000}), None)


def extraction() -> None:
    """A network as large as the profile's passes images: all levels pooled, and the maps of patch detectors."""
    from anomaly_transfer import profiles
    from anomaly_transfer.data.images import ImageArray
    from anomaly_transfer.features import extraction
    from anomaly_transfer.networks import backbones

    sizes = profiles.get("full")
    images = ImageArray(np.random.default_rng(0).integers(0, 256, (32, 256, 256, 3), dtype=np.uint8))
    backbone = backbones.load(sizes.backbone)
    for levels in (None, extraction.map_levels(backbone)):
        with tempfile.TemporaryDirectory() as folder:
            extraction.extract(images, backbone, sizes.image_size, Path(folder), levels)


def a_training(study: str, side: str) -> None:
    """One step of a batch, and its Gaussians."""
    from anomaly_transfer import profiles
    from anomaly_transfer.data.images import ImageArray
    from anomaly_transfer.networks import backbones
    from anomaly_transfer.training import mahalanobis

    sizes = profiles.get("full")
    rng = np.random.default_rng(0)
    images = ImageArray(rng.integers(0, 256, (16, 256, 256, 3), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        recipe = mahalanobis.MahalanobisRecipe(epochs=1)
        mahalanobis.tune(images, images, backbones.load(sizes.backbone), getattr(sizes, side), recipe, Path(folder))


#: By study: the cases of which the largest counts.
CASES = {
    "run extraction": (extraction,),
    "run gaussian": (a_detector, "gaussian"),
    "run neighbours": (a_detector, "neighbours"),
    "run svm": (a_detector, "svm"),
    "run forest": (a_detector, "forest"),
    "run pseudo-negatives": (a_detector, "pseudo-negatives"),
    "run patch-gaussian": (in_brief, a_detector, "patch-gaussian"),
    "run patch-memory": (in_brief, a_detector, "patch-memory"),
    "run combined": (in_brief, a_detector, "combined"),
    "cracks head-all": (cracks, "head-all"),
    "cracks gaussian": (cracks, "gaussian"),
    "cracks patch-memory": (in_brief, cracks, "patch-memory"),
    "localised maps": (localised,),
    "tuned step": (a_training, "tuned", "tuned_image_size"),
    "oneclass step": (a_training, "oneclass", "oneclass_image_size"),
}


def main(names: list[str]) -> None:
    """Measure some cases, or all, and keep what the others took."""
    kept = {}
    if TABLE.is_file():
        with TABLE.open(encoding="utf-8", newline="") as file:
            kept = {row["case"]: row["peak_mb"] for row in csv.DictReader(file)}
    for name in names or CASES:
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | {
                "ANOMALY_TRANSFER_DATA": f"{folder}/data",
                "ANOMALY_TRANSFER_STORE": f"{folder}/store",
                "ANOMALY_TRANSFER_DEVICE": "cpu",
                "OMP_NUM_THREADS": "1",
            }
            done = subprocess.run(
                [sys.executable, __file__, "--case", name], env=env, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        kept[name] = done.stdout.splitlines()[-1]
        print(f"{name}: {kept[name]} MiB", flush=True)
        with TABLE.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("case", "peak_mb"), *kept.items()])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        from anomaly_transfer.provenance import peak_memory_mb

        stand_ins()
        function, *arguments = CASES[sys.argv[2]]
        function(*arguments)
        print(round(peak_memory_mb()))
    else:
        main(sys.argv[1:])
