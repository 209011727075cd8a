"""Division into source and target, the four networks, and self-supervised training."""

import numpy as np
import pandas as pd
import pytest
import torch

from anomaly_transfer import profiles
from anomaly_transfer.benchmarks import reference
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.data.annotations import NORMAL, Annotations
from anomaly_transfer.data.images import ImageArray
from anomaly_transfer.errors import DataError
from anomaly_transfer.networks import backbones
from anomaly_transfer.store import Store
from anomaly_transfer.studies import protocol
from anomaly_transfer.training import simclr, starts

SMOKE = profiles.get("smoke")


def category(groups, kinds, part=None):
    n = len(groups)
    table = pd.DataFrame({"id": [str(i) for i in range(n)], "group": groups, "anomaly_class": kinds, "grade": np.nan})
    if part is not None:
        table["part"] = part
    pixels = np.random.default_rng(0).integers(0, 255, (n, 32, 32, 3), dtype=np.uint8)
    return Category("test", "thing", ImageArray(pixels), Annotations(table))


def test_source_and_target_share_no_group():
    found = protocol.divide(category(np.repeat(np.arange(40).astype(str), 3), np.tile([NORMAL, NORMAL, "crack"], 40)))
    assert not set(found.groups[found.source]) & set(found.groups[found.target])
    assert sorted([*found.source, *found.target]) == list(range(120))
    other = protocol.divide(category(found.groups, found.table["anomaly_class"]), seed=1)
    assert set(other.groups[other.target]) != set(found.groups[found.target])


def test_of_few_groups_the_one_with_most_of_both_kinds_is_the_target():
    groups = np.repeat(["a", "b", "c"], [30, 40, 50])
    kinds = np.array([NORMAL] * 28 + ["x"] * 2 + [NORMAL] * 22 + ["x"] * 18 + [NORMAL] * 50)
    found = protocol.divide(category(groups, kinds))
    assert set(found.groups[found.target]) == {"b"}


def test_an_official_split_is_kept_and_classes_are_capped():
    part = np.tile(["train", "train", "test"], 60)
    found = protocol.divide(category(np.arange(180).astype(str), np.repeat([NORMAL, "x", "y"], 60), part), most=15)
    assert set(found.table["part"].iloc[found.source]) == {"train"}
    assert len(found.rows(found.source, NORMAL)) == 15
    assert found.classes == ["x", "y"]


def test_what_cannot_be_divided_is_one_clear_error():
    with pytest.raises(DataError, match="one group"):
        protocol.divide(category(np.repeat("a", 40), np.repeat(NORMAL, 40)))
    with pytest.raises(DataError, match="at least 8"):
        protocol.divide(category(np.arange(8).astype(str), np.repeat(NORMAL, 8)))


@pytest.fixture(scope="module")
def normal():
    return ImageArray(np.random.default_rng(0).integers(0, 255, (40, 32, 32), dtype=np.uint8))


def test_networks_differ_by_start_and_are_trained_once(normal, tmp_path):
    store = Store(tmp_path)
    found = {start: starts.network(start, SMOKE, normal, 32, 0, store)[0] for start in starts.STARTS}
    assert len({network.fingerprint() for network in found.values()}) == 4
    again, history = starts.network("imagenet+normal", SMOKE, normal, 32, 0, store)
    assert len(history) == SMOKE.self_supervised_epochs
    assert again.fingerprint() == found["imagenet+normal"].fingerprint()
    assert store.sizes().loc["encoders", "entries"] == 2
    with pytest.raises(ValueError, match="imagenet"):
        starts.network("jft", SMOKE, normal, 32, 0, store)


