"""Stand-ins for anomalies."""

import numpy as np
import pytest
import torch

from anomaly_transfer.benchmarks.reference import photographs
from anomaly_transfer.training import pseudo_anomalies


@pytest.fixture(scope="module")
def images():
    return photographs(12).pixels[:, ::2, ::2]


@pytest.mark.parametrize("kind", pseudo_anomalies.KINDS)
def test_each_image_gets_a_stand_in_of_its_own(kind, images):
    before = images.copy()
    made = pseudo_anomalies.stand_ins(kind, images, seed=3)
    assert made.shape == images.shape
    assert made.dtype == np.uint8
    assert np.array_equal(images, before)
    changed = np.abs(made.astype(int) - images).reshape(len(images), -1).max(axis=1)
    assert (changed > 0).mean() > 0.8
    assert np.array_equal(made, pseudo_anomalies.stand_ins(kind, images, seed=3))
    assert not np.array_equal(made, pseudo_anomalies.stand_ins(kind, images, seed=4))


def test_they_leave_the_global_generator_alone(images):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    pseudo_anomalies.stand_ins("cutout", images)
    assert torch.equal(torch.rand(1), expected)


def test_pieces_cut_out_or_pasted_are_of_the_stated_size(images):
    many = np.tile(images, (5, 1, 1, 1))
    for kind in ("cutout", "cutpaste"):
        changed = (pseudo_anomalies.stand_ins(kind, many) != many).any(axis=-1).mean(axis=(1, 2))
        assert changed.max() < 1.2 * pseudo_anomalies.AREA[1]
    # A pasted piece is of the image itself: no new brightness comes in.
    pasted = pseudo_anomalies.stand_ins("cutpaste", images)
    assert all(np.isin(made, image).all() for made, image in zip(pasted, images, strict=True))


def test_mixtures_are_of_two_images():
    black_and_white = np.stack([np.zeros((32, 32, 3)), np.full((32, 32, 3), 200)]).astype(np.uint8)
    for seed in range(5):
        mixed = pseudo_anomalies.stand_ins("mixup", black_and_white, seed)
        assert all(len(np.unique(image)) == 1 for image in mixed)
        assert set(np.unique(pseudo_anomalies.stand_ins("cutmix", black_and_white, seed))) <= {0, 200}


def test_confetti_is_grey_on_grey_pictures(images):
    grey = np.repeat(images[..., :1], 3, axis=-1)
    assert (np.ptp(pseudo_anomalies.stand_ins("confetti", grey).astype(int), axis=-1) == 0).all()
    coloured = pseudo_anomalies.stand_ins("confetti", images)
    assert np.ptp(coloured[(coloured != images).any(-1)].astype(int), axis=-1).max() > 50


def test_what_cannot_be_made_is_one_clear_error(images):
    with pytest.raises(ValueError, match="mixup"):
        pseudo_anomalies.stand_ins("snow", images)
    with pytest.raises(ValueError, match="at least two"):
        pseudo_anomalies.stand_ins("mixup", images[:1])
