"""A fitted detector as a folder of two files: ``model.safetensors`` (arrays) and ``model.json`` (the rest)."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from anomaly_transfer import atomic, detectors
from anomaly_transfer.app import DEFAULT_BACKBONE, DEFAULT_METHOD
from anomaly_transfer.app.images import Given, as_images
from anomaly_transfer.data.images import ImageFiles
from anomaly_transfer.detectors.base import LEAST, Detector, Localiser, pixel_scores, threshold
from anomaly_transfer.errors import DataError, StoreError, WeightsError
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.inputs import levels_of, view
from anomaly_transfer.metrics.decision import CONFIDENCE, FALSE_ALARM_RATE, TOLERANCE, false_alarm_bound, images_needed
from anomaly_transfer.networks import backbones
from anomaly_transfer.networks.backbones import Backbone
from anomaly_transfer.provenance import versions
from anomaly_transfer.store import Store

ARRAYS, DESCRIPTION = "model.safetensors", "model.json"
SCHEMA = 2
#: What the arrays belong to; written into their file too.
FITTED = ("method", "seed", "levels", "backbone", "weights_sha256", "image_size", "bit_depth")


class Description(BaseModel):
    """Everything about a model but its arrays.

    Attributes
    ----------
    threshold : float or None
        See :func:`threshold`.
    false_alarm_rate : float in 0..1
        Share of normal images that the threshold is meant to flag.
    false_alarm_bound : float in 0..1, or None
        The share that it flags at the most, as far as so many images can tell; see :func:`false_alarm_bound`.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA
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
    false_alarm_bound: float | None
    n_training_images: int
    versions: dict[str, str]

    @property
    def promise(self) -> str:
        """What the threshold says of new normal images, in words."""
        if self.threshold is None or self.false_alarm_bound is None:
            return f"too few training images to set a threshold ({LEAST} are needed)"
        words = (
            f"meant to flag {self.false_alarm_rate:.0%} of new normal images; {self.n_training_images} images promise "
            f"that it flags at most {self.false_alarm_bound:.0%} (with {CONFIDENCE:.0%} confidence)"
        )
        least = images_needed(self.false_alarm_rate)
        if self.n_training_images < least:
            words += f"; these are few: from {least} on it would be at most {TOLERANCE * self.false_alarm_rate:.0%}"
        return words

    @property
    def fitted(self) -> dict[str, str]:
        """What the arrays belong to, as it stands in their file."""
        return {"fitted": self.model_dump_json(include=set(FITTED))}


@dataclass
class Model:
    """A detector with the backbone and image size it was fitted on, and its threshold.

    Made by :func:`fit` and :func:`load`. What its methods take as ``images`` is what :func:`fit` takes. Features are
    kept in ``store``, by default the user's, so that they are extracted once.

    Attributes
    ----------
    detector : Detector
    backbone : Backbone
    description : Description
        Everything but the arrays, as it stands in ``model.json``.
    """

    detector: Detector
    backbone: Backbone
    description: Description

    @property
    def threshold(self) -> float | None:
        """The score above which an image is called anomalous; None if the training images were too few to set one."""
        return self.description.threshold

    @property
    def localiser(self) -> Localiser:
        """The detector, if it says where.

        Raises
        ------
        ValueError
            If it gives one score an image; the message lists the methods that localise.
        """
        if not isinstance(self.detector, Localiser):
            raise ValueError(
                f"{self.description.method} gives one score an image and no heat map; these do: "
                f"{', '.join(detectors.localising())}."
            )
        return self.detector

    def score(self, images: Given, store: Store | None = None) -> np.ndarray:
        """How anomalous each image is; higher is more anomalous.

        Returns
        -------
        float array, shape (n_images,)
        """
        return self.detector.anomaly_score(self.features(images, store))

    def predict(self, images: Given, store: Store | None = None) -> np.ndarray:
        """Whether each image is anomalous: its score lies above the threshold.

        Returns
        -------
        bool array, shape (n_images,)

        Raises
        ------
        DataError
            If the model has no threshold.
        """
        if self.threshold is None:
            raise DataError(f"The model has no threshold: {self.description.promise}.")
        return self.score(images, store) > self.threshold

    def heat_map(self, images: Given, store: Store | None = None) -> np.ndarray:
        """Where each image is anomalous: a score for each pixel of the network's input.

        Returns
        -------
        float array, shape (n_images, image_size, image_size)
            The whole image, whatever its shape, as a square.

        Raises
        ------
        ValueError
            If the method does not localise; the message lists those that do.
        """
        maps = self.localiser.anomaly_map(self.features(images, store))
        return np.stack([pixel_scores(patches, self.description.image_size) for patches in maps])

    def features(self, images: Given, store: Store | None = None) -> Features:
        """Features of images as this model's detector needs them; files are read with the bit depth it was fitted on.

        Returns
        -------
        Features
        """
        images = as_images(images)
        if isinstance(images, ImageFiles):
            images = replace(images, bit_depth=self.description.bit_depth)
        kind, size = self.detector.kind, self.description.image_size
        levels = self.description.levels if kind == "maps" else None
        return view(kind, images, self.backbone, size, store or Store(), levels)

    def save(self, folder: str | Path, force: bool = False) -> None:
        """Write ``model.json`` and ``model.safetensors``, both or none.

        Parameters
        ----------
        folder : path
            A new folder, an empty one, or one that holds an earlier model.
        force : bool
            Whether it may hold something else, which then stays.

        Raises
        ------
        DataError
            If the folder holds something else, or cannot be written; it is then as it was before.
        """
        with atomic.replacing(Path(folder), force) as made:
            self.write(made)

    def write(self, folder: Path) -> None:
        """Write the two files into a folder that :func:`anomaly_transfer.atomic.replacing` gave.

        Raises
        ------
        DataError
            If the arrays cannot be written.
        """
        (folder / DESCRIPTION).write_text(self.description.model_dump_json(indent=1) + "\n", encoding="utf-8")
        arrays = {name: np.ascontiguousarray(array) for name, array in self.detector.state_.items()}
        try:
            save_file(arrays, folder / ARRAYS, self.description.fitted)
        except SafetensorError as error:
            raise DataError(f"The model cannot be written ({error}): free some space, or {atomic.OTHER}.") from error
        # Made for its owner alone; it is as secret as the other one.
        shutil.copymode(folder / DESCRIPTION, folder / ARRAYS)


