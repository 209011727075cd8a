"""Pictures themselves as features: what a baseline without any representation rests on."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from anomaly_transfer.data.images import Images
from anomaly_transfer.features.features import Features

#: The one level of such features.
LEVEL = "pixels"
#: Pictures are resized to this side: that of the smallest of the book, on which the published baselines are.
SIDE = 32


def pixels(images: Images) -> Features:
    """Pixels as features of one level, :data:`LEVEL`.

    Parameters
    ----------
    images : Images

    Returns
    -------
    Features
        Pixels in 0..1 of each picture resized to a square of :data:`SIDE`: one value a pixel if all pictures are grey,
        else three; float32, shape (n_images, n_values).
    """

    def small(row: int) -> np.ndarray:
        return np.asarray(images[row].resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        pictures = np.stack(list(pool.map(small, range(len(images)))))
    if (pictures == pictures[..., :1]).all():
        pictures = pictures[..., 0]
    return Features.of(**{LEVEL: pictures.reshape(len(pictures), -1).astype(np.float32) / 255})
