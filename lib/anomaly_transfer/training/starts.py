"""Where a network may start, and what it may be trained on before it meets a label."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from anomaly_transfer.benchmarks.base import evenly_spaced
from anomaly_transfer.code_used import code_of
from anomaly_transfer.data.images import Images
from anomaly_transfer.device import note_engine
from anomaly_transfer.features import cached
from anomaly_transfer.features.features import Features
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.networks import backbones
from anomaly_transfer.networks.backbones import Backbone, pretrained
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.training import simclr

#: Where a network may start, and what it may be trained on before it meets a label.
STARTS = ("random", "imagenet", "random+normal", "imagenet+normal")


WEIGHTS, HISTORY = "network.safetensors", "loss.json"


#: Small pictures, so that two processors can train: features are then taken at the profile's size.
TRAINING_SIZE = 64


#: From so many images on, a network that is used once is compiled.
WORTH_COMPILING = 800


def network(
    start: str, profile: Profile, normal: Images, side: int, seed: int = 0, store: Store | None = None
) -> tuple[Backbone, list[float]]:
    """One of the four networks.

    Parameters
    ----------
    start : str
        One of :data:`STARTS`: parameters at random or from ImageNet; ``+normal``: then trained by self-supervision on
        ``normal``, and kept in the store.
    profile : Profile
    normal : Images
        Of the source; only as many as the profile allows are used.
    side : int
        Of the input at which the network will be used, pixels.
    seed : int
        Of random parameters and of training.
    store : Store, optional

    Returns
    -------
    Backbone, list of float
        The network, and the loss of each epoch of self-supervision (none where there was none).

    Raises
    ------
    ValueError
        If there is no such start.
    """
    if start not in STARTS:
        raise ValueError(f"There is no start {start!r}; choose from {', '.join(STARTS)}.")
    first, _, further = start.partition("+")
    history: list[float] = []
    backbone = pretrained(profile.backbone)
    if first == "random":
        backbone = backbones.untrained(backbone, seed)
    if further:
        backbone, history = self_supervised(backbone, profile, normal, seed, store)
    if first == "random":
        # Trained or not, so that the two differ by the training alone.
        backbone = simclr.calibrated(backbone, _some(normal, profile), side)
    return backbone, history


def self_supervised(
    start: Backbone, profile: Profile, images: Images, seed: int = 0, store: Store | None = None
) -> tuple[Backbone, list[float]]:
    """``start`` after self-supervised training on images, from the store where that has been done before.

    Parameters
    ----------
    start : Backbone
        It is not changed.
    profile : Profile
        Says how many images are used, and how many epochs.
    images : Images
    seed : int
        Of what is drawn in training.
    store : Store, optional

    Returns
    -------
    Backbone, list of float
        The network, and the loss of each epoch.
    """
    store = store or Store()
    images = _some(images, profile)
    key = digest(
        {
            "images": images.fingerprint,
            "start": start.fingerprint(),
            "epochs": profile.self_supervised_epochs,
            "image_size": TRAINING_SIZE,
            "seed": seed,
            "code": code_of("anomaly_transfer.training.simclr:train").hash,
        }
    )
    with store.locked("encoders", key):
        folder = store.path("encoders", key)
        if folder.is_dir():
            note_engine("eager")
            found = backbones.untrained(start, seed)
            found.network.load_state_dict(load_file(folder / WEIGHTS))
            history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
            return backbones.with_network(start, found.network, f"{start.weights}, then self-supervised"), history
        epochs = profile.self_supervised_epochs
        found, history = simclr.train(images, start, TRAINING_SIZE, epochs, seed)
        with store.writing("encoders", key) as partial:
            save_file(found.network.state_dict(), partial / WEIGHTS)
            (partial / HISTORY).write_text(json.dumps(history), encoding="utf-8")
    return found, history


def _some(images: Images, profile: Profile) -> Images:
    """As many images as the profile trains on, evenly spaced."""
    return images.take(evenly_spaced(np.arange(len(images)), profile.self_supervised_images))


def features_of(
    network: Backbone, images: Images, side: int, store: Store, levels: Sequence[str] | None = None
) -> Features:
    """Features of images as one of the networks sees them.

    Compiling a network takes as long as some hundred images, so that it is worth it for the pre-trained one, which all
    chapters use, and for many images only.

    Parameters
    ----------
    network : Backbone
    images : Images
    side : int
        Of the network's input, pixels (``Category.input_side``).
    store : Store
    levels : sequence of str, optional
        Levels whose spatial maps to return; None returns the spatial means of all levels.
    """
    compiled = network is pretrained(network.name) or len(images) >= WORTH_COMPILING
    return cached.features(store, images, network, side, levels, engine=None if compiled else "eager")


def levels(backbone: Backbone) -> tuple[str, ...]:
    """Every other level from the input to the output: neighbours differ little."""
    return backbone.levels[::2]


def class_probabilities(backbone: Backbone, features: Features) -> np.ndarray:
    """What the network's own classifier says of each image.

    Parameters
    ----------
    backbone : Backbone
        With its classifier: an EfficientNet.
    features : Features
        Pooled, all levels.

    Returns
    -------
    float array, shape (n_images, n_classes), rows sum to 1
    """
    x = torch.from_numpy(features[backbone.levels[-1]])
    with torch.inference_mode():
        return backbone.network.get_classifier()(x).softmax(dim=1).double().numpy()
