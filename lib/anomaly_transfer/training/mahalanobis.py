"""Fine-tuning a network on normal images alone: pull them towards the Gaussian of the normal, and know when to stop.

Explained in the chapter *Fine-tuning without forgetting*. Source: Rippel et al. (2022), arXiv 2108.04116, of which we
know the abstract; every choice it does not name is a setting of :class:`MahalanobisRecipe`, and the defaults are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from anomaly_transfer.data.images import Images
from anomaly_transfer.detectors.gaussian import Moments
from anomaly_transfer.device import default_device, note_engine
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.extraction import prepared
from anomaly_transfer.networks.backbones import Backbone, spatial_mean
from anomaly_transfer.training.loop import Recipe, Run, Tuning, check_level

#: Keeps the gradient of a distance finite at the mean itself.
TINY = 1e-6
#: The covariance behind every score, whatever the objective's is.
SCORED = "ledoit-wolf"


class MahalanobisRecipe(Recipe):
    """How a network is fine-tuned."""

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
    anchor: float = Field(0.0, ge=0, description="weight of elastic weight consolidation; 0 is none")


@dataclass(frozen=True)
class Gaussians:
    """Mean and whitening matrix of each level, as tensors on one device.

    Attributes
    ----------
    means, whitenings : list of float32 tensors, shape (d,) and (d, d), one a level
    """

    means: list[torch.Tensor]
    whitenings: list[torch.Tensor]

    def on(self, device: str | torch.device) -> Gaussians:
        """The same on a device."""
        means, whitenings = ([x.to(device) for x in part] for part in (self.means, self.whitenings))
        return Gaussians(means, whitenings)

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


def tune(
    images: Images,
    held_out: Images,
    start: Backbone,
    image_size: int,
    recipe: MahalanobisRecipe,
    folder: Path,
    seed: int = 0,
    device: str | None = None,
) -> Tuning:
    """Fine-tune a copy of a network on normal images.

    After every epoch the network is kept in ``folder``; a run that was broken off goes on from there and ends in the
    same network. No label can be read on the way (``annotations.sealed``).

    Parameters
    ----------
    images, held_out : Images
        Normal images to train on, and others to validate with; at least two of each.
    start : Backbone
        It is not changed.
    image_size : int
        Side of the network's input, pixels.
    recipe : MahalanobisRecipe
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
    for level in recipe.levels or ():
        check_level(start, level)
    return _Run(images, held_out, start, image_size, recipe, folder, seed, device or default_device()).run()


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
        Where the network computes; the Gaussians come back on the CPU.
    """
    moments = [Moments() for _ in backbone.levels]
    for pooled in _seen(backbone, images, image_size, device or default_device()):
        for running, x in zip(moments, pooled, strict=True):
            running.update(x)
    return _of_moments(moments, backbone.levels, covariance)


def scores(
    backbone: Backbone, found: Gaussians, images: Images, image_size: int, device: str | None = None
) -> np.ndarray:
    """Distance of each image at each level, shape (n_images, n_levels): higher is more anomalous."""
    backbone = backbone.on(device or default_device())
    return _distances(backbone, found.on(backbone.device), prepared(images, backbone, image_size, 32))


def pooled(backbone: Backbone, images: Images, image_size: int, device: str | None = None) -> dict[str, np.ndarray]:
    """Pooled features of images, by level: float32 arrays, shape (n_images, d)."""
    batches = list(_seen(backbone, images, image_size, device or default_device()))
    return {level: torch.cat([b[i] for b in batches]).numpy() for i, level in enumerate(backbone.levels)}


class _Run(Run):
    """Images pulled towards the Gaussians of the normal."""

    recipe: MahalanobisRecipe

    def __init__(
        self,
        images: Images,
        held_out: Images,
        start: Backbone,
        image_size: int,
        recipe: MahalanobisRecipe,
        folder: Path,
        seed: int,
        device: str,
    ):
        super().__init__(images, held_out, start, image_size, recipe, folder, seed, device)
        self.levels = start.levels
        self.chosen = [start.levels.index(level) for level in recipe.levels or start.levels]
        # Scores always use the Mahalanobis distance: objectives are compared by what they do to one detector.
        self.gaussian = self._estimated(images, SCORED)
        # Which of the targets each image is pulled towards.
        n_targets = 2 if recipe.statistics == "crossed" else 1
        self.target_of = np.random.default_rng(seed).permutation(len(images)) % n_targets
        self.targets = self._objective()
        self.anchor = self._importance() if recipe.anchor else []

    def _objective(self) -> list[Gaussians]:
        """What images are pulled towards, at the chosen levels: one Gaussian, or for each half that of the other."""
        if self.recipe.statistics == "crossed":
            others = [self.images.take(np.flatnonzero(self.target_of != half)) for half in (0, 1)]
            found = [self._estimated(images, self.recipe.covariance) for images in others]
        elif self.recipe.covariance == SCORED:
            found = [self.gaussian]
        else:
            found = [self._estimated(self.images, self.recipe.covariance)]
        parts = [(one.means, one.whitenings) for one in found]
        return [Gaussians(*([part[level] for level in self.chosen] for part in both)) for both in parts]

    def _estimated(self, images: Images, covariance: str) -> Gaussians:
        return gaussians(self.backbone, images, self.image_size, covariance, self.device).on(self.device)

    def loss(self, batch: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Mean distance of the images to what they are pulled towards, summed over levels, and the anchor."""
        maps = self.backbone.level_maps(batch)
        pooled = [spatial_mean(maps[level]) for level in self.chosen]
        by_target = torch.stack([target.distances(pooled) for target in self.targets])
        distances = by_target[self.target_of[rows], np.arange(len(rows))]
        loss = (distances.square() if self.recipe.squared else distances).sum(1).mean()
        for parameter, origin, weight in self.anchor:
            loss = loss + self.recipe.anchor / 2 * (weight * (parameter - origin).square()).sum()
        return loss

    def refit(self) -> None:
        """The Gaussians after an epoch, as the recipe wants them."""
        if self.recipe.statistics != "fixed":
            self.gaussian = self._estimated(self.images, SCORED)
        if self.recipe.statistics in ("epoch", "crossed"):
            self.targets = self._objective()

    def scored(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Distance of each image at each level."""
        return _distances(self.backbone, self.gaussian, batches)

    def _importance(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Each parameter with where it started and how much the network's own classes depend on it.

        Source: elastic weight consolidation (Kirkpatrick et al., 2017), as in PANDA (Reiss et al., 2021). The diagonal
        of the Fisher information is taken on the normal images, with classes drawn from the network's own answers:
        the images that it learnt from are not at hand.
        """
        if not hasattr(self.backbone.network, "get_classifier"):
            raise DataError(f"The anchor needs a network with a classifier, and {self.backbone.name} has none.")
        generator = torch.Generator().manual_seed(self.seed)
        totals = [torch.zeros_like(parameter) for parameter in self.parameters]
        for batch in prepared(self.images, self.backbone, self.image_size, 1):
            x = spatial_mean(self.backbone.level_maps(torch.from_numpy(batch).to(self.device))[-1])
            answers = self.backbone.network.get_classifier()(x).log_softmax(dim=1)
            drawn = torch.multinomial(answers.detach().exp().cpu(), 1, generator=generator).to(self.device)
            grads = torch.autograd.grad(answers.gather(1, drawn).sum(), self.parameters, allow_unused=True)
            for total, grad in zip(totals, grads, strict=True):
                if grad is not None:
                    total += grad.square() / len(self.images)
        origins = [parameter.detach().clone() for parameter in self.parameters]
        return list(zip(self.parameters, origins, totals, strict=True))


def _seen(backbone: Backbone, images: Images, image_size: int, device: str) -> Iterator[list[torch.Tensor]]:
    """Pooled features, batch by batch: a list of tensors (n, d) on the CPU, one a level."""
    backbone = backbone.on(device)
    note_engine("eager")
    for batch in prepared(images, backbone, image_size, 32):
        with torch.inference_mode():
            maps = backbone.level_maps(torch.from_numpy(batch).to(device))
            yield [spatial_mean(m).cpu() for m in maps]


def _distances(backbone: Backbone, found: Gaussians, batches: Iterable[np.ndarray]) -> np.ndarray:
    """Distance of each image at each level; network and Gaussians are on one device."""
    with torch.inference_mode():
        maps = (backbone.level_maps(torch.from_numpy(batch).to(backbone.device)) for batch in batches)
        return torch.cat([found.distances([spatial_mean(m) for m in part]).cpu() for part in maps]).double().numpy()


def _of_moments(moments: list[Moments], levels: Sequence[str], covariance: str) -> Gaussians:
    fitted = [running.gaussian(f"level {level!r}", covariance) for running, level in zip(moments, levels, strict=True)]
    means, whitenings = ([torch.from_numpy(part).float() for part in parts] for parts in zip(*fitted, strict=True))
    return Gaussians(means, whitenings)
