"""Networks trained on one class: Deep SVDD, pseudo-negatives, compactness with descriptiveness.

Explained in the chapter *Deep transfer for one class*. All three see normal images only (compactness also sees
photographs of other things, which are no anomalies), and all stop by the stand-ins of Part II.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from sklearn.neighbors import NearestNeighbors
from torch import nn

from anomaly_transfer.data.images import Images
from anomaly_transfer.device import default_device
from anomaly_transfer.features.extraction import prepared
from anomaly_transfer.networks.backbones import Backbone, spatial_mean, width
from anomaly_transfer.training.loop import Recipe, Run

#: Coordinates of a centre nearer to zero than this share of its root mean square are moved away to it.
FROM_ZERO = 0.1
#: Weight of compactness beside descriptiveness, and neighbours that a score looks at.
COMPACTNESS, NEIGHBOURS = 0.1, 2
#: Width of the hidden layer that tells features from noise.
HIDDEN = 64
#: Below this share of the features' first variance over held-out images a network has collapsed.
COLLAPSED = 1e-3


class OneClassRecipe(Recipe):
    """How a network is trained on one class."""

    objective: Literal["svdd", "pseudo-negatives", "compactness"] = Field(
        "svdd", description="what is made smaller: see the classes of this module"
    )
    guarded: bool = Field(
        True, description="of Deep SVDD: whether the centre is kept away from zero and biases are not trained"
    )
    spread: float = Field(
        0.1, gt=0, description="of pseudo-negatives: standard deviation of the noise as a share of the features' rms"
    )
    descriptive: bool = Field(True, description="of compactness: whether descriptiveness stands beside it")


def prepare(
    images: Images,
    held_out: Images,
    start: Backbone,
    image_size: int,
    recipe: OneClassRecipe,
    folder: Path,
    seed: int = 0,
    reference: tuple[Images, np.ndarray] | None = None,
    device: str | None = None,
) -> OneClassRun:
    """A run that can be trained (``run``), set to one of its epochs (``load``) and asked for scores (``score``).

    Parameters
    ----------
    images, held_out, start, image_size, folder, seed, device
        See :class:`anomaly_transfer.training.loop.Run`.
    recipe : OneClassRecipe
    reference : Images and int array, optional
        Pictures of other things with their classes 0, 1, ...: what descriptiveness is about.

    Raises
    ------
    ValueError
        If the recipe wants descriptiveness and there is no reference.
    """
    device = device or default_device()
    common = (images, held_out, start, image_size, recipe, folder, seed, device)
    if recipe.objective == "svdd":
        return DeepSVDD(*common)
    if recipe.objective == "pseudo-negatives":
        return PseudoNegatives(*common)
    return Compactness(*common, reference=reference)


class OneClassRun(Run):
    """What the three have in common: one vector an image, the mean of the last level's map."""

    recipe: OneClassRecipe
    levels = ("last",)

    def code(self, batch: torch.Tensor) -> torch.Tensor:
        """Features of a batch of pixels, float32, shape (n, d)."""
        return spatial_mean(self.backbone.level_maps(batch)[-1])

    def codes(self, images: Images) -> torch.Tensor:
        """Features of images, shape (n_images, d)."""
        with torch.inference_mode():
            batches = prepared(images, self.backbone, self.image_size, 32)
            # A clone outside of inference mode may take part in a loss.
            found = torch.cat([self.code(torch.from_numpy(batch).to(self.device)) for batch in batches])
        return found.clone()

    def variance(self) -> float:
        """Mean variance of the features over held-out images: near zero where a network has collapsed."""
        return float(self.codes(self.held_out).var(dim=0).mean())

    def scored(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """One column: how anomalous each image is."""
        with torch.inference_mode():
            found = [self.anomaly(self.code(torch.from_numpy(batch).to(self.device))).cpu() for batch in batches]
        return torch.cat(found).double().numpy()[:, None]

    @abstractmethod
    def anomaly(self, code: torch.Tensor) -> torch.Tensor:
        """How anomalous features, shape (n, d), are: shape (n,)."""


class DeepSVDD(OneClassRun):
    r"""Pull the features of normal images to one point.

    .. math:: \frac1n \sum_i \lVert f(x_i; \theta) - c \rVert^2

    with the centre :math:`c` fixed at the mean of the untrained features. Source: Ruff et al. (2018). Two guards keep
    the network from mapping everything to :math:`c`: no coordinate of the centre is near zero, where all-zero weights
    would put everything, and no bias is trained, which alone could put everything anywhere. Without them
    (``recipe.guarded = False``) the centre is the origin and biases are trained.
    """

    def __init__(self, images, held_out, start, image_size, recipe, folder, seed, device):
        super().__init__(images, held_out, start, image_size, recipe, folder, seed, device)
        if recipe.guarded:
            for name, parameter in self.backbone.network.named_parameters():
                if name.endswith("bias"):
                    parameter.requires_grad_(False)
        centre = self.codes(images).mean(dim=0)
        least = FROM_ZERO * centre.square().mean().sqrt()
        away = torch.where(centre < 0, -least, least)
        self.centre = torch.where(centre.abs() < least, away, centre) * float(recipe.guarded)

    def loss(self, batch: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Mean squared distance to the centre."""
        return self.anomaly(self.code(batch)).mean()

    def anomaly(self, code: torch.Tensor) -> torch.Tensor:
        """Squared distance to the centre."""
        return (code - self.centre).square().sum(dim=1)


class PseudoNegatives(OneClassRun):
    """Tell the features of normal images from Gaussian noise about the origin.

    Source: the one-class CNN of Oza and Patel (2019), arXiv 1901.08688. A head with one hidden layer classifies
    features and as many draws of noise; the error also trains the network from ``recipe.trained_from`` on. The width of
    the noise is our choice.
    """

    def __init__(self, images, held_out, start, image_size, recipe, folder, seed, device):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = nn.Sequential(nn.Linear(width(start, image_size), HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        super().__init__(images, held_out, start, image_size, recipe, folder, seed, device, head)
        self.scale = self.codes(images).square().mean().sqrt()

    def loss(self, batch: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Binary cross-entropy: normal 0, noise 1."""
        code = self.code(batch) / self.scale
        noise = self.recipe.spread * torch.randn(code.shape, generator=self.drawn).to(self.device)
        logits = self.head(torch.cat([code, noise]))[:, 0]
        labels = torch.arange(2, device=self.device).repeat_interleave(len(code)).float()
        return F.binary_cross_entropy_with_logits(logits, labels)

    def anomaly(self, code: torch.Tensor) -> torch.Tensor:
        """The logit of noise."""
        return self.head(code / self.scale)[:, 0]


class Compactness(OneClassRun):
    """Features of normal images close together, while those of other things stay told apart.

    Source: Perera and Patel (2019), arXiv 1801.05365: intra-batch variance beside a cross-entropy on a labelled
    set of other pictures, with shared weights. Their reference is ImageNet, which cannot be shipped; ours is crops of a
    handful of photographs, each a class. The score is the mean distance to the nearest normal images.
    """

    def __init__(self, images, held_out, start, image_size, recipe, folder, seed, device, reference=None):
        head = None
        if recipe.descriptive:
            if reference is None:
                raise ValueError("Descriptiveness needs reference pictures with classes; or set descriptive to false.")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                head = nn.Linear(width(start, image_size), int(reference[1].max()) + 1)
        super().__init__(images, held_out, start, image_size, recipe, folder, seed, device, head)
        self.reference = None
        if recipe.descriptive:
            pixels = np.stack([self.backbone.preprocess(image, image_size) for image in reference[0]])
            self.reference = torch.from_numpy(pixels), torch.from_numpy(reference[1])
        self.scale = self.codes(images).var(dim=0).mean().sqrt()
        self.refit()

    def refit(self) -> None:
        """The normal images that a score looks for among its neighbours."""
        templates = self.codes(self.images).cpu().numpy()
        self.neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(templates))).fit(templates)

    def loss(self, batch: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Variance within the batch, in units of that before training, and the cross-entropy on reference pictures."""
        code = self.code(batch) / self.scale
        n = len(code)
        # Each against the mean of the others, as the paper has it: n / (n - 1) times the distance to the mean of all.
        others = (code - code.mean(dim=0)) * n / max(n - 1, 1)
        compactness = others.square().mean()
        if self.reference is None:
            return compactness
        pixels, classes = self.reference
        chosen = torch.randperm(len(pixels), generator=self.drawn)[: self.recipe.batch_size]
        logits = self.head(self.code(pixels[chosen].to(self.device)))
        return F.cross_entropy(logits, classes[chosen].to(self.device)) + COMPACTNESS * compactness

    def anomaly(self, code: torch.Tensor) -> torch.Tensor:
        """Mean distance to the nearest normal images."""
        distances, _ = self.neighbours.kneighbors(code.cpu().numpy())
        return torch.from_numpy(distances.mean(axis=1))
