"""Source and target: how Part I divides a category, and the four networks it compares.

The source is what may be trained on; everything that is measured is measured on the target, which shares no group with
it. Explained in the chapter *The hypothesis*.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from sklearn.model_selection import GroupShuffleSplit

from anomaly_transfer import backbones, benchmarks, selfsupervised
from anomaly_transfer.backbones import Backbone
from anomaly_transfer.benchmarks.base import Category, evenly_spaced
from anomaly_transfer.code_used import code_of
from anomaly_transfer.device import ran
from anomaly_transfer.errors import DataError
from anomaly_transfer.experiments import pretrained
from anomaly_transfer.features import Features
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.images import Images
from anomaly_transfer.labels import NORMAL
from anomaly_transfer.profiles import Profile
from anomaly_transfer.splits import N_FOLDS
from anomaly_transfer.store import Store
from anomaly_transfer.tables import Request, Study

#: Where a network may start, and what it may be trained on before it meets a label.
STARTS = ("random", "imagenet", "random+normal", "imagenet+normal")
WEIGHTS, HISTORY = "network.safetensors", "loss.json"
#: Small pictures, so that two processors can train: features are then taken at the profile's size.
TRAINING_SIZE = 64
#: At most so many images of each class on either side.
MOST = 200
#: Fewer images than this measure nothing.
LEAST = 8
#: From so many images on, a network that is used once is compiled.
WORTH_COMPILING = 800


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

    Returns
    -------
    Domains

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
        if len(found.rows(side, NORMAL)) < LEAST:
            raise DataError(
                f"{category.benchmark}/{category.name}: the {name} has {len(found.rows(side, NORMAL))} normal images, "
                f"at least {LEAST} are needed: use more images."
            )
    return found


def _target(table: pd.DataFrame, seed: int) -> np.ndarray:
    groups, is_normal = table["group"].to_numpy(), (table["anomaly_class"] == NORMAL).to_numpy()
    names = np.unique(groups)
    if len(names) < 2:
        raise DataError("All images are of one group: source and target need at least two.")
    if len(names) <= N_FOLDS:
        both = [min((side & (groups == name)).sum() for side in (is_normal, ~is_normal)) for name in names]
        return groups == names[np.argmax(both)]
    splitter = GroupShuffleSplit(n_splits=1, test_size=0.5, random_state=seed)
    _, target = next(splitter.split(table, groups=groups))
    return np.isin(np.arange(len(table)), target)


def _capped(table: pd.DataFrame, rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows of each class, evenly spaced."""
    by_class = table.iloc[rows].groupby("anomaly_class").indices.values()
    return rows[np.sort(np.concatenate([evenly_spaced(inside, most) for inside in by_class]))]


def request(
    study: Study,
    settings: Sequence[str],
    category: Category,
    variant: str,
    seed: int,
    sizes: Profile,
    compute: Callable[[], pd.DataFrame],
    others: Sequence[Category] = (),
) -> Request:
    """One experiment on one category, with everything that its table depends on.

    Parameters
    ----------
    study : Study
    settings : sequence of str
        Names of the profile's sizes on which the numbers depend.
    category : Category
        All of its images count.
    variant : str
    seed : int
    sizes : Profile
    compute : callable
        Gives the rows.
    others : sequence of Category
        Further categories whose data are used.
    """
    pictures = not isinstance(category.content, Features)
    where: dict[str, str | int] = {"benchmark": category.benchmark, "category": category.name}
    data = [benchmarks.get(category.benchmark).protocol, *(part.fingerprint for part in (category, *others))]
    return Request(
        study=study,
        coordinates={**where, study.axis: variant, "seed": seed, "profile": sizes.name},
        settings=sizes.model_dump(include=set(settings)),
        code=study.code(variant),
        data=digest(data),
        weights=backbones.weights_hash(sizes.backbone) if pictures else "none",
        compute=compute,
        note=category.note,
    )


#: What of a profile the features of the four networks depend on.
SIZES = ("backbone", "image_size", "images_per_category", "self_supervised_images", "self_supervised_epochs")


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
        backbone, history = trained(backbone, profile, normal, seed, store)
    if first == "random":
        # Trained or not, so that the two differ by the training alone.
        backbone = selfsupervised.calibrated(backbone, _some(normal, profile), side)
    return backbone, history


def trained(
    start: Backbone, profile: Profile, images: Images, seed: int = 0, store: Store | None = None
) -> tuple[Backbone, list[float]]:
    """``start`` after self-supervised training on images, from the store where that has been done before.

    Parameters and result as :func:`network`.
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
            "code": code_of("anomaly_transfer.selfsupervised:train").hash,
        }
    )
    with store.locked("encoders", key):
        folder = store.path("encoders", key)
        if folder.is_dir():
            ran("eager")
            found = backbones.untrained(start, seed)
            found.network.load_state_dict(load_file(folder / WEIGHTS))
            history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
            return backbones.with_network(start, found.network, f"{start.weights}, then self-supervised"), history
        epochs = profile.self_supervised_epochs
        found, history = selfsupervised.train(images, start, TRAINING_SIZE, epochs, seed)
        with store.writing("encoders", key) as partial:
            save_file(found.network.state_dict(), partial / WEIGHTS)
            (partial / HISTORY).write_text(json.dumps(history), encoding="utf-8")
    return found, history


def _some(images: Images, profile: Profile) -> Images:
    """As many images as the profile trains on, evenly spaced."""
    return images.take(evenly_spaced(np.arange(len(images)), profile.self_supervised_images))


def see(network: Backbone, images: Images, side: int, store: Store, levels: Sequence[str] | None = None) -> Features:
    """Features of images as one of the networks sees them.

    Parameters as ``Store.features``, with ``side`` of the network's input in pixels (``Category.input_side``).
    Compiling a network takes as long as some hundred images, so that it is worth it for the pre-trained one, which all
    chapters use, and for many images only.
    """
    compiled = network is pretrained(network.name) or len(images) >= WORTH_COMPILING
    return store.features(images, network, side, levels, engine=None if compiled else "eager")


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
