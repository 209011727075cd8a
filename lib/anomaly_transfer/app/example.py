"""A folder to try things on: pictures of a wall as a phone takes them, some of them with a defect.

Explained in the chapter *Bring your own images*.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from anomaly_transfer import atomic
from anomaly_transfer.app.inspection import evaluate
from anomaly_transfer.data import synthetic
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.errors import DataError
from anomaly_transfer.store import Store

#: Places of the wall, pixels a side of each, of what a picture shows of one, and of the picture.
PLACES, PLACE, SEEN, PICTURE = 16, 128, 100, 240
#: Places of which every picture is taken for training; those of the others are all for testing.
TRAINED = 10
#: Pictures of each place for training, and for testing normal ones and ones of each kind of defect.
PER_PLACE, GOOD, DEFECTIVE = 5, 4, 2
DEFECTS = ("crack", "missing", "stain")
SEVERITY = 0.8
#: Red, green and blue under a lamp, of what they are by day.
LAMP = (1.1, 0.9, 0.6)


def write(folder: Path, seed: int = 0) -> Path:
    """Write pictures in the layout of MVTec AD: ``train/good``, ``test/good``, ``test/DEFECT`` and their masks.

    Every picture of a place is in one part, as it should be with pictures of your own. They differ in place,
    angle, exposure and white balance, and are JPEG files; the defects are drawn (see ``synthetic``).

    Parameters
    ----------
    folder : Path
        A new folder, or an empty one.
    seed : int

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        If the folder holds something, or scikit-image is missing.
    """
    with atomic.creating(folder, "the example") as made:
        _write(made, np.random.default_rng(seed))
    return folder


def _write(folder: Path, rng: np.random.Generator) -> None:
    for number, place in enumerate(rng.permutation(PLACES)):
        wall = _wall(place)
        if number < TRAINED:
            for picture in range(PER_PLACE):
                _save(photographed(rng, wall)[0], folder / "train" / "good" / f"place{place:02}-{picture}.jpg")
            continue
        for picture in range(GOOD):
            _save(photographed(rng, wall)[0], folder / "test" / "good" / f"place{place:02}-{picture}.jpg")
        for kind in DEFECTS:
            for picture in range(DEFECTIVE):
                taken, where = _damaged(wall, kind, rng)
                name = f"place{place:02}-{picture}"
                _save(taken, folder / "test" / kind / f"{name}.jpg")
                _save(where, folder / "ground_truth" / kind / f"{name}_mask.png")


def photographed(rng: np.random.Generator, *layers: np.ndarray) -> list[Image.Image]:
    """A picture of a place by hand: shifted, turned, in some light, of some tint.

    Parameters
    ----------
    rng : numpy Generator
    *layers : uint8 or bool array, shape (PLACE, PLACE)
        Grey values, and what is taken from the same stand: masks keep their two values.

    Returns
    -------
    list of Image
        PICTURE x PICTURE pixels: RGB of grey values, L of masks.
    """
    angle, (dx, dy) = rng.uniform(-4, 4), rng.integers(-8, 9, 2)
    gains = np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.02, 3))
    margin = (PLACE - SEEN) // 2
    box = (margin + dx, margin + dy, margin + dx + SEEN, margin + dy + SEEN)
    pictures = []
    for layer in layers:
        smooth = Image.Resampling.NEAREST if layer.dtype == bool else Image.Resampling.BICUBIC
        seen = Image.fromarray(layer).convert("L").rotate(angle, smooth).resize((PICTURE, PICTURE), smooth, box)
        if layer.dtype == bool:
            pictures.append(seen)
        else:
            pictures.append(_lit(np.asarray(seen)[..., None], gains))
    return pictures


def _lit(pixels: np.ndarray, gains: Sequence[float] | np.ndarray) -> Image.Image:
    """A colour picture of grey or coloured pixels, shape (height, width, 1 or 3), in light of some colour."""
    return Image.fromarray((pixels * np.asarray(gains)).round().clip(0, 255).astype(np.uint8))


def same_places(folder: Path, seed: int = 0) -> None:
    """Deal the normal pictures at random, so that those of one place are in train and in test."""
    parts = [folder / part / "good" for part in ("train", "test")]
    pictures = [path for part in parts for path in sorted(part.iterdir())]
    kept = len(list(parts[0].iterdir()))
    aside = folder / "aside"
    aside.mkdir()
    for path in pictures:
        path.rename(aside / path.name)
    for number, index in enumerate(np.random.default_rng(seed).permutation(len(pictures))):
        name = pictures[index].name
        (aside / name).rename(parts[number >= kept] / name)
    aside.rmdir()


def another_light(folder: Path) -> None:
    """Turn the light on all pictures with a defect yellow; and, as the class ``nothing``, on copies of normal ones."""
    shutil.copytree(folder / "test" / "good", folder / "test" / "nothing")
    for path in sorted((folder / "test").glob("*/*.jpg")):
        if path.parent.name != "good":
            with Image.open(path) as picture:
                _save(_lit(np.asarray(picture), LAMP), path)


def unnoticed(folder: Path, seed: int = 0) -> None:
    """Draw a defect on a tenth of the pictures for training."""
    rng = np.random.default_rng(seed)
    for number, path in enumerate(sorted((folder / "train" / "good").iterdir())[::10]):
        with Image.open(path) as picture:
            changed, _ = synthetic.draw(np.asarray(picture), DEFECTS[number % len(DEFECTS)], SEVERITY, rng)
        _save(Image.fromarray(changed), path)


def one_place(folder: Path) -> None:
    """Keep the pictures of one place for training, and no others."""
    first, *_ = sorted((folder / "train" / "good").iterdir())
    for path in (folder / "train" / "good").iterdir():
        if path.name.split("-")[0] != first.name.split("-")[0]:
            path.unlink()


#: What people do wrong, done to a folder that :func:`write` wrote.
MISTAKES: dict[str, Callable[[Path], None]] = {
    "the same places in train and test": same_places,
    "defects taken under a lamp": another_light,
    "defects among the normal pictures": unnoticed,
    "all normal pictures of one place": one_place,
}


def consequences(
    folder: Path, method: str, backbone: str, image_size: int | None = None, store: Store | None = None
) -> pd.DataFrame:
    """What a report says after each of ``MISTAKES``, beside what it says of the same defects without.

    Parameters
    ----------
    folder : Path
        That :func:`write` wrote; it stays as it is.
    method, backbone, image_size, store
        See :func:`anomaly_transfer.app.inspection.evaluate`.

    Returns
    -------
    DataFrame
        One row a mistake and class: ``mistake``, ``class``, ``told`` (AUROC after the mistake, against the normal test
        pictures of that folder) and ``right`` (AUROC in ``folder``; NaN where it has no such class).
    """

    def evaluated(place: Path) -> pd.DataFrame:
        with TemporaryDirectory() as out:
            evaluate(place, Path(out), method, backbone, image_size, store=store)
            return pd.read_csv(Path(out) / "scores.csv")

    right, rows = evaluated(folder), []
    for mistake, make in tqdm(MISTAKES.items(), desc="mistakes", leave=False):
        with TemporaryDirectory() as place:
            make(Path(shutil.copytree(folder, Path(place) / "copy")))
            told = evaluated(Path(place) / "copy")
        for kind in sorted(set(told["anomaly_class"]) - {NORMAL}):
            rows.append((mistake, kind, _auroc(told, kind), _auroc(right, kind) if kind in DEFECTS else np.nan))
    return pd.DataFrame(rows, columns=["mistake", "class", "told", "right"])


def _auroc(scores: pd.DataFrame, kind: str) -> float:
    two = scores[scores["anomaly_class"].isin([NORMAL, kind])]
    return roc_auc_score(two["anomaly_class"] == kind, two["score"])


def _damaged(wall: np.ndarray, kind: str, rng: np.random.Generator) -> list[Image.Image]:
    """A picture of a place with a defect, most of which it shows, and the mask."""
    while True:
        changed, mask = synthetic.draw(wall, kind, SEVERITY, rng)
        taken, where = photographed(rng, changed, mask)
        if np.asarray(where).astype(bool).sum() > 0.5 * mask.sum() * (PICTURE / SEEN) ** 2:
            return [taken, where]


def _wall(place: int) -> np.ndarray:
    """One place of the photographed brick wall that scikit-image ships."""
    try:
        from skimage import data
    except ImportError:
        raise DataError("The example is drawn on a picture of scikit-image: pip install scikit-image") from None
    row, column = divmod(int(place), int(PLACES**0.5))
    return data.brick()[row * PLACE : (row + 1) * PLACE, column * PLACE : (column + 1) * PLACE]


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # PNG has no quality, and takes no notice.
    picture.save(path, quality=85)
