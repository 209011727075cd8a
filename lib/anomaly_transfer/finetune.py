"""Fine-tuning a network on normal images alone: pull them towards the Gaussian of the normal, and know when to stop.

Explained in the chapter *Fine-tuning without forgetting*. Source: Rippel et al. (2022), arXiv 2108.04116, of which we
know the abstract; every choice it does not name is a setting of :class:`Recipe`, and the defaults are ours.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

from anomaly_transfer import stopping, vicinal
from anomaly_transfer.backbones import Backbone, with_network
from anomaly_transfer.detectors.gaussian import Moments
from anomaly_transfer.errors import DataError
from anomaly_transfer.features import default_device, prepared
from anomaly_transfer.images import Images
from anomaly_transfer.labels import sealed

#: Keeps the gradient of a distance finite at the mean itself.
TINY = 1e-6
#: All levels together: their distances summed.
SUM = "sum"
#: Measures of a run's history besides the kinds of stand-ins.
LOSS, HELD_OUT = "loss", "held-out"
STATE = "state.safetensors"
#: The covariance behind every score, whatever the objective's is.
SCORED = "ledoit-wolf"


class Recipe(BaseModel):
    """How a network is fine-tuned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    covariance: Literal["ledoit-wolf", "oas", "diagonal", "identity"] = Field(
        "ledoit-wolf", description="of the objective's Gaussian; with the identity it is Euclidean compactness"
    )
    squared: bool = Field(False, description="make the mean of the squared distances smaller, not of the distances")
    statistics: Literal["epoch", "crossed", "score", "fixed"] = Field(
        "epoch",
        description="the Gaussian: estimated anew after every epoch (epoch); so, but each half of the images is pulled "
        "towards the Gaussian of the other half (crossed); the objective keeps that of the frozen network, and only "
        "scores use a new one (score); that of the frozen network for both (fixed)",
    )
    levels: tuple[str, ...] | None = Field(None, description="levels of the objective; None means all")
    trained_from: str | None = Field(None, description="levels before this one keep their parameters")
    batch_norm: Literal["frozen", "trained"] = Field(
        "frozen", description="whether batch norms keep ImageNet's statistics or follow the batches"
    )
    anchor: float = Field(0.0, ge=0, description="weight of elastic weight consolidation; 0 is none")
    rate: float = Field(3e-5, gt=0, description="learning rate of Adam")
    epochs: int = Field(10, ge=0)
    batch: int = Field(16, ge=2, description="images in a step")
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a better validation")


