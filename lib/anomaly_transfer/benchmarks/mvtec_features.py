"""MVTec AD as frozen features (ADBench): all categories for any laptop, without a picture."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.benchmarks.mvtec_ad import COUNTS
from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.downloads import Source, download
from anomaly_transfer.errors import DataError

ADDRESS = "https://github.com/Minqi824/ADBench/raw/main/adbench/datasets/CV_by_{model}/MVTec-AD_{object}.npz"
MODELS = {"resnet18": "ResNet18", "vit": "ViT"}

#: SHA-256 of the files whose content is known here; for the others there is no checksum to compare with.
CHECKSUMS = {
    "resnet18-bottle": "9eb7a78f1f6ecfcd00391ea01fe06f998e3fb7b8e89a34c06d69786ee38a8059",
    "resnet18-cable": "65f36182cf75ba1b2629af7bee3eec87ed9b050796e0b7c06493993e0ba4cee1",
    "resnet18-capsule": "b5d97c3b3c08b0c25fdb3b0fd50e9b9fd24bd75b4e36956d47159e715d52470d",
    "resnet18-carpet": "7c9e1f06b185baae2c72b922aa29cb219d2b8d6a9fe1b03f86ccf1fd34a0b6c0",
    "resnet18-grid": "376fe5d7568fb3c1b9056a03aef6c0c350476a11b4f4579e6b7d8f8e5405f837",
    "resnet18-hazelnut": "3c40cf88d6c16827c9609c5ef4f0c7d81f8b8509905c9c4c68a79d8ba1696bdf",
    "resnet18-leather": "c4615f05409b0ae785a007889b4521cf3c3a43ce5b7ff7623f2255c121ef1e29",
    "resnet18-metal_nut": "c00f29018bbf304c8e50d366fccc635ded7da90dea7e4a2fd41afb1a62609796",
    "resnet18-pill": "878407b2700e3414dec26f2bae153f28d9b8e9e2367a0775b082efe641531188",
    "resnet18-screw": "a143cbb84cb2a8bbd5b86065bf56fffbc5c9a52d5da4ba9826c844fe35ef68fa",
    "vit-bottle": "f579661bb37203606527ae5ec5aea574c7de478e9223d6abd86c7eedcfd62138",
    "vit-cable": "36e1e68af80be0b3fd91fc69287d8499bf8ae8b36b58fceb5d3f247183627e2e",
    "vit-capsule": "66be6c942885306ac71bbfd77f90d8cdc4f6beab239e1398c8187e42ca0b982d",
    "vit-carpet": "1e17fc550866b6e1d5d35a8057657a780f7d8617024eeaace1659567adf79196",
    "vit-grid": "bd013ea2173d3736706f07eebf822955ca2f827d20662798915332a09c61f377",
    "vit-hazelnut": "fb0c5677c1bfac75414fac1bb16b9825df665dbc0b3ad257bb19307d3900badd",
    "vit-leather": "bc7f0d5b371cdf25ff0a8ed0613da7d3bda0fc6ba7267c856e5a8e328dd959c6",
    "vit-metal_nut": "ea35ac1782269c37e401bfa0fe9eb92ac6a18986a2aab29683a63b55061b2a06",
    "vit-pill": "b5016bdda837e9fdccd1859f1b97afe5d931202294641abd19c31796bfcd445a",
    "vit-screw": "f061d26d31479ba852463c4e323ff6fe78f36c2fdce61ae903cf02a78a3228c1",
}


class MVTecFeatures(Benchmark):
    """The images of MVTec AD as one feature vector each, by two networks."""

    name = "mvtec_features"
    title = "MVTec AD as frozen features"
    about = (
        "ADBench's feature vectors of the images of MVTec AD: 512 numbers by a ResNet-18 and 1,000 by a vision "
        "transformer, both trained on ImageNet. Only whether an image has a defect is known, not which kind."
    )
    categories = tuple(f"{model}-{name}" for model in MODELS for name in COUNTS)
    splits = ("random",)
    groups = "each image is its own group"
    traps = (
        "Training and test images stand in one shuffled list: the official split cannot be restored, so numbers are "
        "not those of the official protocol.",
        "How the images were resized is not stated with the files, and the 1,000 numbers of the vision transformer "
        "look like its class scores.",
    )
    licence = "derived from CC BY-NC-SA 4.0 images; ADBench is BSD-2-Clause"
    citation = "han2022"
    size = "2 x 5,354 vectors, 30 MB"
    obtained = (
        "`anomaly-transfer fetch mvtec_features` downloads it (addresses not tried yet), or put the files at "
        "mvtec_features/ResNet18/OBJECT.npz and mvtec_features/ViT/OBJECT.npz in the data folder."
    )
    pictures = False

    def available(self) -> tuple[str, ...]:
        return tuple(name for name in self.categories if self._path(name).is_file())

    def _fetch(self) -> None:
        for category in self.categories:
            model, name = category.split("-")
            checksum = CHECKSUMS.get(category)
            url = ADDRESS.format(model=MODELS[model], object=name)
            path = self._path(category)
            download(Source(url, checksum and f"sha256:{checksum}", path.name), path.parent)

    def load(self, category: str, limit: int | None = None) -> Category:
        from anomaly_transfer.features.features import Features

        self.check(category)
        path = self._path(category)
        try:
            with np.load(path, allow_pickle=False) as file:
                vectors, labels = file["X"].astype(np.float32), file["y"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is damaged or something else ({error}): delete it and fetch it again.") from error
        if vectors.ndim != 2 or labels.shape != vectors.shape[:1] or not np.isfinite(vectors).all():
            raise DataError(f"{path} does not hold one finite vector and one label an image: fetch it again.")
        ids = [f"{number:04}" for number in range(len(labels))]
        kinds = np.where(labels == 0, NORMAL, "defective")
        table = pd.DataFrame({"id": ids, "group": ids, "anomaly_class": kinds, "grade": np.nan})
        features = Features.of(**{MODELS[category.split("-")[0]]: vectors})
        return Category(self.name, category, features, Annotations(table)).thinned(limit)

    def published(self, category: str) -> dict[str, int]:
        """The images of MVTec AD (Bergmann et al., 2021)."""
        train, good, defective = COUNTS[category.split("-")[1]]
        return {NORMAL: train + good, "defective": defective}

    def _path(self, category: str) -> Path:
        model, name = category.split("-")
        return self.folder / MODELS[model] / f"{name}.npz"


BENCHMARK = MVTecFeatures()
