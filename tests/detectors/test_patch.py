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
from anomaly_transfer.features.features import Features


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
    bank = detector.bank_
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


def test_candidates_are_as_many_of_each_image_rounded_up():
    """Seven images share twenty candidates: three each; the bank keeps all that it may."""
    train = map_features(7)
    patches = patch_features(train).reshape(7, 64, -1)

    def of_images(**settings):
        bank = PatchMemoryBank(**settings).fit(train).bank_
        return np.bincount(
            [np.flatnonzero((patches == row).all(axis=2).any(axis=1)).item() for row in bank], minlength=7
        )

    assert of_images(candidates=20).tolist() == [3] * 7
    assert of_images(candidates=21).tolist() == [3] * 7
    assert of_images(candidates=22).tolist() == [4] * 7
    assert of_images(candidates=10**6).tolist() == [64] * 7
    assert of_images(candidates=20, memory_bank=5).sum() == 5
    assert len(PatchMemoryBank().fit(map_features(60)).bank_) == 1000
    banks = [PatchMemoryBank(candidates=20, **seed).fit(train).bank_ for seed in ({}, {"seed": 0}, {"seed": 1})]
    assert np.array_equal(banks[0], banks[1])
    assert not np.array_equal(banks[0], banks[2])


@pytest.mark.parametrize("detector", [PatchGaussian(), SharedPatchGaussian(), PatchMemoryBank()])
def test_what_is_not_finite_is_named_by_its_row_among_all_images(detector):
    train = map_features(150)
    train.arrays["fine"][130, 0, 3, 3] = np.nan
    with pytest.raises(DataError, match="row 130"):
        detector.fit(train)


def test_two_patches_are_a_memory_and_copies_of_one_are_not():
    image = np.zeros((2, 3, 4, 4), "f4")
    with pytest.raises(DataError, match="do not vary"):
        PatchMemoryBank().fit(Features.of(a=image))
    image[1] = 1
    assert len(PatchMemoryBank().fit(Features.of(a=image)).bank_) == 2


def test_the_grid_is_that_of_the_level_with_most_positions():
    long, tall = np.ones((1, 2, 2, 9), "f4"), np.ones((1, 3, 4, 4), "f4")
    assert patch_features(Features.of(long=long, tall=tall)).shape == (1, 2, 9, 5)
    tall = np.ones((1, 3, 5, 4), "f4")
    assert patch_features(Features.of(long=long, tall=tall)).shape == (1, 5, 4, 5)


def test_every_position_of_a_map_is_scored_in_its_place():
    """On grids that are no squares, and for several images."""
    rng = np.random.default_rng(0)
    train, test = (Features.of(a=rng.normal(size=(n, 2, 3, 5)).astype("f4")) for n in (30, 4))
    x, y = patch_features(train), patch_features(test)
    own, shared, memory = (
        kind(memory_bank=10**6) if kind is PatchMemoryBank else kind()
        for kind in (PatchGaussian, SharedPatchGaussian, PatchMemoryBank)
    )
    maps = [detector.fit(train).anomaly_map(test) for detector in (own, shared, memory)]
    everywhere = fit_gaussian(x.reshape(-1, 2))
    for image in range(4):
        for row in range(3):
            for column in range(5):
                patch = y[image, row, column]
                here = fit_gaussian(x[:, row, column])
                nearest = np.linalg.norm(x.reshape(-1, 2) - patch, axis=1).min()
                wanted = [mahalanobis(patch[None], *here)[0], mahalanobis(patch[None], *everywhere)[0], nearest]
                assert [m[image, row, column] for m in maps] == pytest.approx(wanted, abs=1e-3)


def slow_k_centre(points, k, first):
    """Always the point farthest from those chosen, by plain distances, as long as there is one that is no copy."""
    chosen = [first]
    while len(chosen) < k:
        nearest = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(axis=1)
        if nearest.max() == 0:
            break
        chosen.append(int(nearest.argmax()))
    return points[chosen]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("k", [1, 2, 12, 40, 60, 61, 100])
def test_greedy_choice_is_gonzalez_s_whatever_the_scale(scale, k):
    points = scale * np.random.default_rng(0).normal(size=(40, 3))
    points = np.concatenate([points, points[:20]])
    first = int(np.random.default_rng(1).integers(60))
    chosen = k_centre_greedy(points, k, np.random.default_rng(1))
    assert np.array_equal(chosen, slow_k_centre(points, k, first))
    assert len(chosen) == min(k, 40)


def test_points_that_are_near_but_no_copies_are_kept():
    """A hundredth of the norm apart is far more than rounding in single precision; a hundred-thousandth is not."""
    pair = np.array([[1.0, 0.0], [1.0, 1e-2]], "f4")
    assert len(k_centre_greedy(pair, 2, np.random.default_rng(0))) == 2
    pair[1, 1] = 1e-5
    assert len(k_centre_greedy(pair, 2, np.random.default_rng(0))) == 1


def test_copies_are_told_by_the_largest_norm_whatever_else_there_is():
    """The distance to a copy is rounding of the norms; a patch of zeros must not make that count."""
    points = np.random.default_rng(0).normal(size=(20, 64)).astype("f4")
    points = np.concatenate([points, points, np.zeros((1, 64), "f4")])
    assert len(k_centre_greedy(points, 41, np.random.default_rng(0))) == 21
