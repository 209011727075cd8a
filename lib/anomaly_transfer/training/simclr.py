"""Training a network on images without labels, so that two random views of an image get the same representation.

Explained in the chapter *The hypothesis*. Source: SimCLR (Chen et al., 2020), the simplest of its kind, with small
batches and few epochs: what a laptop can do, not the best that is known.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from anomaly_transfer.data.images import Images
from anomaly_transfer.device import default_device, memory_for, note_engine
from anomaly_transfer.errors import DataError
from anomaly_transfer.networks.backbones import Backbone, spatial_mean, with_network

TEMPERATURE = 0.2
EMBEDDING = 128
BATCH = 16
RATE, DECAY = 1e-3, 1e-4
#: The loss of a network that finds nothing in a full batch.
GUESSING = math.log(2 * BATCH - 1)
#: Smallest share of a view's sides that a random crop keeps.
SMALLEST_CROP = 0.5


def train(images: Images, start: Backbone, image_size: int, epochs: int, seed: int = 0) -> tuple[Backbone, list[float]]:
    """Train a copy of a network on images alone.

    Parameters
    ----------
    images : Images
        At least ``2``; nothing is said of them but their pixels.
    start : Backbone
        Where training starts: pre-trained, or :func:`anomaly_transfer.networks.backbones.untrained`. It is not changed.
    image_size : int
        Side of the network's input, pixels.
    epochs : int
    seed : int
        Of order, views and projector: the same seed gives the same network on the same machine.

    Returns
    -------
    Backbone, list of float
        The trained network, and the mean loss of each epoch.

    Raises
    ------
    DataError
        If there are fewer than two images, or the loss is no longer finite.
    """
    if len(images) < 2:
        raise DataError(f"Self-supervised training compares images: {len(images)} is too few, at least 2 are needed.")
    device = default_device()
    pixels = torch.from_numpy(np.stack([start.preprocess(image, image_size) for image in images]))
    lower = "the size of the input"
    note_engine("eager")
    with torch.random.fork_rng(devices=[]), memory_for(f"self-supervision at {image_size} px", lower):
        torch.manual_seed(seed)
        network = copy.deepcopy(start.network).to(device)
        trained = replace(start, network=network)
        projector = _projector(trained, image_size).to(device)
        network.train()
        parameters = [*network.parameters(), *projector.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
        n_batches = max(1, len(pixels) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * n_batches)
        history = []
        for _ in tqdm(range(epochs), desc="self-supervision", unit="epoch"):
            losses = []
            for rows in torch.randperm(len(pixels)).tensor_split(n_batches):
                batch = pixels[rows].to(device)
                # Both views in one batch, as SimCLR has it: half the passes, and one set of batch statistics.
                loss = contrast(*projector(_pooled(trained, torch.cat([view(batch), view(batch)]))).chunk(2))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                losses.append(loss.item())
            history.append(float(np.mean(losses)))
            if not math.isfinite(history[-1]):
                raise DataError("Self-supervised training diverged: the loss is not finite. Look for corrupt images.")
    return with_network(start, network.cpu(), f"{start.weights}, then self-supervised"), history


def calibrated(backbone: Backbone, images: Images, image_size: int) -> Backbone:
    """The same network with the statistics of some images in its batch norms; no label is used.

    For networks that started at random: their batch norms begin with a mean of 0 and a variance of 1, which are those
    of nothing, so that the signal dies out on its way. Pre-trained networks keep theirs: few shots on bricks went worse
    when they were calibrated too.

    Parameters
    ----------
    backbone : Backbone
        It is not changed.
    images : Images
        At least two.
    image_size : int
        Side of the network's input at which it will be used, pixels.
    """
    network = copy.deepcopy(backbone.network).to(default_device())
    n_batches = max(1, len(images) // BATCH)
    batches = (
        backbone.normalise(
            torch.from_numpy(np.stack([backbone.preprocess(images[int(row)], image_size) for row in rows]))
        )
        for rows in np.array_split(np.arange(len(images)), n_batches)
    )
    with torch.no_grad():
        update_bn(batches, network, device=torch.device(default_device()))
    return with_network(backbone, network.cpu(), f"{backbone.weights}, batch norms calibrated")


def contrast(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """NT-Xent, the loss of SimCLR (Chen et al., 2020, equation 1): each view is to find its other among all views.

    Parameters
    ----------
    first, second : float tensors, shape (n, d), n >= 2
        Row i of both is the same image; lengths do not count.

    Returns
    -------
    scalar tensor, at least 0; about log(2 n - 1) if nothing is found
    """
    z = F.normalize(torch.cat([first, second]), dim=1)
    likeness = z @ z.T / TEMPERATURE
    likeness = likeness.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(likeness, torch.arange(len(z), device=z.device).roll(len(first)))


def view(batch: torch.Tensor) -> torch.Tensor:
    """A random view of each image: crop, mirror, quarter turn, brightness and contrast.

    What is drawn is drawn on the CPU, so that it does not depend on the device.

    Parameters
    ----------
    batch : uint8 or float tensor, shape (n, side, side, 3), values 0..255

    Returns
    -------
    float tensor of the same shape, values 0..255
    """
    n, device = len(batch), batch.device
    scale = torch.empty(n).uniform_(SMALLEST_CROP, 1.0)
    centre = (torch.rand(n, 2) * 2 - 1) * (1 - scale[:, None])
    # Each image is seen through a square of side `scale` about `centre`, mirrored or turned: one matrix for all.
    turns = torch.randint(4, (n,)) * (math.pi / 2)
    mirror = torch.randint(2, (n,)) * 2.0 - 1
    rotation = torch.stack([turns.cos() * mirror, -turns.sin(), turns.sin() * mirror, turns.cos()], dim=1)
    matrix = torch.cat([rotation.view(n, 2, 2) * scale[:, None, None], centre[:, :, None]], dim=2)
    x = batch.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(matrix.to(device), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    contrast, brightness = (torch.empty(n, 1, 1, 1).uniform_(0.7, 1.3).to(device) for _ in range(2))
    return (((x - mean) * contrast + mean) * brightness).clamp(0, 255).permute(0, 2, 3, 1)


def _pooled(backbone: Backbone, batch: torch.Tensor) -> torch.Tensor:
    return spatial_mean(backbone.level_maps(batch)[-1])


def _projector(backbone: Backbone, image_size: int) -> nn.Module:
    with torch.no_grad():
        width = _pooled(backbone, torch.zeros(2, image_size, image_size, 3, device=backbone.device)).shape[1]
    return nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, EMBEDDING))
