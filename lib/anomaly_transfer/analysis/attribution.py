"""What a network looks at: where its feature maps are unusual, and which pixels a score is owed to.

Explained in the chapter *Deep transfer for one class*.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients

from anomaly_transfer.data.images import Images
from anomaly_transfer.features.extraction import prepared
from anomaly_transfer.features.features import standardised
from anomaly_transfer.training.one_class import DeepSVDD

#: Points on the way from the baseline to the image.
STEPS = 24


def attributed(run: DeepSVDD, images: Images, normal: Images) -> np.ndarray:
    """How much of the score each pixel is owed, by integrated gradients.

    Source: Sundararajan, Taly and Yan (2017), by captum: gradients of the score are summed along the straight way from
    a baseline to the image. The baseline is the mean of some normal images, so that what is asked is what makes an
    image *differ* from the normal.

    Parameters
    ----------
    run : DeepSVDD
        At the epoch of which it is asked (``load``).
    images : Images
    normal : Images
        For the baseline.

    Returns
    -------
    float array, shape (n_images, side, side)
        Absolute attribution, summed over colours.
    """
    batches = prepared(normal, run.backbone, run.image_size, 32)
    baseline = torch.from_numpy(np.concatenate(list(batches))).float().mean(dim=0, keepdim=True).to(run.device)
    method = IntegratedGradients(lambda x: run.anomaly(run.code(x)))
    maps = []
    for batch in prepared(images, run.backbone, run.image_size, 1):
        x = torch.from_numpy(batch).float().to(run.device)
        found = method.attribute(x, baselines=baseline, n_steps=STEPS, internal_batch_size=STEPS)
        maps.append(found.detach().abs().sum(dim=-1).cpu().numpy())
    return np.concatenate(maps)


def feature_maps(run: DeepSVDD, images: Images, normal: Images) -> dict[str, np.ndarray]:
    """How unusual each level finds each place: what its feature map holds there, compared with normal images.

    Parameters
    ----------
    run : DeepSVDD
        At the epoch of which it is asked (``load``).
    images : Images
    normal : Images
        At least two, for mean and standard deviation of each channel over images and places.

    Returns
    -------
    dict of level to float array, shape (n_images, side, side)
        Distance from the mean, root mean square over channels, in standard deviations; the places of the level's map
        are enlarged to the pixels they stand for.
    """
    usual, seen = (_level_maps(run, part) for part in (normal, images))
    found = {}
    for level, maps, of in zip(run.backbone.levels, seen, usual, strict=True):
        distance = standardised(_places(maps), _places(of)).reshape(len(maps), 1, *maps.shape[2:], -1)
        places = torch.from_numpy(np.sqrt((distance**2).mean(axis=-1)))
        found[level] = F.interpolate(places, size=(run.image_size, run.image_size))[:, 0].numpy()
    return found


def _level_maps(run: DeepSVDD, images: Images) -> list[np.ndarray]:
    with torch.inference_mode():
        batches = [
            run.backbone.level_maps(torch.from_numpy(batch).to(run.device))
            for batch in prepared(images, run.backbone, run.image_size, 32)
        ]
    return [torch.cat(parts).cpu().numpy() for parts in zip(*batches, strict=True)]


def _places(maps: np.ndarray) -> np.ndarray:
    """Channels of each place of each image, shape (n_images * rows * columns, channels)."""
    return maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1])


def on_defect(maps: np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """Whether attribution lies on the defect.

    Parameters
    ----------
    maps : float array, shape (n_images, side, side), not negative
    masks : bool array, shape (n_images, side, side)
        Each with a defect.

    Returns
    -------
    DataFrame
        One row an image: ``share`` of the attribution on the defect, ``area`` of the defect as a share of the image,
        and ``ratio``, the first by the second: 1 is what attribution without any regard to the defect would have.
    """
    share = (maps * masks).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    area = masks.mean(axis=(1, 2))
    return pd.DataFrame({"share": share, "area": area, "ratio": share / area})
