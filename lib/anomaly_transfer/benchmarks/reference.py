"""Pictures that are not of the benchmark: the rival source domains and the floor of Part I.

All come with Python packages. They take the colours of what they are compared with: beside grey pictures they are grey,
since colour alone would tell them apart.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from PIL import Image

from anomaly_transfer.benchmarks.surfaces import BENCHMARK as SURFACES
from anomaly_transfer.benchmarks.surfaces import CELLS, TEXTURES
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import ImageArray, Images

#: Photographs of everyday things that scikit-image and scikit-learn carry: (package, name).
PHOTOGRAPHS = (
    ("skimage", "astronaut"),
    ("skimage", "chelsea"),
    ("skimage", "coffee"),
    ("skimage", "rocket"),
    ("skimage", "camera"),
    ("sklearn", "china.jpg"),
    ("sklearn", "flower.jpg"),
)
#: Sides of a crop of a photograph, as shares of its shorter side.
SMALLEST, LARGEST = 0.4, 0.9
SIDE = 128


def photographs(n: int, seed: int = 0) -> ImageArray:
    """``n`` random square crops of natural photographs, as many of each as can be, resized to 128 pixels.

    Parameters
    ----------
    n, seed : int

    Returns
    -------
    ImageArray of shape (n, 128, 128, 3)
    """
    rng = np.random.default_rng(seed)
    whole = [Image.fromarray(_photograph(*which)).convert("RGB") for which in PHOTOGRAPHS]
    crops = []
    for number in range(n):
        picture = whole[number % len(whole)]
        side = int(rng.uniform(SMALLEST, LARGEST) * min(picture.size))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        crop = picture.crop((left, top, left + side, top + side))
        crops.append(np.asarray(crop.resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
    return ImageArray(np.stack(crops))


def photograph_of(n: int) -> np.ndarray:
    """Which photograph each of ``n`` crops is of: crops of one resemble each other."""
    return np.arange(n) % len(PHOTOGRAPHS)


def materials(n: int, without: str, seed: int = 0) -> ImageArray:
    """``n`` normal pictures of the surfaces of :mod:`anomaly_transfer.benchmarks.surfaces`, as many of each as can be.

    Parameters
    ----------
    n : int
    without : str
        ``"benchmark/category"``, whose own material is left out; of cells, all.
    seed : int

    Returns
    -------
    ImageArray of shape (n, 128, 128, 3)
    """
    rng = np.random.default_rng(seed)
    benchmark, _, category = without.partition("/")
    own = {"elpv": CELLS, "surfaces": CELLS if category in CELLS else (category,)}.get(benchmark, ())
    kinds = [_normal(name) for name in (*TEXTURES, *CELLS[:1]) if name not in own]
    # Each in turn; should one run out, it begins again.
    supplies = [itertools.cycle(kind.take(rng.permutation(len(kind)))) for kind in kinds]
    chosen = [next(supplies[number % len(supplies)]) for number in range(n)]
    return ImageArray(np.stack([np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for p in chosen]))


@lru_cache
def _normal(surface: str) -> Images:
    # Not by its name: the code that makes these pictures counts among what a result depends on.
    found = SURFACES.load(surface)
    return found.images.take(np.flatnonzero(found.annotations.open()["anomaly_class"] == NORMAL))


def noise(n: int, like: Images, seed: int = 0) -> ImageArray:
    """``n`` pictures of white noise, with the mean and spread of the pixels of ``like`` (of its first 50 images).

    Returns
    -------
    ImageArray of shape (n, 128, 128, 3)
    """
    rng = np.random.default_rng(seed)
    sample = np.concatenate([np.asarray(like[row]).ravel() for row in range(min(len(like), 50))]).astype(float)
    pixels = rng.normal(sample.mean(), sample.std(), (n, SIDE, SIDE, 3))
    return ImageArray(pixels.clip(0, 255).astype(np.uint8))


def comparison_sets(images: Images, where: str, n: int, seed: int = 0) -> dict[str, ImageArray]:
    """The three sources that pictures are compared with, ``n`` of each, grey if they are.

    Parameters
    ----------
    images : Images
    where : str
        ``"benchmark/category"`` of ``images``: see :func:`materials`.
    n, seed : int

    Returns
    -------
    dict with the keys ``photographs``, ``materials`` and ``noise``
    """
    found = {
        "photographs": photographs(n, seed),
        "materials": materials(n, where, seed),
        "noise": noise(n, images, seed),
    }
    some = np.stack([np.asarray(images[row].resize((16, 16))) for row in range(min(len(images), 20))])
    if np.ptp(some, axis=-1).max() == 0:
        found = {name: ImageArray(_grey(source.pixels)) for name, source in found.items()}
    return found


def _photograph(package: str, name: str) -> np.ndarray:
    if package == "skimage":
        from skimage import data

        return getattr(data, name)()
    from sklearn.datasets import load_sample_image

    return load_sample_image(name)


def _grey(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 3:
        return pixels
    return np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels])
