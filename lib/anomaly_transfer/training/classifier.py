"""A network trained with labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from anomaly_transfer.data.images import Images
from anomaly_transfer.device import default_device
from anomaly_transfer.errors import DataError
from anomaly_transfer.networks.backbones import Backbone, spatial_mean, width
from anomaly_transfer.training.loop import Recipe, Run


class ClassifierRecipe(Recipe):
    """How a network is trained with labels."""

    loss: Literal["weighted", "focal"] = Field(
        "weighted", description="cross-entropy in which both classes weigh the same, or its focal form"
    )


class LabelledRun(Run):
    """Normal against labelled anomalies: a linear head on the mean of the last level's map, and what is under it.

    Parameters
    ----------
    images : Images
        All to train on, normal and anomalous.
    anomalous : bool array, shape (n_images,)
        Of both kinds.
    held_out, start, image_size, recipe, folder, seed, device
        See :class:`anomaly_transfer.training.loop.Run`.

    Raises
    ------
    DataError
        If there is no image of one kind.
    """

    levels = ("last",)
    recipe: ClassifierRecipe

    def __init__(
        self,
        images: Images,
        anomalous: np.ndarray,
        held_out: Images,
        start: Backbone,
        image_size: int,
        recipe: ClassifierRecipe,
        folder: Path,
        seed: int,
        device: str | None = None,
    ):
        if anomalous.all() or not anomalous.any():
            raise DataError(
                f"{int(anomalous.sum())} of {len(anomalous)} training images are labelled anomalous: both kinds are "
                "needed."
            )
        device = device or default_device()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = nn.Linear(width(start, image_size), 1)
        super().__init__(images, held_out, start, image_size, recipe, folder, seed, device, head)
        self.anomalous = torch.from_numpy(anomalous.astype(np.float32)).to(device)

    def loss(self, batch: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Binary cross-entropy in which normal and anomalous weigh the same over all images."""
        logits, labels = self._logits(batch), self.anomalous[rows]
        share = self.anomalous.mean()
        if self.recipe.loss == "focal":
            return sigmoid_focal_loss(logits, labels, alpha=float(1 - share), reduction="mean")
        weights = torch.where(labels > 0, 0.5 / share, 0.5 / (1 - share))
        return F.binary_cross_entropy_with_logits(logits, labels, weights)

    def scored(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """The logit of "anomalous", one column."""
        with torch.inference_mode():
            found = [self._logits(torch.from_numpy(batch).to(self.device)).cpu() for batch in batches]
        return torch.cat(found).double().numpy()[:, None]

    def _logits(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(spatial_mean(self.backbone.level_maps(batch)[-1]))[:, 0]
