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

from anomaly_transfer import models, outputs, plots
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.benchmarks.folder import UNLABELLED, list_images, not_images, read_folder, sift
from anomaly_transfer.detectors.base import Localiser, pixel_scores
from anomaly_transfer.errors import DataError, EvaluationError
from anomaly_transfer.evaluation import Interval, evaluate_table, localisation
from anomaly_transfer.images import ImageFiles, Images, duplicates
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
        If the folder has another layout, there is nothing to score, or ``out`` holds something else or cannot be
        written.
    """
    outputs.check(out, REPORT)
    category = read_folder(folder)
    everything = category.annotations.open()
    train, test = (np.flatnonzero(everything["part"] == part) for part in ("train", "test"))
    if not len(test):
        raise DataError(f"{folder} has no images under test/: nothing to score.")
    train_images, test_images = category.images.take(train), category.images.take(test)
    model, _ = models.fit(train_images, method, backbone, image_size, seed, store)
    scored = _score(model, test_images, store)
    table = everything.iloc[test].reset_index(drop=True)
    table["score"] = scored.scores
    if model.description.threshold is not None:
        table["anomalous"] = table["score"] > model.description.threshold
    report = {
        "folder": category.name,
        "model": model.description.model_dump(mode="json"),
        "counts": table["anomaly_class"].value_counts().to_dict(),
        "skipped": category.skipped,
        "duplicates": everything["id"].iloc[duplicates(category.images, train, test)].to_list(),
        "metrics": _metrics(table, seed),
        "localisation": _localisation(category, test, scored.maps, model.description.image_size, seed),
        "provenance": {"versions": versions(), "hardware": hardware(), "date": now()},
    }
    with outputs.replacing(out, REPORT) as made:
        pictures = _write_heat_maps(made, test_images, table["id"], scored.maps, model.description.image_size)
        table.drop(columns=["group", "grade", "part"]).to_csv(made / "scores.csv", index=False)
        (made / "report.html").write_text(_html(report, table, pictures), encoding="utf-8")
        (made / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
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
    if source.is_dir():
        skipped = not_images(source) | skipped
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
    skipped = not_images(place) | skipped
    if len(readable) < 2:
        raise DataError(f"{place} holds {len(readable)} readable image(s): at least 2 normal images are needed.")
    model, _ = models.fit(ImageFiles(tuple(sorted(readable))), method, backbone, image_size, seed, store)
    return model, skipped


@dataclass
class _Scored:
    scores: np.ndarray
    maps: list[np.ndarray] | None


def _score(model: Model, images: Images, store: Store | None) -> _Scored:
    features = model.features(images, store)
    if not isinstance(model.detector, Localiser):
        return _Scored(model.detector.anomaly_score(features), None)
    scores, maps = model.detector.scored(features)
    return _Scored(scores, list(maps))


def _metrics(table: pd.DataFrame, seed: int) -> dict[str, dict[str, dict]]:
    """Metrics by anomaly class and overall; empty where there are no labels."""
    labelled = table[table["anomaly_class"] != UNLABELLED].assign(stratum=0)
    try:
        found = evaluate_table(labelled, (), "stratum", N_BOOTSTRAP, seed)
    except EvaluationError:
        return {}
    found.pop("target")
    return {name: {metric: value.model_dump() for metric, value in values.items()} for name, values in found.items()}


def _localisation(
    category: Category, test: np.ndarray, maps: list[np.ndarray] | None, image_size: int, seed: int
) -> dict[str, dict]:
    """Pixel metrics at the network's input size, over normal images and those with a mask; empty without masks."""
    if maps is None or not category.annotations.has_masks:
        return {}
    masks = category.masks(test, image_size)
    known = [(patches, mask) for patches, mask in zip(maps, masks, strict=True) if mask is not None]
    pixels = [pixel_scores(patches, image_size) for patches, _ in known]
    found = localisation(pixels, [mask for _, mask in known], N_BOOTSTRAP, seed)
    return {name: value.model_dump() for name, value in found.items()}


def _write_heat_maps(
    out: Path, images: Images, ids: pd.Series, maps: list[np.ndarray] | None, image_size: int
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
