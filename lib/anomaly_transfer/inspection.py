"""A reader's own images: from a folder to scores, heat maps and a report; and a kept model on new images."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter, zoom

from anomaly_transfer import models, plots
from anomaly_transfer.benchmarks.folder import (
    UNLABELLED,
    list_images,
    read_folder,
    read_mask,
    sift,
)
from anomaly_transfer.detectors.base import Localiser
from anomaly_transfer.errors import DataError, EvaluationError
from anomaly_transfer.evaluation import Interval, evaluate_table, localisation
from anomaly_transfer.images import ImageFiles
from anomaly_transfer.labels import NORMAL
from anomaly_transfer.models import Model
from anomaly_transfer.records import hardware, now, versions
from anomaly_transfer.store import Store

REPORT = "report.json"
N_BOOTSTRAP = 1000


def evaluate_folder(
    folder: Path,
    out: Path,
    method: str,
    backbone: str,
    image_size: int | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> dict:
    """Fit on ``train/good`` of a folder in the MVTec AD layout, score ``test``, and write everything to ``out``.

    Written: ``scores.csv``, ``report.json``, ``report.html`` and, for a method that localises, one picture an image
    in ``heat_maps/``. Metrics appear where the test images have labels (and masks).

    Returns
    -------
    dict
        The content of ``report.json``.

    Raises
    ------
    DataError
        If the folder has another layout, there is nothing to score, or ``out`` holds something else.
    """
    content = read_folder(folder)
    if not len(content.fold.test):
        raise DataError(f"{folder} has no images under test/: nothing to score.")
    _prepare(out)
    images = content.category.images
    model, _ = models.fit(images[content.fold.train], method, backbone, image_size, seed, store)
    scored = _score(model, images[content.fold.test], store)
    table = content.category.annotations.open().iloc[content.fold.test].reset_index(drop=True)
    table["score"] = scored.scores
    if model.description.threshold is not None:
        table["anomalous"] = table["score"] > model.description.threshold
    pictures = _write_heat_maps(out, images[content.fold.test], table["id"], scored.maps, model.description.image_size)
    report = {
        "folder": content.category.name,
        "model": model.description.model_dump(mode="json"),
        "counts": table["anomaly_class"].value_counts().to_dict(),
        "skipped": content.skipped,
        "metrics": _metrics(table, seed),
        "localisation": _localisation(table, scored.maps, model.description.image_size, seed),
        "provenance": {"versions": versions(), "hardware": hardware(), "date": now()},
    }
    table.drop(columns=["group", "grade", "part", "mask"]).to_csv(out / "scores.csv", index=False)
    (out / "report.html").write_text(_html(report, table, pictures), encoding="utf-8")
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def score_images(model: Model, source: Path, store: Store | None = None) -> tuple[pd.DataFrame, dict[str, str]]:
    """Score one image, or all images directly in a folder, with a kept model.

    Returns
    -------
    table with the columns image, score and (if the model has a threshold) anomalous; and the files skipped

    Raises
    ------
    DataError
        If there is nothing to score.
    """
    if not source.exists():
        raise DataError(f"There is no file or folder {source}.")
    readable, skipped = sift(list_images(source) if source.is_dir() else [source])
    paths = sorted(readable)
    if not paths:
        raise DataError(f"{source} holds no image that can be read. " + " ".join(skipped.values()))
    table = pd.DataFrame({"image": [str(path) for path in paths]})
    table["score"] = _score(model, ImageFiles(tuple(paths)), store).scores
    if model.description.threshold is not None:
        table["anomalous"] = table["score"] > model.description.threshold
    return table, skipped


def fit_folder(
    folder: Path,
    method: str,
    backbone: str,
    image_size: int | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> tuple[Model, dict[str, str]]:
    """Fit on normal images: ``train/good`` of an MVTec layout, or all images directly in the folder.

    Returns
    -------
    the model, and the files skipped

    Raises
    ------
    DataError
        If fewer than two images can be read.
    """
    good = folder / "train" / "good"
    place = good if good.is_dir() else folder
    if not place.is_dir():
        raise DataError(f"There is no folder {place}.")
    readable, skipped = sift(list_images(place))
    if len(readable) < 2:
        raise DataError(f"{place} holds {len(readable)} readable image(s): at least 2 normal images are needed.")
    model, _ = models.fit(ImageFiles(tuple(sorted(readable))), method, backbone, image_size, seed, store)
    return model, skipped


def pixel_scores(patch_map: np.ndarray, image_size: int) -> np.ndarray:
    """Scores of patches as scores of pixels: bilinear interpolation, then a Gaussian blur of one patch's width.

    Parameters
    ----------
    patch_map : float array, shape (rows, columns)
    image_size : int

    Returns
    -------
    float array, shape (image_size, image_size)
    """
    factor = image_size / patch_map.shape[0], image_size / patch_map.shape[1]
    fine = zoom(patch_map, factor, order=1, mode="nearest", grid_mode=True)
    return gaussian_filter(fine, sigma=max(factor) / 2)


@dataclass
class _Scored:
    scores: np.ndarray
    maps: list[np.ndarray] | None


def _score(model: Model, images: ImageFiles, store: Store | None) -> _Scored:
    features = model.features(images, store)
    if not isinstance(model.detector, Localiser):
        return _Scored(model.detector.anomaly_score(features), None)
    maps = [patches for batch in features.batches() for patches in model.detector.anomaly_map(batch)]
    return _Scored(np.array([patches.max() for patches in maps]), maps)


def _prepare(out: Path) -> None:
    if out.exists() and any(out.iterdir()) and not (out / REPORT).is_file():
        raise DataError(f"{out} is not empty and holds no earlier report: choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    (out / REPORT).unlink(missing_ok=True)


def _metrics(table: pd.DataFrame, seed: int) -> dict[str, dict[str, dict]]:
    """Metrics by anomaly class and overall; empty where there are no labels."""
    labelled = table[table["anomaly_class"] != UNLABELLED].assign(stratum=0)
    try:
        found = evaluate_table(labelled, (), "stratum", N_BOOTSTRAP, seed)
    except EvaluationError:
        return {}
    found.pop("target")
    return {name: {metric: value.model_dump() for metric, value in values.items()} for name, values in found.items()}


def _localisation(table: pd.DataFrame, maps: list[np.ndarray] | None, image_size: int, seed: int) -> dict[str, dict]:
    """Pixel metrics at the network's input size, over normal images and those with a mask; empty without masks."""
    if maps is None or not table["mask"].any():
        return {}
    used = [row for row in table.itertuples() if row.anomaly_class == NORMAL or row.mask]
    size = (image_size, image_size)
    masks = [read_mask(row.mask, size) if row.mask else np.zeros(size, dtype=bool) for row in used]
    pixels = [pixel_scores(maps[row.Index], image_size) for row in used]
    found = localisation(pixels, masks, N_BOOTSTRAP, seed)
    return {name: value.model_dump() for name, value in found.items()}


def _write_heat_maps(
    out: Path, images: ImageFiles, ids: pd.Series, maps: list[np.ndarray] | None, image_size: int
) -> dict[str, str]:
    """One picture an image, all on one colour scale; returns image id to path relative to ``out``."""
    if maps is None:
        return {}
    low, high = np.min([patches.min() for patches in maps]), np.max([patches.max() for patches in maps])
    pictures = {}
    for name, image, patches in zip(ids, (images[index] for index in range(len(images))), maps, strict=True):
        path = Path("heat_maps") / Path(name).with_suffix(".png")
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        plots.overlay(image, pixel_scores(patches, image_size), low, high).save(out / path)
        pictures[name] = path.as_posix()
    return pictures


def _html(report: dict, table: pd.DataFrame, pictures: dict[str, str]) -> str:
    figure = plots.score_histogram(table, report["model"]["threshold"])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    plots.close(figure)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("anomaly_transfer", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = lambda value: str(Interval(**value))
    return environment.get_template("report.html.jinja").render(
        report=report,
        rows=table.sort_values("score", ascending=False).to_dict(orient="records"),
        pictures=pictures,
        histogram=base64.b64encode(buffer.getvalue()).decode(),
    )
