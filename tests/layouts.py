"""Builders of tiny data sets in the official layouts: every loader is tested on files like those it is made for."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


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


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def mvtec(root: Path, train: int = 14, good: int = 6, defective: int = 6) -> Path:
    """One category in MVTec AD's layout, with masks of the class ``hole``."""
    rng = np.random.default_rng(0)
    for number in range(train):
        save(textured(rng), root / "train" / "good" / f"{number:03}.png")
    for number in range(good):
        save(textured(rng), root / "test" / "good" / f"{number:03}.png")
    for number in range(defective):
        image, mask = blemished(rng)
        save(image, root / "test" / "hole" / f"{number:03}.png")
        save(mask.astype(np.uint8) * 255, root / "ground_truth" / "hole" / f"{number:03}_mask.png")
    return root


def mvtec_ad(data: Path) -> None:
    mvtec(data / "mvtec_ad" / "bottle")


def own(data: Path) -> None:
    mvtec(data / "own" / "widget")


def idx(array: np.ndarray) -> bytes:
    """LeCun's format."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def idx_set(folder: Path, packed: bool) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for part, number in (("train", 60), ("t10k", 40)):
        labels = np.arange(number) % 10
        # A digit is a bright bar at its own height, so that features can tell them apart.
        images = rng.integers(0, 30, (number, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 4] += 200
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            content = idx(array)
            path = folder / (name + ".gz" if packed else name)
            path.write_bytes(gzip.compress(content) if packed else content)


def mnist(data: Path) -> None:
    idx_set(data / "mnist" / "MNIST" / "raw", packed=False)


def fashion_mnist(data: Path) -> None:
    idx_set(data / "fashion_mnist", packed=True)


CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(data: Path, suffix: str = ".png") -> None:
    """Class folders of images."""
    rng = np.random.default_rng(0)
    for part, number in (("train", 4), ("test", 3)):
        for name in CIFAR:
            for index in range(number):
                pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                save(pixels, data / "cifar10" / part / name / f"{index:04}{suffix}")


def cifar10_batches(folder: Path) -> dict[str, str]:
    """The pickled batches of the official archive, and their MD5 sums."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    batch = {name: {"data": rng.integers(0, 255, (20, 3072), dtype=np.uint8)} for name in names}
    for content in batch.values():
        content["labels"] = [number % 10 for number in range(20)]
    files = batch | {"batches.meta": {"label_names": list(CIFAR)}}
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content))
    return {name: md5((folder / name).read_bytes()).hexdigest() for name in files}


def magnetic_tile(data: Path) -> None:
    """Each view under six lights; one view free, one of each defect."""
    rng = np.random.default_rng(0)
    number = 100
    for kind in ("Free", "Free", "Free", "Blowhole", "Break", "Crack", "Fray", "Uneven"):
        side = int(rng.integers(40, 120))
        for exposure in range(1, 7):
            number += 15
            image, mask = blemished(rng, max(side, 48))
            stem = data / "magnetic_tile" / f"MT_{kind}" / "Imgs" / f"exp{exposure}_num_{number}"
            save(image[..., 0], stem.with_suffix(".jpg"))
            empty = kind in ("Free", "Uneven")
            save(np.where(mask & (not empty), 255, 0).astype(np.uint8), stem.with_suffix(".png"))
        number += 1000


def crackforest(data: Path) -> None:
    """Photographs of 480 x 320 with a horizontal crack; one is upright."""
    rng = np.random.default_rng(0)
    for number in range(1, 7):
        shape = (480, 320) if number == 6 else (320, 480)
        pixels = rng.integers(90, 140, (*shape, 3), dtype=np.uint8)
        truth = np.ones(shape, dtype=np.uint8)
        truth[100:103] = 2
        truth[165, 10:14] = 2  # a trace: too few pixels to count as a crack
        truth[250:253, :80] = 4  # a faint crack
        truth[103:120, 90:140] = 3  # enclosed by cracks, but whole
        pixels[np.isin(truth, [2, 4])] = 20
        save(pixels, data / "crackforest" / "image" / f"{number:03}.jpg")
        path = data / "crackforest" / "groundTruth" / f"{number:03}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"groundTruth": {"Segmentation": truth, "Boundaries": truth - 1}})
    save(pixels, data / "crackforest" / "image" / "201.jpg")


def concrete_cracks(data: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("Negative", "Positive"):
        for number in (1, 2, 1999, 2000, 2001, 2002, 4001, 4002):
            save(textured(rng), data / "concrete_cracks" / name / f"{number:05}.jpg")
    save(textured(rng), data / "concrete_cracks" / "Positive" / "04003_1.jpg")


def mvtec_features(data: Path) -> None:
    rng = np.random.default_rng(0)
    for model, width in (("ResNet18", 512), ("ViT", 1000)):
        labels = np.arange(60) % 4 == 0
        vectors = rng.normal(size=(60, width)).astype(np.float32) + 0.3 * labels[:, None]
        path = data / "mvtec_features" / model / "bottle.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, X=vectors, y=labels.astype(int))


#: By benchmark; what comes with Python packages needs no builder.
BUILDERS: dict[str, Callable[[Path], None]] = {
    "cifar10": cifar10,
    "concrete_cracks": concrete_cracks,
    "crackforest": crackforest,
    "fashion_mnist": fashion_mnist,
    "magnetic_tile": magnetic_tile,
    "mnist": mnist,
    "mvtec_ad": mvtec_ad,
    "mvtec_features": mvtec_features,
    "own": own,
}