def test_untrained_networks_follow_their_seed():
    backbone = backbones.load("efficientnet_lite0")
    prints = [backbones.untrained(backbone, seed).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_training_is_repeatable_and_changes_the_copy_only(normal):
    start = backbones.load("efficientnet_lite0")
    before = [p.clone() for p in start.network.parameters()]
    trained = [simclr.train(normal, start, 32, 1, seed)[0] for seed in (0, 0, 1)]
    assert trained[0].fingerprint() == trained[1].fingerprint() != trained[2].fingerprint()
    assert all(torch.equal(a, b) for a, b in zip(before, start.network.parameters(), strict=True))
    assert not trained[0].network.training
    with pytest.raises(DataError, match="too few"):
        simclr.train(normal.take(np.arange(1)), start, 32, 1)


def test_calibrated_batch_norms_have_the_statistics_of_the_images(normal):
    start = backbones.untrained(backbones.load("efficientnet_lite0"), 0)
    found = simclr.calibrated(start, normal, 64)
    pixels = torch.from_numpy(np.stack([start.preprocess(image, 64) for image in normal]))
    with torch.no_grad():
        stem = start.network.conv_stem(start.normalise(pixels))
    assert torch.allclose(found.network.bn1.running_mean, stem.mean(dim=(0, 2, 3)), atol=1e-4)
    assert (start.network.bn1.running_mean == 0).all()
    # As it comes, the signal dies out; calibrated, deep levels vary as much as the first.
    spread = [[m.std().item() for m in network.level_maps(pixels)] for network in (start, found)]
    assert min(spread[1]) > 0.3
    assert not found.network.training


@pytest.mark.parametrize(("n", "sizes"), [(3, [3]), (7, [3, 2, 2])])
def test_batch_norms_are_calibrated_some_images_at_a_time(monkeypatch, normal, n, sizes):
    seen = []
    monkeypatch.setattr(simclr, "BATCH", 2)
    monkeypatch.setattr(simclr, "update_bn", lambda batches, *_, **__: seen.extend(map(len, batches)))
    simclr.calibrated(backbones.load("efficientnet_lite0"), normal.take(np.arange(n)), 32)
    assert seen == sizes


def test_training_finds_the_other_view():
    images = reference.photographs(32)
    _, history = simclr.train(images, backbones.load("efficientnet_lite0"), 64, 6)
    assert min(history) < simclr.GUESSING - 0.4
    assert history[-1] < history[0]


def test_the_loss_is_lowest_when_views_find_each_other():
    z = torch.eye(6)
    right, wrong = simclr.contrast(z, z), simclr.contrast(z, z.roll(1, dims=0))
    assert right < 0.1 < np.log(11) < wrong
    assert simclr.contrast(3 * z, z) == pytest.approx(right)


def test_views_keep_shape_and_range_and_differ_by_image():
    torch.manual_seed(0)
    batch = torch.arange(256, dtype=torch.uint8).view(16, 16).repeat(5, 1, 1)[..., None].repeat(1, 1, 1, 3)
    seen = simclr.view(batch)
    assert seen.shape == batch.shape
    assert 0 <= seen.min() <= seen.max() <= 255
    assert len({tuple(image.flatten().tolist()) for image in seen}) == 5


def test_sources_are_grey_beside_grey_pictures_and_leave_out_the_own_material(normal):
    grey = reference.comparison_sets(normal, "elpv/mono", 9)
    colour = reference.comparison_sets(reference.photographs(20), "own/thing", 9)
    assert set(grey) == {"photographs", "materials", "noise"}
    assert all(images.pixels.shape == (9, 128, 128) for images in grey.values())
    assert colour["photographs"].pixels.shape == (9, 128, 128, 3)
    assert np.ptp(colour["photographs"].pixels.astype(int), axis=-1).max() > 50
    # More than there are: they begin again.
    assert len(reference.materials(900, "elpv/mono")) == 900
    hashes = {name: set(reference.materials(40, name).hashes) for name in ("surfaces/brick", "surfaces/grass")}
    assert len(hashes["surfaces/brick"] & hashes["surfaces/grass"]) < 40
    assert reference.photographs(9, seed=1).fingerprint == reference.photographs(9, seed=1).fingerprint


def test_noise_has_the_pixels_mean_and_spread(normal):
    pixels = reference.noise(10, normal).pixels.astype(float)
    sample = normal.pixels.astype(float)
    assert pixels.mean() == pytest.approx(sample.mean(), abs=4)
    assert pixels.std() == pytest.approx(sample.std(), rel=0.15)
