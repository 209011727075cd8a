"""A fitted detector as a folder of two files: ``model.safetensors`` (arrays) and ``model.json`` (the rest)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from anomaly_transfer import backbones, detectors, outputs
from anomaly_transfer.backbones import Backbone
from anomaly_transfer.costs import FALSE_ALARM_RATE
from anomaly_transfer.detectors.base import Detector
from anomaly_transfer.errors import StoreError, WeightsError
from anomaly_transfer.features import Features
from anomaly_transfer.images import Images
from anomaly_transfer.records import versions
from anomaly_transfer.store import Store
from anomaly_transfer.views import levels_of, view

ARRAYS, DESCRIPTION = "model.safetensors", "model.json"


class Description(BaseModel):
    """Everything about a model but its arrays."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    method: str
    seed: int
    levels: tuple[str, ...]
    backbone: str
    weights_sha256: str
    image_size: int
    #: How images with more than 8 bits are read, see ``images.read_image``.
    bit_depth: int = 16
    threshold: float | None
    false_alarm_rate: float
    n_training_images: int
    versions: dict[str, str]


@dataclass
class Model:
    """A detector with the backbone and image size it was fitted on, and its threshold.

    Attributes
    ----------
    detector : Detector
    backbone : Backbone
    description : Description
    """

    detector: Detector
    backbone: Backbone
    description: Description

    def features(self, images: Images, store: Store | None = None) -> Features:
        """Features of images as this model's detector needs them."""
        kind, size = self.detector.kind, self.description.image_size
        levels = self.description.levels if kind == "maps" else None
        return view(kind, images, self.backbone, size, store or Store(), levels)

    def save(self, folder: Path) -> None:
        """Write the two files, both or none; the folder is made, and may hold an earlier model.

        Raises
        ------
        DataError
            If the folder holds something else, or cannot be written.
        """
        arrays = {name: np.ascontiguousarray(array) for name, array in self.detector.state_.items()}
        with outputs.replacing(folder, DESCRIPTION) as made:
            save_file(arrays, made / ARRAYS)
            (made / DESCRIPTION).write_text(self.description.model_dump_json(indent=1) + "\n", encoding="utf-8")


def fit(
    images: Images,
    method: str,
    backbone: str,
    image_size: int | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> tuple[Model, Features]:
    """Fit a detector on normal images and set its threshold.

    Parameters
    ----------
    images : Images
        Normal images only.
    method : str
        See :func:`anomaly_transfer.detectors.make`.
    backbone : str
        See :func:`anomaly_transfer.backbones.load`.
    image_size : int, optional
        Side of the network's input, pixels; default: the backbone's own.

    Returns
    -------
    the model, and the features of ``images``
    """
    network = backbones.load(backbone)
    detector = detectors.make(method, seed=seed)
    description = Description(
        method=method,
        seed=seed,
        levels=detector.levels or levels_of(detector.kind, network),
        backbone=backbone,
        weights_sha256=network.weights_sha256,
        image_size=image_size or network.image_size,
        bit_depth=images.bit_depth,
        threshold=None,
        false_alarm_rate=FALSE_ALARM_RATE,
        n_training_images=len(images),
        versions=versions(),
    )
    model = Model(detector, network, description)
    features = model.features(images, store)
    description.threshold = threshold(detector, features, FALSE_ALARM_RATE, seed)
    if description.threshold is None:
        detector.fit(features)
    return model, features


def threshold(detector: Detector, features: Features, false_alarm_rate: float, seed: int = 0) -> float | None:
    """The score above which an image is called anomalous, from normal images alone.

    The (1 - false_alarm_rate) quantile of out-of-fold scores: each normal image is scored by a model fitted
    on the others (5 folds), since scores of images that were fitted on are too low.

    Returns
    -------
    float, the detector being fitted on all images then; or None with fewer than 10 images, too few to tell
    """
    if len(features) < 10:
        return None
    return float(np.quantile(detector.out_of_fold_scores(features, seed), 1 - false_alarm_rate))


def load(folder: str | Path) -> Model:
    """Load a model that :meth:`Model.save` wrote.

    Raises
    ------
    StoreError
        If the folder does not hold a whole model.
    WeightsError
        If the backbone's weights here are not those it was fitted with.
    """
    folder = Path(folder)
    try:
        description = Description.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
    except (OSError, ValidationError, SafetensorError) as error:
        raise StoreError(f"{folder} does not hold a model ({error}): run `anomaly-transfer fit` again.") from error
    network = backbones.load(description.backbone)
    if network.weights_sha256 != description.weights_sha256:
        raise WeightsError(
            f"The model in {folder} was fitted with other weights of {description.backbone} than are installed here: "
            "install those, or fit again."
        )
    detector = detectors.make(description.method, seed=description.seed)
    detector.levels_ = description.levels
    detector.state_ = arrays
    return Model(detector, network, description)