@dataclass(frozen=True)
class Gaussians:
    """Mean and whitening matrix of each level, as tensors on the device of the network.

    Attributes
    ----------
    means, whitenings : list of float32 tensors, shape (d,) and (d, d), one a level
    """

    means: list[torch.Tensor]
    whitenings: list[torch.Tensor]

    def distances(self, pooled: Sequence[torch.Tensor]) -> torch.Tensor:
        """Distance of each image at each level: shape (n, n_levels), for ``pooled`` of shapes (n, d)."""
        columns = [x.square().sum(1).add(TINY).sqrt() for x in self.whitened(pooled)]
        return torch.stack(columns, dim=1)

    def whitened(self, pooled: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Features in which the distance is the Euclidean one to the origin, shapes as given."""
        parts = zip(pooled, self.means, self.whitenings, strict=True)
        return [(x.float() - mean) @ whitening.T for x, mean, whitening in parts]

    def of(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same for arrays by level, as :func:`pooled` gives them: float32 arrays, shapes as given."""
        tensors = [torch.from_numpy(x).to(self.means[0].device) for x in features.values()]
        return {level: x.cpu().numpy() for level, x in zip(features, self.whitened(tensors), strict=True)}


@dataclass(frozen=True)
class Tuning:
    """A finished run: what was seen on the way, and the network after each epoch.

    Attributes
    ----------
    history : list of dict
        Rows with ``epoch`` (0 is the frozen network), ``measure``, ``level`` and ``value``. Measures: ``loss`` (mean
        over the epoch's steps; of epoch 0, over one pass without training), ``held-out`` (mean distance of the held-out
        normal images, summed over all levels), and for each kind of stand-in the AUROC of held-out normal images
        against their stand-ins, by level and for all together.
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

    def validation(self, kinds: Sequence[str] = tuple(vicinal.KINDS), level: str = SUM) -> list[float]:
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
        found.load_state_dict(load_file(_checkpoint(self.folder, epoch)))
        return with_network(self.start, found, f"{self.start.weights}, fine-tuned {epoch} epochs")


def tune(
    images: Images,
    held_out: Images,
    start: Backbone,
    image_size: int,
    recipe: Recipe,
    folder: Path,
    seed: int = 0,
    device: str | None = None,
) -> Tuning:
    """Fine-tune a copy of a network on normal images.

    After every epoch the network is kept in ``folder``; a run that was broken off goes on from there and ends in the
    same network. No label can be read on the way (``labels.sealed``).

    Parameters
    ----------
    images, held_out : Images
        Normal images to train on, and others to validate with; at least two of each.
    start : Backbone
        It is not changed.
    image_size : int
        Side of the network's input, pixels.
    recipe : Recipe
    folder : Path
        For this run alone: not for another recipe, seed or other images.
    seed : int
        Of the order of images and of the stand-ins.
    device : {"cpu", "cuda"}, optional

    Returns
    -------
    Tuning

    Raises
    ------
    DataError
        If there are too few images, or the loss is no longer finite; what was kept until then stays.
    ValueError
        If the recipe names a level that the network does not have.
    """
    if min(len(images), len(held_out)) < 2:
        raise DataError(
            f"Fine-tuning needs at least two normal images to train on and two to validate with, not {len(images)} and "
            f"{len(held_out)}."
        )
    for level in (*(recipe.levels or ()), *([recipe.trained_from] if recipe.trained_from else [])):
        if level not in start.levels:
            raise ValueError(f"There is no level {level!r}; choose from {', '.join(start.levels)}.")
    folder.mkdir(parents=True, exist_ok=True)
    with sealed():
        run = _Run(images, held_out, start, image_size, recipe, folder, seed, device or default_device())
        run.resume()
        run.train()
    return Tuning(run.history, start, folder)


def gaussians(
    backbone: Backbone,
    images: Images,
    image_size: int,
    covariance: str = SCORED,
    device: str | None = None,
) -> Gaussians:
    """The Gaussian of each level, in one pass over the images.

    Parameters
    ----------
    backbone : Backbone
    images : Images
        Normal ones.
    image_size : int
    covariance : str
        See ``detectors.gaussian.COVARIANCES``.
    device : {"cpu", "cuda"}, optional
    """
    moments = [Moments() for _ in backbone.levels]
    for pooled in _seen(backbone, images, image_size, device or default_device()):
        for running, x in zip(moments, pooled, strict=True):
            running.update(x.cpu())
    return _of_moments(moments, backbone.levels, covariance, device or default_device())


def scores(
    backbone: Backbone, found: Gaussians, images: Images, image_size: int, device: str | None = None
) -> np.ndarray:
    """Distance of each image at each level, shape (n_images, n_levels): higher is more anomalous."""
    with torch.inference_mode():
        batches = _seen(backbone, images, image_size, device or default_device())
        return torch.cat([found.distances(pooled).cpu() for pooled in batches]).double().numpy()


def pooled(backbone: Backbone, images: Images, image_size: int, device: str | None = None) -> dict[str, np.ndarray]:
    """Pooled features of images, by level: float32 arrays, shape (n_images, d)."""
    batches = list(_seen(backbone, images, image_size, device or default_device()))
    return {level: torch.cat([b[i].cpu() for b in batches]).numpy() for i, level in enumerate(backbone.levels)}


class _Run:
    """One run: everything that changes from epoch to epoch."""

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
    ):
        self.images, self.held_out, self.image_size = images, held_out, image_size
        self.recipe, self.folder, self.seed, self.device = recipe, folder, seed, device
        self.history: list[dict[str, str | int | float]] = []
        self.epoch = 0
        network = copy.deepcopy(start.network).to(device)
        self.backbone = Backbone(**{**start.__dict__, "network": network})
        self.chosen = [start.levels.index(level) for level in recipe.levels or start.levels]
        self.parameters = _trainable(self.backbone, recipe.trained_from)
        self.optimiser = torch.optim.Adam(self.parameters, lr=recipe.rate)
        self.scaler = torch.amp.GradScaler(device, enabled=device == "cuda")
        # Scores always use the Mahalanobis distance: objectives are compared by what they do to one detector.
        self.gaussian = gaussians(self.backbone, images, image_size, device=device)
        # Which of the targets each image is pulled towards.
        n_targets = 2 if recipe.statistics == "crossed" else 1
        self.target_of = np.random.default_rng(seed).permutation(len(images)) % n_targets
        self.targets = self._objective()
        self.anchor = self._importance() if recipe.anchor else []
        self.stand_ins = self._stand_ins()

    def _objective(self) -> list[Gaussians]:
        """What images are pulled towards, at the chosen levels: one Gaussian, or for each half that of the other."""
        if self.recipe.statistics == "crossed":
            others = [self.images.take(np.flatnonzero(self.target_of != half)) for half in (0, 1)]
            found = [self._estimated(images) for images in others]
        else:
            found = [self.gaussian if self.recipe.covariance == SCORED else self._estimated(self.images)]
        parts = [(one.means, one.whitenings) for one in found]
        return [Gaussians(*([part[level] for level in self.chosen] for part in both)) for both in parts]

    def _estimated(self, images: Images) -> Gaussians:
        return gaussians(self.backbone, images, self.image_size, self.recipe.covariance, self.device)

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
        self.backbone.network.load_state_dict(load_file(_checkpoint(self.folder, self.epoch), device=self.device))
        tensors = load_file(path)
        state = self.optimiser.state_dict()
        state["state"] = {
            number: {name: tensors[f"{number}/{name}"] for name in ("step", "exp_avg", "exp_avg_sq")}
            for number in range(len(self.parameters))
        }
        self.optimiser.load_state_dict(state)
        self._refit()

    def train(self) -> None:
        """Train until the recipe's last epoch, or until patience ends."""
        with tqdm(total=self.recipe.epochs, initial=self.epoch, desc="fine-tuning", unit="epoch") as progress:
            while self.epoch < self.recipe.epochs and not self._stopped():
                loss = self._one_epoch()
                self.epoch += 1
                self._refit()
                self._note(loss)
                validation = Tuning(self.history, self.backbone, self.folder).validation()
                progress.set_postfix(
                    loss=f"{loss:.2f}", validation=f"{validation[-1]:.4f}", best=stopping.best(validation)
                )
                progress.update()

    def _stopped(self) -> bool:
        validation = Tuning(self.history, self.backbone, self.folder).validation()
        return self.recipe.patience is not None and self.epoch - stopping.best(validation) >= self.recipe.patience

    def _one_epoch(self) -> float:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.images))
        self.backbone.network.train(self.recipe.batch_norm == "trained")
        losses = []
        for rows, batch in self._batches(order):
            self.optimiser.zero_grad()
            loss = self._loss(batch, rows)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimiser)
            self.scaler.update()
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
        size = self.recipe.batch
        batches = prepared(self.images, self.backbone, self.image_size, size, order)
        for start, batch in zip(range(0, len(order), size), batches, strict=True):
            yield order[start : start + size], torch.from_numpy(batch).to(self.device)

    def _loss(self, batch: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        with torch.autocast(self.device, enabled=self.device == "cuda"):
            maps = self.backbone.level_maps(batch)
        pooled = [maps[level].mean(dim=(2, 3)) for level in self.chosen]
        by_target = torch.stack([target.distances(pooled) for target in self.targets])
        distances = by_target[self.target_of[rows], np.arange(len(rows))]
        loss = (distances.square() if self.recipe.squared else distances).sum(1).mean()
        for parameter, origin, weight in self.anchor:
            loss = loss + self.recipe.anchor / 2 * (weight * (parameter - origin).square()).sum()
        return loss

    @torch.no_grad()
    def _loss_without_training(self) -> float:
        batches = self._batches(np.arange(len(self.images)))
        return float(np.mean([self._loss(batch, rows).item() for rows, batch in batches]))

    def _refit(self) -> None:
        """The Gaussians after an epoch, as the recipe wants them."""
        if self.recipe.statistics != "fixed":
            self.gaussian = gaussians(self.backbone, self.images, self.image_size, device=self.device)
        if self.recipe.statistics in ("epoch", "crossed"):
            self.targets = self._objective()

    def _note(self, loss: float) -> None:
        """Validate, write down what was seen, and keep the network."""
        self.history.append({"epoch": self.epoch, "measure": LOSS, "level": SUM, "value": loss})
        normal = scores(self.backbone, self.gaussian, self.held_out, self.image_size, self.device)
        far = float(normal.sum(axis=1).mean())
        self.history.append({"epoch": self.epoch, "measure": HELD_OUT, "level": SUM, "value": far})
        for kind, batch in self.stand_ins.items():
            made = _distances(self.backbone, self.gaussian, batch, self.device)
            values = np.vstack([normal, made])
            labels = np.repeat([0, 1], [len(normal), len(made)])
            columns = {SUM: values.sum(axis=1), **dict(zip(self.backbone.levels, values.T, strict=True))}
            self.history += [
                {"epoch": self.epoch, "measure": kind, "level": level, "value": float(roc_auc_score(labels, column))}
                for level, column in columns.items()
            ]
        if self.epoch:
            _written(self.backbone.network.state_dict(), _checkpoint(self.folder, self.epoch))
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
        return {kind: vicinal.stand_ins(kind, images, self.seed) for kind in vicinal.KINDS}

    def _importance(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Each parameter with where it started and how much the network's own classes depend on it.

        Source: elastic weight consolidation (Kirkpatrick et al., 2017), as in PANDA (Reiss et al., 2021). The diagonal
        of the Fisher information is taken on the normal images, with classes drawn from the network's own answers:
        the images that it learnt from are not at hand.
        """
        if not hasattr(self.backbone.network, "get_classifier"):
            raise DataError(f"The anchor needs a network with a classifier, and {self.backbone.name} has none.")
        generator = torch.Generator(self.device).manual_seed(self.seed)
        totals = [torch.zeros_like(parameter) for parameter in self.parameters]
        for batch in prepared(self.images, self.backbone, self.image_size, 1):
            x = self.backbone.level_maps(torch.from_numpy(batch).to(self.device))[-1].mean(dim=(2, 3))
            answers = self.backbone.network.get_classifier()(x).log_softmax(dim=1)
            drawn = torch.multinomial(answers.detach().exp(), 1, generator=generator)
            grads = torch.autograd.grad(answers.gather(1, drawn).sum(), self.parameters, allow_unused=True)
            for total, grad in zip(totals, grads, strict=True):
                if grad is not None:
                    total += grad.square() / len(self.images)
        origins = [parameter.detach().clone() for parameter in self.parameters]
        return list(zip(self.parameters, origins, totals, strict=True))


def _trainable(backbone: Backbone, trained_from: str | None) -> list[nn.Parameter]:
    """Parameters from a level on; those before it are frozen, and those after the last level too."""
    network = backbone.network
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    stages = _stages(backbone)
    first = backbone.levels.index(trained_from) if trained_from else 0
    found = [parameter for modules in stages[first:] for module in modules for parameter in module.parameters()]
    for parameter in found:
        parameter.requires_grad_(True)
    return found


def _stages(backbone: Backbone) -> list[list[nn.Module]]:
    """The modules that make each level from the one before."""
    network = backbone.network
    if hasattr(network, "conv_stem") and len(network.blocks) + 2 == len(backbone.levels):
        blocks = [[stage] for stage in network.blocks]
        return [[network.conv_stem, network.bn1], *blocks, [network.conv_head, network.bn2]]
    # Networks that timm cuts into levels itself: their top-level modules in running order, up to each level.
    ends = [name.split(".")[0] for name in backbone.levels]
    stages: list[list[nn.Module]] = [[] for _ in ends]
    number = 0
    for name, module in network.named_children():
        if number < len(stages):
            stages[number].append(module)
            number += name in ends
    return stages


def _seen(backbone: Backbone, images: Images, image_size: int, device: str) -> Iterator[list[torch.Tensor]]:
    """Pooled features, batch by batch: a list of tensors (n, d), one a level."""
    for batch in prepared(images, backbone, image_size, 32):
        with torch.inference_mode():
            maps = backbone.level_maps(torch.from_numpy(batch).to(device))
            yield [m.mean(dim=(2, 3)) for m in maps]


def _distances(backbone: Backbone, found: Gaussians, batch: np.ndarray, device: str) -> np.ndarray:
    with torch.inference_mode():
        parts = torch.from_numpy(batch).to(device).split(32)
        maps = (backbone.level_maps(part) for part in parts)
        return torch.cat([found.distances([m.mean(dim=(2, 3)) for m in part]).cpu() for part in maps]).double().numpy()


def _of_moments(moments: list[Moments], levels: Sequence[str], covariance: str, device: str) -> Gaussians:
    fitted = [running.gaussian(f"level {level!r}", covariance) for running, level in zip(moments, levels, strict=True)]
    means, whitenings = (
        [torch.from_numpy(part).float().to(device) for part in parts] for parts in zip(*fitted, strict=True)
    )
    return Gaussians(means, whitenings)


def _checkpoint(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:03}.safetensors"


def _written(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a file so that it is there whole or not at all."""
    partial = path.with_suffix(".partial")
    # As bytes and by Python, so that a full disk is an OSError.
    with open(partial, "wb") as stream:
        stream.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)
