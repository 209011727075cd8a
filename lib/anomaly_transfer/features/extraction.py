"""Multi-level features of many images, in constant memory.

Explained in the chapter *Frozen representations*. On the CPU the network runs through OpenVINO where that is
installed (several times faster, equal to about 1e-6), else and on CUDA as plain PyTorch.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from timm.models import EfficientNet
from torch import nn
from tqdm import tqdm

from anomaly_transfer.data.images import Images
from anomaly_transfer.device import default_device, memory_for, note_engine
from anomaly_transfer.networks.backbones import Backbone, spatial_mean

#: Images that pass a network together where features are extracted: on a processor memory counts, a card wants many.
BATCH = {"cpu": 8, "card": 64}
#: A function from a uint8 batch (n, side, side, 3) to one array a requested output.
Forward = Callable[[np.ndarray], list[np.ndarray]]


def level_strides(backbone: Backbone) -> dict[str, int]:
    """Input pixels per step of each level's feature map, e.g. ``{"stem": 2, ..., "head": 32}``."""
    side = backbone.image_size
    with torch.inference_mode():
        maps = backbone.level_maps(torch.zeros(1, side, side, 3, device=backbone.device))
    return {level: round(side / m.shape[-1]) for level, m in zip(backbone.levels, maps, strict=True)}


def map_levels(backbone: Backbone, strides: Sequence[int] = (8, 16)) -> tuple[str, ...]:
    """The levels whose maps patch detectors (PaDiM, PatchCore) see: the last of each stride.

    A network without one of the strides gives the nearest that it has, by ratio. Where several are nearest to the same
    one, as in a ViT, whose levels have one stride all, its last levels are taken, as many as there are strides.

    Parameters
    ----------
    backbone : Backbone
    strides : sequence of int
        Input pixels per step of a map.

    Returns
    -------
    tuple of str
        From the input to the output; fewer than ``strides`` only if the network has too few levels.
    """
    of_level = level_strides(backbone)
    there = sorted(set(of_level.values()))
    nearest = [min(there, key=lambda stride: abs(math.log(stride / wanted))) for wanted in strides]
    chosen: set[str] = set()
    for stride, number in Counter(nearest).items():
        chosen.update([level for level in of_level if of_level[level] == stride][-number:])
    return tuple(level for level in backbone.levels if level in chosen)


class _Outputs(nn.Module):
    """The backbone as one traceable module: uint8 images in, chosen maps and the spatial means of all levels out."""

    def __init__(self, backbone: Backbone, levels: Sequence[str] | None):
        super().__init__()
        self.network = backbone.network
        self.backbone = backbone
        self.chosen = [backbone.levels.index(level) for level in levels or ()]

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.backbone.level_maps(images)
        return (*(maps[index] for index in self.chosen), *(spatial_mean(m) for m in maps))


def default_engine(device: str) -> str:
    """``openvino`` on a CPU where it is installed, else ``eager`` (plain PyTorch)."""
    if device != "cpu":
        return "eager"
    try:
        import openvino  # noqa: F401
    except ImportError:
        return "eager"
    return "openvino"


def forward_function(
    backbone: Backbone,
    levels: Sequence[str] | None = None,
    device: str | None = None,
    engine: str | None = None,
) -> Forward:
    """Compile the backbone to a function from a uint8 batch to chosen maps and the spatial means of all levels.

    The means do not depend on the maps that are returned with them: bit for bit in PyTorch, and, as measured, in
    OpenVINO.

    Parameters
    ----------
    backbone : Backbone
    levels : sequence of str, optional
        Levels whose spatial maps to return before the means; None returns the means alone.
    device : {"cpu", "cuda"}, optional
    engine : {"eager", "openvino"}, optional
        Default: the fastest that is there. Results agree to about 1e-6 relative.
    """
    device = device or default_device()
    engine = engine or default_engine(device)
    key = None if levels is None else tuple(levels)
    if engine == "openvino":
        identity = _Identity(backbone)
        # Compiled for each size: tracing fixes what a network derives from the size. An EfficientNet derives nothing.
        own = (backbone.image_size,) * 2 if isinstance(backbone.network, EfficientNet) else None
        return lambda batch: _openvino(identity, key, *(own or batch.shape[1:3]))(batch)
    return _eager(backbone, key, device)


class _Identity:
    """Lets a backbone be a cache key: the same weights are compiled once per process."""

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self.key = backbone.fingerprint()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.key == other.key


