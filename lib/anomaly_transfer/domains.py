"""Source and target: how Part I divides a category, and the four networks it compares.

The source is what may be trained on; everything that is measured is measured on the target, which shares no group with
it. Explained in the chapter *The hypothesis*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from sklearn.model_selection import GroupShuffleSplit

from anomaly_transfer import backbones, benchmarks, selfsupervised
from anomaly_transfer.backbones import Backbone
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.errors import DataError
from anomaly_transfer.features import Features
from anomaly_transfer.fingerprint import code_hash, digest
from anomaly_transfer.images import Images
from anomaly_transfer.labels import NORMAL
from anomaly_transfer.profiles import Profile
from anomaly_transfer.splits import N_FOLDS
from anomaly_transfer.store import Store

#: Where a network may start, and what it may be trained on before it meets a label.
STARTS = ("random", "imagenet", "random+normal", "imagenet+normal")
#: Small pictures, so that two processors can train: features are then taken at the profile's size.
TRAINING_SIZE = 64
#: At most so many images of each class on either side.
MOST = 200


@dataclass(frozen=True)
class Domains:
    """A category in two parts that share no group.

    Attributes
    ----------
    category : Category
        With the chosen images only.
    table : DataFrame
        Its annotations, opened: Part I is about labels, and trains no detector.
    source, target : int array
        Rows of the two parts.
    """

    category: Category
    table: pd.DataFrame
    source: np.ndarray
    target: np.ndarray

    def rows(self, part: np.ndarray, anomaly_class: str) -> np.ndarray:
        """The rows of one class in one part."""
        return part[(self.table["anomaly_class"].to_numpy() == anomaly_class)[part]]

    @property
    def groups(self) -> np.ndarray:
        """The group of each row."""
        return self.table["group"].to_numpy()

    @property
    def classes(self) -> list[str]:
        """Anomaly classes in order of name, the headline ones of the benchmark or not."""
        return sorted(set(self.table["anomaly_class"]) - {NORMAL})


def divide(category: Category, seed: int = 0, most: int = MOST) -> Domains:
    """Divide a category into source and target.

    An official split is kept. Where groups are few (each then is large), the target is the group that has most images
    of both kinds; else it is a random half of the groups.

    Parameters
    ----------
    category : Category
    seed : int
        Of the random half.
    most : int
        Keep at most so many images of each class in either part, evenly spaced.

    Raises
    ------
    DataError
        If there is one group only, or a part lacks normal images.
    """
    table = category.annotations.open()
    target = (table["part"] == "test").to_numpy() if "part" in table else _target(table, seed)
    rows = np.sort(np.concatenate([_capped(table, np.flatnonzero(side), most) for side in (target, ~target)]))
    part, inside = category.taken(rows), target[rows]
    found = Domains(part, part.annotations.open(), np.flatnonzero(~inside), np.flatnonzero(inside))
    for name, side in (("source", found.source), ("target", found.target)):
        if len(found.rows(side, NORMAL)) < 8:
            raise DataError(
                f"{category.benchmark}/{category.name}: the {name} has {len(found.rows(side, NORMAL))} normal images, "
                "at least 8 are needed: use more images."
            )
    return found


def _target(table: pd.DataFrame, seed: int) -> np.ndarray:
    groups, is_normal = table["group"].to_numpy(), (table["anomaly_class"] == NORMAL).to_numpy()
    names = np.unique(groups)
    if len(names) < 2:
        raise DataError("All images are of one group: source and target need at least two.")
    if len(names) <= N_FOLDS:
        both = {
            name: min((is_normal & (groups == name)).sum(), (~is_normal & (groups == name)).sum()) for name in names
        }
        return groups == max(both, key=lambda name: both[name])
    splitter = GroupShuffleSplit(n_splits=1, test_size=0.5, random_state=seed)
    _, target = next(splitter.split(table, groups=groups))
    return np.isin(np.arange(len(table)), target)


def _capped(table: pd.DataFrame, rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows of each class, evenly spaced."""
    part = table.iloc[rows]
    kept = [
        inside[np.linspace(0, len(inside) - 1, min(len(inside), most)).round().astype(int)]
        for inside in part.groupby("anomaly_class").indices.values()
    ]
    return rows[np.sort(np.concatenate(kept))]


