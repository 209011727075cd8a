import numpy as np
import pytest
from tests.conftest import map_features

from anomaly_transfer.detectors.gaussian import fit_gaussian, mahalanobis
from anomaly_transfer.detectors.patch import (
    PatchGaussian,
    PatchMemoryBank,
    SharedPatchGaussian,
    k_centre_greedy,
    patch_features,
)
from anomaly_transfer.errors import DataError
from anomaly_transfer.features import Features


def test_patches_average_their_neighbours_and_share_the_finest_grid():
    fine, coarse = np.zeros((1, 1, 8, 8), "f4"), np.zeros((1, 1, 4, 4), "f4")
    fine[0, 0, 4, 4] = 9.0
    coarse[0, 0] = 2.0
    patches = patch_features(Features.of(fine=fine, coarse=coarse))
    assert patches.shape == (1, 8, 8, 2)
    assert np.allclose(patches[0, 3:6, 3:6, 0], 1.0)
    assert patches[0, :, :, 0].sum() == pytest.approx(9.0)
    assert np.allclose(patches[..., 1], 2.0), "the border must not be darkened by padding"


def test_each_position_has_its_own_gaussian():
    train, test = map_features(40), map_features(5, seed=1)
    scores = PatchGaussian().fit(train).anomaly_map(test)
    x, y = patch_features(train), patch_features(test)
    expected = mahalanobis(y[:, 3, 6], *fit_gaussian(x[:, 3, 6]))
    assert np.allclose(scores[:, 3, 6], expected)


def test_the_shared_gaussian_pools_positions():
    train, test = map_features(40), map_features(5, seed=1)
    scores = SharedPatchGaussian().fit(train).anomaly_map(test)
    x, y = patch_features(train), patch_features(test)
    assert np.allclose(scores, mahalanobis(y.reshape(-1, 7), *fit_gaussian(x.reshape(-1, 7))).reshape(5, 8, 8))


def test_an_image_is_as_anomalous_as_its_worst_patch():
    detector = SharedPatchGaussian().fit(map_features(40))
    test = map_features(70, seed=1)
    assert np.allclose(detector.anomaly_score(test), detector.anomaly_map(test).max(axis=(1, 2)))


def test_another_image_size_is_an_error_where_position_matters():
    detector = PatchGaussian(levels=("fine",)).fit(map_features(10))
    larger = Features.of(fine=np.zeros((2, 3, 9, 9), "f4"))
    with pytest.raises(DataError, match="same image size"):
        detector.anomaly_map(larger)


def test_the_memory_bank_measures_the_distance_to_the_nearest():
    detector = PatchMemoryBank(memory_bank=10**6).fit(map_features(10))
    bank = detector.state_["bank"]
    assert len(bank) == 10 * 64
    test = map_features(3, seed=1)
    expected = np.linalg.norm(patch_features(test)[..., None, :] - bank, axis=-1).min(axis=-1)
    assert np.allclose(detector.anomaly_map(test), expected, atol=1e-3)


def test_greedy_choice_covers_better_than_chance_and_takes_no_copy():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 3)).astype("f4")
    points[:400] *= 0.05  # a dense clump and sparse outskirts

    def radius(chosen):
        return np.linalg.norm(points[:, None] - chosen, axis=-1).min(axis=1).max()

    chosen = k_centre_greedy(points, 30, np.random.default_rng(0))
    by_chance = [radius(points[rng.choice(500, 30, replace=False)]) for _ in range(20)]
    assert radius(chosen) < min(by_chance)
    assert len(np.unique(chosen, axis=0)) == 30
    copies = np.repeat(points[:3], 10, axis=0)
    assert len(k_centre_greedy(copies, 20, np.random.default_rng(0))) == 3


def test_a_quarter_of_the_matrices_gives_the_same_distances():
    """Fifteen strongly correlated channels at 81 positions: not all of them are worked on at once."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(15, 15)) * np.geomspace(1, 1e-3, 15)
    maps = np.einsum("nchw,dc->ndhw", rng.normal(size=(60, 15, 9, 9)), mixing).astype(np.float32)
    train, test = Features.of(fine=maps[:40]), Features.of(fine=maps[40:])
    detector = PatchGaussian().fit(train)
    full = 81 * 15 * 15 * 8
    assert detector.state_["whitening"].nbytes < 0.3 * full
    flat = [patch_features(part).reshape(-1, 81, 15).swapaxes(0, 1).astype(float) for part in (train, test)]
    wanted = mahalanobis(flat[1], *fit_gaussian(flat[0]))
    assert np.allclose(detector.anomaly_map(test).reshape(20, 81).T, wanted, rtol=1e-6, atol=0)
