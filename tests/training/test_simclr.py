"""The loss of self-supervision and its random views, by what they promise."""

import itertools

import numpy as np
import pytest
import torch

from anomaly_transfer.training import simclr
from anomaly_transfer.training.simclr import TEMPERATURE, contrast, view


@pytest.mark.parametrize("n", [2, 5])
def test_the_loss_is_that_of_finding_the_other_view_among_all(n):
    """SimCLR's equation 1, view by view."""
    torch.manual_seed(n)
    first, second = torch.randn(2, n, 4)
    z = torch.cat([first, second]).numpy().astype(float)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(2 * n):
        weights = [np.exp(z[i] @ z[k] / TEMPERATURE) for k in range(2 * n) if k != i]
        losses.append(np.log(sum(weights)) - z[i] @ z[(i + n) % (2 * n)] / TEMPERATURE)
    assert contrast(first, second).item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert contrast(second, first).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_guessing_is_the_loss_where_all_views_are_alike():
    alike = torch.ones(simclr.BATCH, 3)
    assert contrast(alike, alike).item() == pytest.approx(simclr.GUESSING, rel=1e-5)


def test_whole_views_are_mirrored_or_turned_and_vary_in_brightness_and_contrast(monkeypatch):
    monkeypatch.setattr(simclr, "SMALLEST_CROP", 1.0)
    torch.manual_seed(0)
    image = torch.rand(8, 8, 3, dtype=torch.float64) * 40 + 80
    turned = [np.rot90(flipped, k) for flipped in (image.numpy(), image.numpy()[:, ::-1]) for k in range(4)]
    seen = view(image[None].repeat(300, 1, 1, 1)).numpy()
    found, brightness, contrasts = set(), [], []
    for picture in seen:
        (which,) = [k for k, one in enumerate(turned) if np.corrcoef(one.ravel(), picture.ravel())[0, 1] > 0.999]
        found.add(which)
        brightness.append(picture.mean() / image.numpy().mean())
        contrasts.append(picture.std() / image.numpy().std() / brightness[-1])
    assert found == set(range(8))
    for factors in (brightness, contrasts):
        assert 0.7 - 1e-3 <= min(factors) < 0.75
        assert 1.25 < max(factors) <= 1.3 + 1e-3
    assert abs(np.corrcoef(brightness, contrasts)[0, 1]) < 0.2


def test_a_crop_is_a_part_of_the_picture_of_half_its_sides_or_more():
    """A ramp stays one, since nothing is folded in from outside, and is at most twice as flat."""
    torch.manual_seed(0)
    steps = torch.arange(16.0) * 4 + 60
    ramps = torch.stack([steps[:, None].expand(16, 16), steps[None].expand(16, 16), torch.full((16, 16), 90.0)], dim=2)
    slopes, middles = [], []
    for picture in view(ramps[None].repeat(300, 1, 1, 1)).double().numpy():
        inner = picture[1:-1, 1:-1, :2]
        for axis in (0, 1):
            assert abs(np.diff(inner, 2, axis=axis)).max() < 1e-2
        # What is grey all over tells brightness; contrast is about the mean of all.
        across = [
            np.abs(np.diff(inner[..., channel], axis=axis)).mean()
            for channel, axis in itertools.product((0, 1), (0, 1))
        ]
        slopes.append(max(across) / 4)
        middles.append(inner[..., 0].mean() - inner[..., 1].mean())
    # Scale 0.5 to 1, contrast and brightness 0.7 to 1.3 each.
    assert 0.5 * 0.7**2 < min(slopes) < 0.4
    assert 1.2 < max(slopes) < 1.3**2
    # Crops lie anywhere: above and below the diagonal alike.
    assert abs(np.mean(middles)) < 0.2 * np.std(middles) + 0.5
    assert np.std(middles) > 2


def test_values_end_where_a_picture_s_do():
    torch.manual_seed(0)
    seen = view(torch.full((50, 4, 4, 3), 250, dtype=torch.uint8))
    assert seen.max() == 255
    assert seen.min() > 250 * 0.69
    assert view(torch.zeros(5, 4, 4, 3)).abs().max() == 0


def test_what_is_trained_is_the_mean_of_the_last_level(lite0):
    batch = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8))
    with torch.no_grad():
        last = lite0.level_maps(batch)[-1]
        assert torch.equal(simclr._pooled(lite0, batch), last.mean(dim=(2, 3)))
    projector = simclr._projector(lite0, 32)
    assert projector(torch.zeros(2, last.shape[1])).shape == (2, simclr.EMBEDDING)