def data_hash(category: Category, *others: Category) -> str:
    """Hash of what a table's numbers depend on besides code and weights: images, labels, how they are read."""
    module = type(benchmarks.get(category.benchmark)).__module__
    parts = [[part.content.fingerprint, part.annotations.fingerprint] for part in (category, *others)]
    return digest([parts, category.largest_input, code_hash(module)])


def network(start: str, profile: Profile, normal: Images, seed: int = 0, store: Store | None = None) -> Backbone:
    """One of the four networks.

    Parameters
    ----------
    start : str
        One of :data:`STARTS`: parameters at random or from ImageNet; ``+normal``: then trained by self-supervision on
        ``normal``, and kept in the store.
    profile : Profile
    normal : Images
        Of the source; only as many as the profile allows are used.
    seed : int
        Of random parameters and of training.
    store : Store, optional

    Raises
    ------
    ValueError
        If there is no such start.
    """
    if start not in STARTS:
        raise ValueError(f"There is no start {start!r}; choose from {', '.join(STARTS)}.")
    first, _, further = start.partition("+")
    backbone = _pretrained(profile.backbone)
    if first == "random":
        backbone = backbones.untrained(backbone, seed)
    return trained(backbone, profile, normal, seed, store) if further else backbone


def trained(start: Backbone, profile: Profile, images: Images, seed: int = 0, store: Store | None = None) -> Backbone:
    """``start`` after self-supervised training on images, from the store where that has been done before.

    Parameters as :func:`network`.
    """
    store = store or Store()
    few = min(len(images), profile.self_supervised_images)
    images = images.take(np.linspace(0, len(images) - 1, few).round().astype(int))
    key = digest(
        {
            "images": images.fingerprint,
            "start": start.fingerprint(),
            "epochs": profile.self_supervised_epochs,
            "image_size": TRAINING_SIZE,
            "seed": seed,
            "code": code_hash("anomaly_transfer.selfsupervised"),
        }
    )
    with store.locked("encoders", key):
        path = store.path("encoders", key) / "network.safetensors"
        if path.is_file():
            found = backbones.untrained(start, seed)
            found.network.load_state_dict(load_file(path))
            return backbones.with_network(start, found.network, f"{start.weights}, then self-supervised")
        epochs = profile.self_supervised_epochs
        found, _ = selfsupervised.train(images, start, TRAINING_SIZE, epochs, seed)
        with store.writing("encoders", key) as folder:
            save_file(found.network.state_dict(), folder / path.name)
    return found


def see(network: Backbone, images: Images, side: int, store: Store, levels: Sequence[str] | None = None) -> Features:
    """Features of images as one of the networks sees them; parameters as ``Store.features``.

    Compiling a network takes as long as a thousand images, so that only the pre-trained one, which all chapters use, is
    worth it.
    """
    compiled = network is _pretrained(network.name)
    return store.features(images, network, side, levels, engine=None if compiled else "eager")


def levels(backbone: Backbone) -> tuple[str, ...]:
    """Every other level from the input to the output: neighbours differ little."""
    return backbone.levels[::2]


@lru_cache(maxsize=2)
def _pretrained(name: str) -> Backbone:
    return backbones.load(name)


def class_probabilities(backbone: Backbone, features: Features) -> np.ndarray:
    """What the network's own classifier says of each image, from the pooled features of the last level.

    Returns
    -------
    float array, shape (n_images, n_classes), rows sum to 1
    """
    x = torch.from_numpy(features[backbone.levels[-1]])
    with torch.inference_mode():
        return backbone.network.get_classifier()(x).softmax(dim=1).double().numpy()