def _eager(backbone: Backbone, levels: tuple[str, ...] | None, device: str) -> Forward:
    module = _Outputs(backbone.on(device), levels).eval()

    def forward(batch: np.ndarray) -> list[np.ndarray]:
        note_engine("eager")
        with torch.inference_mode():
            return [out.cpu().numpy() for out in module(torch.from_numpy(batch).to(device))]

    return forward


@lru_cache(maxsize=4)
def _openvino(identity: _Identity, levels: tuple[str, ...] | None, height: int, width: int) -> Forward:
    """The network compiled with an input of one size."""
    import openvino as ov

    backbone = identity.backbone
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    with torch.inference_mode():
        backbone.level_maps(example)  # raises if the network cannot work on this size at all
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every shape it fixes; equality is tested instead
            model = ov.convert_model(_Outputs(backbone, levels).eval(), example_input=example)
        # Full precision: processors with bf16 would otherwise round to three digits.
        compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except Exception as error:  # a layer that the runtime cannot convert: slower beats not at all
        warnings.warn(f"OpenVINO cannot run {backbone.name} ({error}); using PyTorch.", stacklevel=2)
        return _eager(backbone, levels, "cpu")

    def forward(batch: np.ndarray) -> list[np.ndarray]:
        note_engine("openvino")
        result = compiled(batch)
        return [np.array(result[index]) for index in range(len(compiled.outputs))]

    return forward


def extract(
    images: Images,
    backbone: Backbone,
    image_size: int,
    folder: Path,
    levels: Sequence[str] | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    engine: str | None = None,
    pooled: Path | None = None,
) -> None:
    """Extract features of all images into ``folder``, one ``LEVEL.npy`` a level, by one pass of the network.

    Memory does not grow with the number of images: results are appended to the files, and at most two batches of
    images are held. On a CPU, what the network makes of one batch is the largest thing in memory.

    Parameters
    ----------
    images : Images
    backbone : Backbone
    image_size : int
        Side of the network's input, pixels.
    folder : Path
        An existing folder.
    levels : sequence of str, optional
        Levels whose maps (n, channels, height, width) to keep; None keeps the spatial means (n, channels) of all.
    batch_size : int, optional
        Images that pass the network together; default: :data:`BATCH`.
    device, engine : str, optional
        See :func:`forward_function`.
    pooled : Path, optional
        Another existing folder, which gets the spatial means of all levels where ``folder`` gets maps.
    """
    device = device or default_device()
    batch_size = batch_size or BATCH["cpu" if device == "cpu" else "card"]
    means = folder if levels is None else pooled
    paths = [folder / f"{level}.npy" for level in levels or ()]
    paths += [means / f"{level}.npy" for level in backbone.levels] if means else []
    forward = forward_function(backbone, levels, device, engine)
    with ExitStack() as stack:
        stack.enter_context(memory_for(f"features at {image_size} px", "the image size"))
        files = [stack.enter_context(open(path, "wb")) for path in paths]
        progress = stack.enter_context(tqdm(total=len(images), desc=f"{backbone.name} {image_size} px", unit="image"))
        for batch in prepared(images, backbone, image_size, batch_size):
            # Means that nobody asked for come last, and are dropped.
            for file, result in zip(files, forward(batch), strict=False):
                if not file.tell():
                    shape = (len(images), *result.shape[1:])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                # Plain writes, not a memory map: on a full disk they raise an error instead of a signal.
                file.write(np.ascontiguousarray(result, dtype="<f4").tobytes())
            progress.update(len(batch))


def prepared(
    images: Images, backbone: Backbone, image_size: int, batch_size: int, order: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Preprocessed batches; the next is read by threads while the network works on this one.

    Parameters
    ----------
    images : Images
    backbone : Backbone
    image_size : int
        Side of the network's input, pixels.
    batch_size : int
    order : int array, optional
        Rows in the order in which they are wanted; default: all, as they come.

    Yields
    ------
    uint8 array, shape (at most batch_size, image_size, image_size, 3)
    """
    rows = np.arange(len(images)) if order is None else order

    def prepare(row: int) -> np.ndarray:
        return backbone.preprocess(images[int(row)], image_size)

    # Each thread in a copy of this context, so that labels are sealed there too.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        waiting: list = []
        for start in range(0, len(rows), batch_size):
            waiting.append([pool.submit(copy_context().run, prepare, row) for row in rows[start : start + batch_size]])
            if len(waiting) == 2:
                yield np.stack([job.result() for job in waiting.pop(0)])
        for jobs in waiting:
            yield np.stack([job.result() for job in jobs])
