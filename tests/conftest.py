"""Fixtures that many tests share: a store of their own, a backbone, small synthetic folders and features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_transfer import backbones
from anomaly_transfer.features import Features
from anomaly_transfer.images import ImageFiles
from anomaly_transfer.store import Store


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    """No test reads or writes the user's store, or shows a progress bar."""
    monkeypatch.setenv("ANOMALY_TRANSFER_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture
def store():
    return Store()


@pytest.fixture(scope="session")
def lite0():
    return backbones.load("efficientnet_lite0")


def textured(rng: np.random.Generator, side: int = 64) -> np.ndarray:
    """A grey, slightly striped square with noise; uint8, shape (side, side, 3)."""
    stripes = 128 + 20 * np.sin(np.arange(side) / 3)[:, None] + rng.normal(0, 6, (side, side))
    return np.repeat(stripes.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def blemished(rng: np.random.Generator, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """The same with a dark square somewhere, and the mask of that square."""
    image, mask = textured(rng, side), np.zeros((side, side), dtype=bool)
    top, left = rng.integers(8, side - 24, size=2)
    mask[top : top + 16, left : left + 16] = True
    image[mask] = 10
    return image, mask


@pytest.fixture(scope="session")
def mvtec_folder(tmp_path_factory) -> Path:
    """A tiny folder in the MVTec AD layout: 14 training images, 6 good and 6 blemished test images with masks."""
    root = tmp_path_factory.mktemp("mvtec") / "tile"
    rng = np.random.default_rng(0)

    def save(array: np.ndarray, *parts: str) -> None:
        path = root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)

    for number in range(14):
        save(textured(rng), "train", "good", f"{number:03}.png")
    for number in range(6):
        save(textured(rng), "test", "good", f"{number:03}.png")
        image, mask = blemished(rng)
        save(image, "test", "hole", f"{number:03}.png")
        save(mask.astype(np.uint8) * 255, "ground_truth", "hole", f"{number:03}_mask.png")
    return root


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


def features_of_kind(kind: str, n: int, seed: int = 0, shift: float = 0.0) -> Features:
    return (pooled_features if kind == "pooled" else map_features)(n, seed, shift)