def fit(
    images: Given,
    method: str = DEFAULT_METHOD,
    backbone: str = DEFAULT_BACKBONE,
    image_size: int | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> Model:
    """Fit a detector on normal images and set its threshold.

    Parameters
    ----------
    images : Images, uint8 array or sequence of them
        Normal images only: what :func:`read_images` or a benchmark gives; one array, shape (n, height, width) grey or
        (n, height, width, 3) RGB; or one array an image, each of its own size. Two at least; ten for a threshold.
    method : str
        A detector, optionally restricted to levels of the network: ``gaussian@stage6``.
    backbone : str
        ``efficientnet_lite0``, ``1`` or ``2``, or any model of timm whose weights can be had.
    image_size : int, optional
        Side of the network's input, pixels; default: the backbone's own.
    seed : int
        Of what is random in the detector, and of the folds by which the threshold is set.
    store : Store, optional
        Where features are kept; default: the user's.

    Returns
    -------
    Model

    Raises
    ------
    DataError
        If there are fewer than two images, or one cannot be read, or nothing varies in them.
    ValueError
        If there is no such method; the message lists those that are.
    WeightsError
        If the backbone's weights cannot be had.
    """
    images = as_images(images)
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
        false_alarm_bound=None,
        n_training_images=len(images),
        versions=versions(),
    )
    model = Model(detector, network, description)
    features = model.features(images, store)
    description.threshold = threshold(detector, features, FALSE_ALARM_RATE, seed)
    if description.threshold is None:
        detector.fit(features)
    else:
        description.false_alarm_bound = false_alarm_bound(len(images), FALSE_ALARM_RATE)
    return model


def load(folder: str | Path) -> Model:
    """Load a model that :meth:`Model.save` or ``anomaly-transfer fit`` wrote.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Model

    Raises
    ------
    StoreError
        If the folder does not hold a whole model.
    WeightsError
        If the backbone's weights here are not those it was fitted with.
    """
    folder = Path(folder)
    try:
        description = _description((folder / DESCRIPTION).read_text(encoding="utf-8"))
        with safe_open(folder / ARRAYS, "numpy") as file:
            fitted = file.metadata()
        if fitted != description.fitted:
            raise ValueError(f"{ARRAYS} and {DESCRIPTION} are of two models")
        arrays = load_file(folder / ARRAYS)
    except (OSError, ValueError, SafetensorError) as error:
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


def _description(text: str) -> Description:
    """The content of ``model.json``, or a ValueError of one line."""
    found = json.loads(text)
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version != SCHEMA:
        raise ValueError(f"{DESCRIPTION} has schema_version {version}, and this version of the program reads {SCHEMA}")
    try:
        return Description.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{DESCRIPTION}, {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
