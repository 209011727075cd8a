"""A reader's own images: from a folder to scores, heat maps and a report; and a kept model on new images."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd

from anomaly_transfer import atomic
from anomaly_transfer.app import DEFAULT_BACKBONE, DEFAULT_METHOD, folder_check, models
from anomaly_transfer.app.models import Model
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.benchmarks.folder import UNLABELLED, Survey, printable, survey, survey_images, survey_training
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import Images
from anomaly_transfer.detectors.base import Localiser, pixel_scores
from anomaly_transfer.errors import DataError, EvaluationError
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.metrics.bootstrap import Interval
from anomaly_transfer.metrics.localisation import localisation
from anomaly_transfer.metrics.ranking import evaluate_table
from anomaly_transfer.pages import plots
from anomaly_transfer.provenance import hardware, now, versions
from anomaly_transfer.store import Store

REPORT = "report.json"
#: Bytes of a file's name that any file system takes.
LONGEST_NAME = 255
N_BOOTSTRAP = 1000
#: Images of each kind, normal and anomalous, below which there is no interval. Of three a bootstrap draws one three
#: times in a ninth of all resamples, more than it cuts off at either end; and three of each are ranked perfectly by
#: chance one time in twenty.
FEW = 4


def evaluate(
    folder: str | Path,
    out: str | Path,
    method: str = DEFAULT_METHOD,
    backbone: str = DEFAULT_BACKBONE,
    image_size: int | None = None,
    seed: int = 0,
    store: Store | None = None,
    force: bool = False,
) -> dict:
    """Fit on ``train/good`` of a folder in the MVTec AD layout, score ``test``, and write everything to ``out``.

    Written: ``scores.csv``, ``report.json``, ``report.html`` and, for a method that localises, one picture an image
    in ``heat_maps/``. Metrics appear where the test images have labels (and masks).

    Parameters
    ----------
    folder : path
        Holds ``train/good``, ``test/good`` and ``test/DEFECT``, and optionally ``ground_truth/DEFECT``.
    out : path
        A new folder, an empty one, or one that holds an earlier report.
    method, backbone, image_size, seed, store
        See :func:`fit`.
    force : bool
        Whether ``out`` may hold something else, which then stays.

    Returns
    -------
    dict
        The content of ``report.json``.

    Raises
    ------
    DataError
        If the folder has another layout, or there is nothing to learn from or to score, or ``out`` holds something
        else or cannot be written; it is then as it was before.
    """
    with atomic.replacing(Path(out), force) as made:
        return _evaluate(folder, made, method, backbone, image_size, seed, store)


def _evaluate(
    folder: str | Path, out: Path, method: str, backbone: str, image_size: int | None, seed: int, store: Store | None
) -> dict:
    found = survey(folder)
    category, checked = found.category(), folder_check.check(found)
    everything = category.annotations.open()
    train, test = (np.flatnonzero(everything["part"] == part) for part in ("train", "test"))
    if not len(test):
        raise DataError(f"{folder} has no images under test/: nothing to score.{found.unused}")
    train_images, test_images = category.images.take(train), category.images.take(test)
    model = models.fit(train_images, method, backbone, image_size, seed, store)
    table, maps = _scored(model, test_images, everything.iloc[test].reset_index(drop=True), store)
    report = {
        "folder": category.name,
        "model": model.description.model_dump(mode="json"),
        "promise": model.description.promise,
        "counts": table["anomaly_class"].value_counts().to_dict(),
        "data": checked.facts,
        "notes": found.notes,
        "warnings": checked.warnings,
        "skipped": category.skipped,
        "duplicates": checked.duplicates,
        "metrics": _metrics(table, seed),
        "localisation": _localisation(category, test, maps, model.description.image_size, seed),
        "provenance": {"versions": versions(), "hardware": hardware(), "date": now()},
    }
    pictures = _write_heat_maps(out / "heat_maps", test_images, table["id"], maps, model.description.image_size)
    table.drop(columns=["group", "grade", "part"]).to_csv(out / "scores.csv", index=False)
    (out / "report.html").write_text(_html(report, table, pictures), encoding="utf-8")
    (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def score_images(
    model: Model, source: str | Path, store: Store | None = None, heat_maps: Path | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Score one image, or all images at any depth below a folder, with a kept model.

    Parameters
    ----------
    model : Model
    source : path
    store : Store, optional
    heat_maps : Path, optional
        A folder for one picture an image, beside itself with its heat map laid over.

    Returns
    -------
    table with the columns image, score and (if the model has a threshold) anomalous; and the files skipped, or read
    otherwise than those that the model was fitted on

    Raises
    ------
    DataError
        If there is nothing to score.
    ValueError
        If there are to be heat maps, and the model's method does not localise.
    """
    if heat_maps is not None:
        _ = model.localiser  # said before any work
    found, bit_depth = survey_images(source), model.description.bit_depth
    skipped = found.skipped
    if found.bit_depth != bit_depth and found.files["largest"].any():
        skipped[printable(source)] = (
            f"The images use {found.bit_depth} of 16 bits, the model was fitted on {bit_depth} and reads them so: if "
            "they are of another camera or program, fit again."
        )
    images = replace(found.images("test"), bit_depth=bit_depth)
    table, maps = _scored(model, images, pd.DataFrame({"image": [printable(path) for path in images.paths]}), store)
    if heat_maps is not None:
        _write_heat_maps(heat_maps, images, found.files["id"], maps, model.description.image_size)
    return table, skipped


