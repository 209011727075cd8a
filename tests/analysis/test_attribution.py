"""Attribution: complete, and on the pixels that change the score."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from tests.training.test_one_class import SIDE, held_out, made, normal, start  # noqa: F401

from anomaly_transfer.analysis import attribution
from anomaly_transfer.data.images import ImageArray


def test_what_was_changed_is_what_the_score_is_owed_to(tmp_path, normal, held_out, start):  # noqa: F811
    run = made(tmp_path, normal, held_out, start)
    same = ImageArray(np.full((6, SIDE, SIDE, 3), 120, np.uint8))
    changed = same.pixels.copy()
    changed[:, 4:12, 18:28] = 255
    maps = attribution.attributed(run, ImageArray(changed), same)
    assert maps.shape == (6, SIDE, SIDE)
    masks = (changed != same.pixels).any(axis=-1)
    found = attribution.on_defect(maps, masks)
    # Pixels that equal the baseline are owed nothing.
    assert found["share"].to_numpy() == pytest.approx(1.0)
    assert found["ratio"].to_numpy() == pytest.approx(1 / masks.mean(), rel=1e-5)


def test_attributions_add_up_to_the_change_of_the_score(tmp_path, normal, held_out, start):  # noqa: F811
    run = made(tmp_path, normal, held_out, start)
    x = torch.from_numpy(np.stack([run.backbone.preprocess(held_out[0], SIDE)])).float()
    baseline = torch.full_like(x, 120.0)

    def score(y):
        return run.anomaly(run.code(y))

    total = IntegratedGradients(score).attribute(x, baselines=baseline, n_steps=100).sum()
    assert float(total) == pytest.approx(float((score(x) - score(baseline)).detach()), rel=0.05)


def test_feature_maps_are_unusual_where_the_image_is(tmp_path, normal, held_out, start):  # noqa: F811
    run = made(tmp_path, normal, held_out, start)
    changed = np.stack([np.asarray(normal[index].resize((SIDE, SIDE))) for index in range(4)])
    changed[:, :8, -8:] = 0
    maps = attribution.feature_maps(run, ImageArray(changed), normal)
    assert list(maps) == list(run.backbone.levels)
    for found in maps.values():
        assert found.shape == (4, SIDE, SIDE)
        # Normal places are about one standard deviation from the mean.
        assert 0.1 < np.median(found[:, SIDE // 2 :, : SIDE // 2]) < 2.0
    first = next(iter(maps.values()))
    other = attribution.feature_maps(run, ImageArray(changed[:, ::-1, ::-1].copy()), normal)
    assert np.argmax(first[:, [4, -4], [-4, 4]].mean(axis=0)) == 0
    assert np.argmax(next(iter(other.values()))[:, [4, -4], [-4, 4]].mean(axis=0)) == 1


def test_a_channel_that_hardly_varies_does_not_drown_the_others(tmp_path, normal, held_out, start, monkeypatch):  # noqa: F811
    run = made(tmp_path, normal, held_out, start)
    rng = np.random.default_rng(0)

    def maps(_, images):
        of = rng.normal(0, 1, (len(images), 4, 7, 7))
        of[:, 0] = 1e-9 * of[:, 0] + (1e-6 if images is held_out else 0)
        return [of] * len(run.backbone.levels)

    monkeypatch.setattr(attribution, "_level_maps", maps)
    for found in attribution.feature_maps(run, held_out, normal).values():
        assert found.max() < 4


def test_attribution_that_does_not_look_has_a_ratio_of_one():
    masks = np.zeros((1, 8, 8), bool)
    masks[0, :2] = True
    assert attribution.on_defect(np.ones((1, 8, 8)), masks)["ratio"][0] == pytest.approx(1.0)
