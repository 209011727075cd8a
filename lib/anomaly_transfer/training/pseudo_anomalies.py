"""Stand-ins for anomalies, made from normal images alone: augmentations known from vicinal risk minimisation.

Explained in the chapter *Fine-tuning without forgetting*. They serve to validate, never to train: how well a model
tells held-out normal images from their stand-ins is known without any real anomaly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms import v2

#: Areas of what is cut out or pasted, as shares of the image, and how long it may be against its width.
AREA, RATIO = (0.02, 0.15), (0.3, 3.3)
#: Pieces of confetti in an image, and the largest side of one, as a share of the image's.
PIECES, LARGEST_PIECE = (5, 20), 0.12

Augmentation = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def stand_ins(kind: str, images: np.ndarray, seed: int = 0) -> np.ndarray:
    """One stand-in for each image.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    images : uint8 array, shape (n, side, side, 3)
        Normal images; two or more, since some kinds mix an image with its neighbour in the array.
    seed : int

    Returns
    -------
    uint8 array of the same shape

    Raises
    ------
    ValueError
        If there is no such kind, or only one image.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no stand-in {kind!r}; choose from {', '.join(KINDS)}.")
    if len(images) < 2:
        raise ValueError("Stand-ins mix images: at least two are needed.")
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    # The library's transforms draw from the global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = [KINDS[kind](image, partner) for image, partner in zip(batch, batch.roll(1, 0), strict=True)]
    return torch.stack(made).permute(0, 2, 3, 1).contiguous().numpy()


def _mixed(transform: v2.Transform) -> Augmentation:
    def of(image: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        # It mixes each image of a batch with the one before it, and wants labels to mix as well.
        both = torch.stack([image, partner]).float()
        found, _ = transform(both, torch.zeros(2, dtype=torch.long))
        return found[0].round().to(torch.uint8)

    return of


def _alone(transform: v2.Transform) -> Augmentation:
    return lambda image, partner: transform(image)


def _box(side: int) -> tuple[int, int, int, int]:
    """Height, width, top and left of a random box."""
    area = float(torch.empty(1).uniform_(*AREA)) * side**2
    ratio = float(torch.empty(1).uniform_(*np.log(RATIO)).exp())
    height, width = (min(side - 1, max(1, round(length))) for length in ((area * ratio) ** 0.5, (area / ratio) ** 0.5))
    top, left = (int(torch.randint(side - length + 1, ())) for length in (height, width))
    return height, width, top, left


def _cut_paste(image: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
    """A piece of the image pasted elsewhere in it."""
    side = image.shape[-1]
    height, width, top, left = _box(side)
    down, right = (int(torch.randint(side - length + 1, ())) for length in (height, width))
    changed = image.clone()
    changed[:, down : down + height, right : right + width] = image[:, top : top + height, left : left + width]
    return changed


def _confetti(image: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
    """Small rectangles of random brightness; of random colour where the image has colour."""
    side = image.shape[-1]
    grey = bool((image == image[:1]).all())
    changed = image.clone()
    for _ in range(int(torch.randint(*PIECES, ()))):
        height, width = (int(n) for n in torch.randint(1, max(2, round(LARGEST_PIECE * side)), (2,)))
        top, left = (int(torch.randint(side - length + 1, ())) for length in (height, width))
        colour = torch.randint(256, (1 if grey else 3, 1, 1), dtype=torch.uint8)
        changed[:, top : top + height, left : left + width] = colour
    return changed


#: MixUp (Zhang et al., 2018), CutMix (Yun et al., 2019), CutOut (DeVries and Taylor, 2017), CutPaste (Li et al., 2021),
#: AugMix (Hendrycks et al., 2020) and confetti noise (Liznerski et al., 2021), in torchvision's form where it has one.
KINDS: dict[str, Augmentation] = {
    "mixup": _mixed(v2.MixUp(alpha=1.0, num_classes=1)),
    "cutmix": _mixed(v2.CutMix(alpha=1.0, num_classes=1)),
    "cutout": _alone(v2.RandomErasing(p=1.0, scale=AREA, ratio=RATIO, value=127)),
    "cutpaste": _cut_paste,
    "augmix": _alone(v2.AugMix()),
    "confetti": _confetti,
}