def fit_folder(
    folder: str | Path,
    method: str = DEFAULT_METHOD,
    backbone: str = DEFAULT_BACKBONE,
    image_size: int | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> tuple[Model, Survey]:
    """Fit on normal images: ``train/good`` of an MVTec layout, or all images directly in the folder.

    Returns
    -------
    the model, and what was found in the folder

    Raises
    ------
    DataError
        If fewer than two images can be read.
    """
    found = survey_training(folder)
    if found.problem:
        raise DataError(found.problem)
    return models.fit(found.images("train"), method, backbone, image_size, seed, store), found


def _scored(
    model: Model, images: Images, table: pd.DataFrame, store: Store | None
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """The table with ``score`` and, if there is a threshold, ``anomalous``; and maps, if the detector localises."""
    features, maps = model.features(images, store), None
    if isinstance(model.detector, Localiser):
        scores, maps = model.detector.scored(features)
    else:
        scores = model.detector.anomaly_score(features)
    table = table.assign(score=scores)
    return table if model.threshold is None else table.assign(anomalous=scores > model.threshold), maps


def _metrics(table: pd.DataFrame, seed: int) -> dict[str, dict[str, dict]]:
    """Metrics by anomaly class and overall; empty where there are no labels."""
    labelled = table[table["anomaly_class"] != UNLABELLED].assign(stratum=0)
    try:
        found = evaluate_table(labelled, (), "stratum", N_BOOTSTRAP, seed)
    except EvaluationError:
        return {}
    found.pop("target")
    counts = labelled["anomaly_class"].value_counts()
    of = {name: counts.get(name, counts.drop(NORMAL).sum()) for name in found}
    return {
        name: {metric: _interval(value, min(counts[NORMAL], of[name])) for metric, value in values.items()}
        for name, values in found.items()
    }


def _interval(value: Interval, n: int) -> dict[str, float | None]:
    """An interval as the report keeps it: without bounds where one of the two kinds has fewer than ``FEW`` images."""
    return value.model_dump() if n >= FEW else {"value": value.value, "low": None, "high": None}


def format_interval(value: dict[str, float | None]) -> str:
    """A metric of a report, in words.

    >>> format_interval({"value": 1.0, "low": None, "high": None})
    '1.000 (too few images for an interval)'
    """
    if value["low"] is None:
        return f"{value['value']:.3f} (too few images for an interval)"
    return str(Interval.model_validate(value))


def _localisation(
    category: Category, test: np.ndarray, maps: np.ndarray | None, image_size: int, seed: int
) -> dict[str, dict]:
    """Pixel metrics at the network's input size, over normal images and those with a mask; empty without masks."""
    if maps is None or not category.annotations.has_masks:
        return {}
    masks = category.masks(test, image_size)
    known = [(patches, mask) for patches, mask in zip(maps, masks, strict=True) if mask is not None]
    pixels = [pixel_scores(patches, image_size) for patches, _ in known]
    defective = [mask.any() for _, mask in known]
    found = localisation(pixels, [mask for _, mask in known], N_BOOTSTRAP, seed)
    return {name: _interval(value, int(np.sum(defective))) for name, value in found.items()}


def _write_heat_maps(
    folder: Path, images: Images, ids: pd.Series, maps: np.ndarray | None, image_size: int
) -> list[str]:
    """One picture an image, all on one colour scale; returns their addresses, seen from where the folder lies."""
    if maps is None:
        return []
    low, high = maps.min(), maps.max()
    addresses = []
    for name, image, patches in zip(ids, (images[index] for index in range(len(images))), maps, strict=True):
        path = folder / f"{name}.png"
        if len(path.name.encode()) > LONGEST_NAME:
            path = path.with_name(f"{digest(name)}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Some disks do not tell A from a.
        while path.exists():
            path = path.with_stem(f"{path.stem}+")
        plots.overlay(image, pixel_scores(patches, image_size), low, high).save(path)
        addresses.append(quote(path.relative_to(folder.parent).as_posix()))
    return addresses


def _html(report: dict, table: pd.DataFrame, pictures: list[str]) -> str:
    # Names stand in the page, where any of them can be written at any length.
    figure = plots.score_histogram(table, report["model"]["threshold"], names=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    plots.close(figure)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = format_interval
    return environment.get_template("report.html.jinja").render(
        report=report,
        rows=table.assign(picture=pictures or None).sort_values("score", ascending=False).to_dict(orient="records"),
        classes=plots.class_colours(table["anomaly_class"]),
        histogram=base64.b64encode(buffer.getvalue()).decode(),
    )
