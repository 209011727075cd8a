"""Fixtures that many tests share: a store of their own, a backbone, small synthetic folders and features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.layouts import mvtec

from anomaly_transfer.benchmarks.fashion_mnist import FashionMNIST
from anomaly_transfer.data.images import ImageFiles
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.inputs import MAP
from anomaly_transfer.networks import backbones
from anomaly_transfer.store import Store

#: Benchmarks that also look for a system package.
SYSTEM_DATA = [FashionMNIST]


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    """No test reads or writes the user's store or data, downloads anything, or shows a progress bar."""
    monkeypatch.setenv("ANOMALY_TRANSFER_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("ANOMALY_TRANSFER_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("ANOMALY_TRANSFER_MIRROR", raising=False)
    monkeypatch.delenv("ANOMALY_TRANSFER_OFFLINE", raising=False)
    for package in SYSTEM_DATA:
        monkeypatch.setattr(package, "system", tmp_path / "system")
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture
def store():
    return Store()


@pytest.fixture(scope="session")
def lite0():
    return backbones.load("efficientnet_lite0")


@pytest.fixture(scope="session")
def mvtec_folder(tmp_path_factory) -> Path:
    """A tiny folder in the MVTec AD layout: 14 training images, 6 good and 6 blemished test images with masks."""
    return mvtec(tmp_path_factory.mktemp("mvtec") / "tile")


@pytest.fixture(scope="session")
def some_images(mvtec_folder) -> ImageFiles:
    return ImageFiles(tuple(sorted((mvtec_folder / "train" / "good").iterdir())))


def pooled_features(n: int, seed: int = 0, shift: float = 0.0) -> Features:
    """Pooled features at two levels, standard normal plus ``shift``."""
    rng = np.random.default_rng(seed)
    arrays = {"low": rng.normal(shift, 1, (n, 6)), "high": rng.normal(shift, 1, (n, 10))}
    return Features.of(**{name: array.astype(np.float32) for name, array in arrays.items()})


def map_features(n: int, seed: int = 0, shift: float = 0.0) -> Features:
    """Spatial maps at two levels (8 x 8 and 4 x 4); ``shift`` is added around one position (2, 5)."""
    rng = np.random.default_rng(seed)
    fine, coarse = rng.normal(0, 1, (n, 3, 8, 8)), rng.normal(0, 1, (n, 4, 4, 4))
    fine[:, :, 1:4, 4:7] += shift
    coarse[:, :, 0:3, 1:4] += shift
    return Features.of(fine=fine.astype(np.float32), coarse=coarse.astype(np.float32))


def both_features(n: int, seed: int = 0, shift: float = 0.0) -> Features:
    """Pooled features and maps side by side."""
    maps = {level + MAP: array for level, array in map_features(n, seed, shift).arrays.items()}
    return Features.of(**pooled_features(n, seed, shift).arrays, **maps)


def features_of_kind(kind: str, n: int, seed: int = 0, shift: float = 0.0) -> Features:
    return {"maps": map_features, "both": both_features}.get(kind, pooled_features)(n, seed, shift)
