"""One training loop for every network of the book: seeded, resumable, validated without labels, on any device.

What an objective adds is its loss, how it scores images, and what it estimates anew after each epoch: see
:class:`Run`. The objectives are in ``finetune`` (Part II), ``oneclass`` and ``supervised`` (Part III).
"""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import load_file, save
from sklearn.metrics import roc_auc_score
from torch import nn
from tqdm import tqdm

from anomaly_transfer import atomic
from anomaly_transfer.code_used import code_of
from anomaly_transfer.data.annotations import sealed
from anomaly_transfer.data.images import Images
from anomaly_transfer.device import memory_for, note_engine
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.extraction import prepared
from anomaly_transfer.fingerprint import digest
from anomaly_transfer.networks.backbones import Backbone, with_network
from anomaly_transfer.store import Store
from anomaly_transfer.training import early_stopping, pseudo_anomalies

#: All levels together: their scores summed.
SUM = "sum"
#: Measures of a run's history besides the kinds of stand-ins.
LOSS, HELD_OUT = "loss", "held-out"
STATE = "state.safetensors"
#: The value of ``Recipe.trained_from`` with which no level is trained.
NOTHING = "nothing"
#: Before the names of a head's tensors, where they are kept with those of the network.
HEAD = "head/"


class Recipe(BaseModel):
    """How long and how fast a network is trained; the part that all recipes share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained_from: str | None = Field(
        None, description="levels before this one keep their parameters; `nothing` keeps them all, and trains a head"
    )
    batch_norm: Literal["frozen", "trained"] = Field(
        "frozen", description="whether batch norms keep their statistics or follow the batches"
    )
    learning_rate: float = Field(3e-5, gt=0, description="of Adam")
    epochs: int = Field(10, ge=0)
    batch_size: int = Field(16, ge=2, description="images in a step")
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a better validation")


@dataclass(frozen=True)
class Tuning:
    """A finished run: what was seen on the way, and the network after each epoch.

    Attributes
    ----------
    history : list of dict
        Rows with ``epoch`` (0 is the network before training), ``measure``, ``level`` and ``value``. Measures: ``loss``
        (mean over the epoch's steps; of epoch 0, over one pass without training), ``held-out`` (mean score of the
        held-out normal images, summed over all levels), and for each kind of stand-in the AUROC of held-out normal
        images against their stand-ins, by level and for all together.
    start : Backbone
    folder : Path
        Of the networks.
    """

    history: list[dict[str, str | int | float]]
    start: Backbone
    folder: Path

    @property
    def epochs(self) -> int:
        """Epochs that were trained."""
        return max(int(row["epoch"]) for row in self.history)

    def validation(self, kinds: Sequence[str] = tuple(pseudo_anomalies.KINDS), level: str = SUM) -> list[float]:
        """Mean AUROC over some kinds of stand-ins, one value an epoch."""
        values = [
            [float(row["value"]) for row in self.history if row["measure"] == kind and row["level"] == level]
            for kind in kinds
        ]
        return np.mean(values, axis=0).tolist()

    def losses(self) -> list[float]:
        """The loss of each epoch."""
        return [float(row["value"]) for row in self.history if row["measure"] == LOSS]

    def network(self, epoch: int) -> Backbone:
        """The network after an epoch; 0 gives the one that training started from."""
        if epoch == 0:
            return self.start
        found = copy.deepcopy(self.start.network)
        kept = load_file(checkpoint(self.folder, epoch))
        found.load_state_dict({name: value for name, value in kept.items() if not name.startswith(HEAD)})
        return with_network(self.start, found, f"{self.start.weights}, fine-tuned {epoch} epochs")


class Run(ABC):
    """One run: everything that changes from epoch to epoch.

    A subclass says what is made smaller (:meth:`loss`) and how images are scored (:meth:`scored`).

    Parameters
    ----------
    images, held_out : Images
        To train on, and normal ones to validate with; at least two of each.
    start : Backbone
        It is not changed.
    image_size : int
        Side of the network's input, pixels.
    recipe : Recipe
    folder : Path
        For this run alone. After every epoch the network is kept there; a run that was broken off goes on from it and
        ends in the same network.
    seed : int
        Of the order of images, of the stand-ins and of all that is drawn.
    device : {"cpu", "cuda"}
    head : torch.nn.Module, optional
        Trained with the network and kept beside it.

    Raises
    ------
    DataError
        If there are too few images.
    ValueError
        If the recipe names a level that the network does not have.
    """

    def __init__(
        self,
        images: Images,
        held_out: Images,
        start: Backbone,
        image_size: int,
        recipe: Recipe,
        folder: Path,
        seed: int,
        device: str,
        head: nn.Module | None = None,
    ):
        if min(len(images), len(held_out)) < 2:
            raise DataError(
                f"Fine-tuning needs at least two normal images to train on and two to validate with, not {len(images)} "
                f"and {len(held_out)}."
            )
        if recipe.trained_from != NOTHING:
            check_level(start, recipe.trained_from)
        self.images, self.held_out, self.image_size = images, held_out, image_size
        self.recipe, self.folder, self.seed, self.device = recipe, folder, seed, device
        self.history: list[dict[str, str | int | float]] = []
        self.epoch = 0
        note_engine("eager")
        network = copy.deepcopy(start.network).to(device)
        self.start, self.backbone = start, replace(start, network=network)
        self.head = (head or nn.Identity()).to(device)
        self._first_head = copy.deepcopy(self.head.state_dict())
        self.parameters = [*trainable(self.backbone, recipe.trained_from), *self.head.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, lr=recipe.learning_rate)
        # On the CPU, so that what is drawn does not depend on the device.
        self.drawn = torch.Generator()
        self.stand_ins = self._stand_ins()

    @abstractmethod
    def loss(self, batch: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """What is made smaller, a scalar; ``rows`` are those of the images in ``batch``."""

    @abstractmethod
    def scored(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Scores of images that come as uint8 arrays (n, side, side, 3): shape (n_images, n_levels), float64."""

    #: Names of the columns of :meth:`scored`; their sum is the score.
    levels: tuple[str, ...] = ()

    def refit(self) -> None:  # noqa: B027
        """Estimate anew after an epoch; by default there is nothing to estimate."""

    def run(self) -> Tuning:
        """Train until the recipe's last epoch, or until patience ends; no label can be read on the way."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lower = "the size of the input, or `batch` of the recipe"
        with sealed(), memory_for(f"training at {self.image_size} px", lower):
            self.resume()
            self.train()
        return Tuning(self.history, self.start, self.folder)

    def resume(self) -> None:
        """Go on where a run that was broken off had come to."""
        path = self.folder / STATE
        if not path.is_file():
            self._note(self._loss_without_training())
            return
        with safe_open(path, "pt") as file:
            kept = json.loads(file.metadata()["run"])
        self.epoch, self.history = kept["epoch"], kept["history"]
        if not self.epoch:
            return
        self.load(self.epoch)
        tensors = load_file(path)
        optimiser = self.optimiser.state_dict()
        optimiser["state"] = {
            number: {name: tensors[f"{number}/{name}"] for name in ("step", "exp_avg", "exp_avg_sq")}
            for number in range(len(self.parameters))
            # What the loss does not depend on has no state.
            if f"{number}/step" in tensors
        }
        self.optimiser.load_state_dict(optimiser)

    def load(self, epoch: int) -> None:
        """Be as after an epoch of this run; 0 is before training."""
        kept = load_file(checkpoint(self.folder, epoch)) if epoch else {}
        head = {name.removeprefix(HEAD): kept.pop(name) for name in list(kept) if name.startswith(HEAD)}
        self.backbone.network.load_state_dict(kept or self.start.network.state_dict())
        self.head.load_state_dict(head or self._first_head)
        self.refit()

    def validation(self) -> list[float]:
        """Mean AUROC of held-out normal images against their stand-ins, one value an epoch."""
        return Tuning(self.history, self.start, self.folder).validation()

    def score(self, images: Images) -> np.ndarray:
        """How anomalous each image is, shape (n_images,); higher is more anomalous."""
        with sealed(), torch.inference_mode():
            return self.scored(prepared(images, self.backbone, self.image_size, 32)).sum(axis=1)

    def train(self) -> None:
        """Train until the recipe's last epoch, or until patience ends."""
        with tqdm(total=self.recipe.epochs, initial=self.epoch, desc="training", unit="epoch") as progress:
            while self.epoch < self.recipe.epochs and not self._stopped():
                loss = self._one_epoch()
                self.epoch += 1
                self.refit()
                self._note(loss)
                validation = self.validation()
                progress.set_postfix(
                    loss=f"{loss:.2f}", validation=f"{validation[-1]:.4f}", best=early_stopping.best(validation)
                )
                progress.update()

    def _stopped(self) -> bool:
        patience = self.recipe.patience
        return patience is not None and self.epoch - early_stopping.best(self.validation()) >= patience

    def _one_epoch(self) -> float:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.images))
        self.drawn.manual_seed(int(rng.integers(2**31)))
        self.backbone.network.train(self.recipe.batch_norm == "trained")
        losses = []
        for rows, batch in self._batches(order):
            self.optimiser.zero_grad()
            loss = self.loss(batch, rows)
            loss.backward()
            self.optimiser.step()
            losses.append(loss.item())
        self.backbone.network.eval()
        mean = float(np.mean(losses))
        if not math.isfinite(mean):
            raise DataError(
                f"Fine-tuning diverged in epoch {self.epoch + 1}: the loss is not finite. Use a smaller learning rate."
            )
        return mean

    def _batches(self, order: np.ndarray) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Rows of images and their pixels, a step at a time."""
        size = self.recipe.batch_size
        batches = prepared(self.images, self.backbone, self.image_size, size, order)
        for start, batch in zip(range(0, len(order), size), batches, strict=True):
            yield order[start : start + size], torch.from_numpy(batch).to(self.device)

    @torch.no_grad()
    def _loss_without_training(self) -> float:
        self.drawn.manual_seed(self.seed)
        batches = self._batches(np.arange(len(self.images)))
        return float(np.mean([self.loss(batch, rows).item() for rows, batch in batches]))

    def _note(self, loss: float) -> None:
        """Validate, write down what was seen, and keep the network."""
        self.history.append({"epoch": self.epoch, "measure": LOSS, "level": SUM, "value": loss})
        with torch.inference_mode():
            normal = self.scored(prepared(self.held_out, self.backbone, self.image_size, 32))
        far = float(normal.sum(axis=1).mean())
        self.history.append({"epoch": self.epoch, "measure": HELD_OUT, "level": SUM, "value": far})
        for kind, batch in self.stand_ins.items():
            with torch.inference_mode():
                made = self.scored(np.array_split(batch, -(-len(batch) // 32)))
            values = np.vstack([normal, made])
            labels = np.repeat([0, 1], [len(normal), len(made)])
            columns = {SUM: values.sum(axis=1), **dict(zip(self.levels, values.T, strict=True))}
            self.history += [
                {"epoch": self.epoch, "measure": kind, "level": level, "value": float(roc_auc_score(labels, column))}
                for level, column in columns.items()
            ]
        if self.epoch:
            head = {HEAD + name: value for name, value in self.head.state_dict().items()}
            _written(self.backbone.network.state_dict() | head, checkpoint(self.folder, self.epoch))
        state = {
            f"{number}/{name}": value
            for number, values in self.optimiser.state_dict()["state"].items()
            for name, value in values.items()
        }
        # Last, since with it the epoch counts as done.
        _written(state, self.folder / STATE, {"run": json.dumps({"epoch": self.epoch, "history": self.history})})

    def _stand_ins(self) -> dict[str, np.ndarray]:
        """Stand-ins of the held-out images, the same for all epochs."""
        (images,) = prepared(self.held_out, self.backbone, self.image_size, len(self.held_out))
        return {kind: pseudo_anomalies.stand_ins(kind, images, self.seed) for kind in pseudo_anomalies.KINDS}


@contextmanager
def training_folder(
    store: Store, place: str, images: Sequence[Images], start: Backbone, image_size: int, recipe: Recipe, seed: int
) -> Iterator[Path]:
    """The folder in the store for a training with these ingredients: a finished run is read, a broken one goes on.

    Parameters
    ----------
    store : Store
    place : str
        Where the objective is made, e.g. ``"anomaly_transfer.training.mahalanobis:tune"``: the code reached from there
        counts.
    images : sequence of Images
        All that are looked at, in a fixed order: to train on, held out, of reference.
    start, image_size, recipe, seed
        See :class:`Run`.
    """
    key = digest(
        {
            "images": [part.fingerprint for part in images],
            "numbers": [len(part) for part in images],
            "start": start.fingerprint(),
            "image_size": image_size,
            "recipe": recipe.model_dump(),
            "seed": seed,
            "code": code_of(place, "anomaly_transfer.training.loop:Run.run").hash,
        }
    )
    with store.resuming("tunings", key) as folder:
        yield folder


def check_level(start: Backbone, level: str | None) -> None:
    """Raise ValueError unless the network has such a level, or none is named."""
    if level is not None and level not in start.levels:
        raise ValueError(f"There is no level {level!r}; choose from {', '.join(start.levels)}.")


def trainable(backbone: Backbone, trained_from: str | None) -> list[nn.Parameter]:
    """Parameters from a level on; those before it are frozen, and those after the last level too."""
    network = backbone.network
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    if trained_from == NOTHING:
        return []
    parts = stages(backbone)
    first = backbone.levels.index(trained_from) if trained_from else 0
    found = [parameter for modules in parts[first:] for module in modules for parameter in module.parameters()]
    for parameter in found:
        parameter.requires_grad_(True)
    return found


def stages(backbone: Backbone) -> list[list[nn.Module]]:
    """The modules that make each level from the one before.

    Parameters that are in no module, as a transformer's position embedding, belong to no level.

    Raises
    ------
    ValueError
        If the network's modules are not in running order.
    """
    network = backbone.network
    if hasattr(network, "conv_stem") and len(network.blocks) + 2 == len(backbone.levels):
        blocks = [[stage] for stage in network.blocks]
        return [[network.conv_stem, network.bn1], *blocks, [network.conv_head, network.bn2]]
    # Networks that are cut into levels themselves: their modules in running order, up to each level. timm renames what
    # it takes out of a container, and keeps a transformer whole as `model`.
    ends = {*backbone.levels, *getattr(network, "return_layers", ())}
    found: list[list[nn.Module]] = [[] for _ in backbone.levels]
    number = 0
    for name, module in getattr(network, "model", network).named_children():
        parts = {name: module}
        if any(end.startswith(f"{name}.") for end in ends):
            parts = {f"{name}.{child}": part for child, part in module.named_children()}
        for part_name, part in parts.items():
            if number < len(found):
                found[number].append(part)
                number += part_name in ends
    if number < len(found):
        raise ValueError(
            f"The parameters of {backbone.name} cannot be told apart by level: it cannot be fine-tuned here."
        )
    return found


def checkpoint(folder: Path, epoch: int) -> Path:
    """Where the network after an epoch is kept."""
    return folder / f"epoch-{epoch:03}.safetensors"


def _written(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a file so that it is there whole or not at all."""
    with atomic.file(path) as partial:
        # As bytes and by Python, so that a full disk is an OSError.
        partial.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata))
