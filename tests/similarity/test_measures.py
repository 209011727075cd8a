"""Every measure: identity, symmetry, invariances, zero where there is nothing, agreement with other implementations."""

import numpy as np
import pytest
from scipy.linalg import sqrtm, subspace_angles
from scipy.spatial.distance import pdist
from scipy.stats import energy_distance, wasserstein_distance
from sklearn.cross_decomposition import CCA
from sklearn.metrics.pairwise import rbf_kernel

from anomaly_transfer import similarity
from anomaly_transfer.errors import DataError
from anomaly_transfer.similarity.base import Measure
from anomaly_transfer.similarity.paired import _span

ALL = list(similarity.measures().values())
UNPAIRED, PAIRED = list(similarity.UNPAIRED), list(similarity.PAIRED)


def ids(measure):
    return measure.name


@pytest.fixture
def samples():
    """Two samples of 40 that differ in mean and covariance; as pairs, the second is a noisy function of the first."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 12)) * np.linspace(0.5, 2, 12)
    return x, x @ rng.normal(size=(12, 12)) / 3 + rng.normal(0.5, 1, (40, 12))


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.mark.parametrize("measure", ALL, ids=ids)
def test_card_is_complete(measure: Measure):
    assert all([measure.title, measure.range, measure.equation, measure.source, measure.sees, measure.blind])


@pytest.mark.parametrize("measure", PAIRED, ids=ids)
def test_identical_views(measure, samples):
    x, _ = samples
    assert measure(x, x) == pytest.approx(0.0 if measure.farther else 1.0, abs=1e-6)


@pytest.mark.parametrize("measure", ALL, ids=ids)
def test_symmetry(measure, samples):
    x, y = samples
    same = measure(x, y) == pytest.approx(measure(y, x), rel=1e-6)
    assert same if measure.symmetric else not same


@pytest.mark.parametrize("measure", UNPAIRED, ids=ids)
def test_unpaired_invariances(measure, samples):
    x, y = samples
    turn = rotation(12)
    changed = {"rotation": (x @ turn, y @ turn), "scale": (7 * x, 7 * y), "shift": (x + 3, y + 3)}
    for what, (a, b) in changed.items():
        same = measure(a, b) == pytest.approx(measure(x, y), rel=1e-4, abs=1e-6)
        assert same == (what in measure.invariant), what


@pytest.mark.parametrize("measure", PAIRED, ids=ids)
def test_paired_invariances_of_either_view(measure, samples):
    x, y = samples
    for what, changed in {"rotation": x @ rotation(12), "scale": 7 * x, "shift": x + 3}.items():
        same = measure(changed, y) == pytest.approx(measure(x, y), rel=1e-4, abs=1e-6)
        assert same == (what in measure.invariant), what


@pytest.mark.parametrize("measure", UNPAIRED, ids=ids)
def test_two_samples_of_one_distribution_lie_within_the_null(measure):
    inside = 0
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(32, 100))
        found = similarity.relate(
            measure, measure.on(x), np.arange(16), np.arange(16, 32), n_permutations=39, n_halves=4
        )
        inside += found.p_value > 0.05
    assert inside >= 16


@pytest.mark.parametrize("measure", UNPAIRED, ids=ids)
def test_different_samples_are_told_apart(measure):
    rng = np.random.default_rng(0)
    stretch = np.where(np.arange(30) < 10, 4.0, 0.2)
    x = np.concatenate([rng.normal(size=(40, 30)) * stretch, rng.normal(1, 1, (40, 30)) * stretch[::-1]])
    found = similarity.relate(measure, measure.on(x), np.arange(40), np.arange(40, 80), n_permutations=39, n_halves=4)
    assert found.p_value == pytest.approx(1 / 40)


@pytest.mark.parametrize("name", ["mmd", "mmd_multi", "energy", "a_distance"])
def test_distances_of_independent_samples_average_zero_at_small_n(name):
    measure = similarity.get(name)
    found = [measure(*np.random.default_rng(seed).normal(size=(2, 16, 200))) for seed in range(100)]
    assert abs(np.mean(found)) < 2.5 * np.std(found) / 10


@pytest.mark.parametrize("name", ["cka", "cka_rbf", "cka_minibatch", "rsa"])
@pytest.mark.parametrize("n", [32, 128])
def test_independent_views_have_no_relation(name, n):
    measure = similarity.get(name)
    found = [measure(*np.random.default_rng(seed).normal(size=(2, n, 512))) for seed in range(20)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(20) + 0.01


@pytest.mark.parametrize("shape", [(20, 6), (6, 20)])
def test_a_view_in_its_own_span_keeps_all_distances_about_its_mean(shape):
    x = np.random.default_rng(0).normal(5, 1, shape)
    found = _span(x)
    assert found.shape == (shape[0], min(shape))
    assert pdist(found) == pytest.approx(pdist(x))
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.linalg.norm(x - x.mean(axis=0), axis=1))


@pytest.mark.parametrize(("n", "expected"), [(32, 0.94), (128, 0.80), (512, 0.50)])
def test_naive_cka_finds_a_relation_in_noise(n, expected):
    x, y = np.random.default_rng(0).normal(size=(2, n, 512))
    assert similarity.get("cka_naive")(x, y) == pytest.approx(expected, abs=0.01)
    assert abs(similarity.get("cka")(x, y)) < 0.05


def test_mmd_equals_the_sum_over_pairs(samples):
    x, y = samples
    pool = np.concatenate([x, y])
    squares = ((pool[:, None] - pool[None]) ** 2).sum(axis=-1)
    gamma = 1 / np.median(squares[np.triu_indices(80, 1)])
    k = [rbf_kernel(a, b, gamma) for a, b in ((x, x), (y, y), (x, y))]
    expected = (k[0].sum() - 40 + k[1].sum() - 40) / (40 * 39) - 2 * k[2].mean()
    assert similarity.get("mmd")(x, y) == pytest.approx(expected)


def test_energy_distance_agrees_with_scipy_in_one_dimension():
    x, y = np.random.default_rng(0).normal(size=(2, 3000, 1)) + np.array([[[0]], [[0.8]]])
    assert similarity.get("energy")(x, y) == pytest.approx(energy_distance(x[:, 0], y[:, 0]) ** 2, rel=0.02)


def test_sliced_wasserstein_agrees_with_scipy_in_one_dimension():
    x, y = np.random.default_rng(0).normal(size=(2, 500, 1)) + np.array([[[0]], [[2.0]]])
    # A shift moves all mass by the same length, so the first and the second moment agree.
    assert similarity.get("sliced_wasserstein")(x, y) == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=0.02)


def test_frechet_agrees_with_the_matrix_square_root(samples):
    x, y = samples
    sx, sy = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx + sy - 2 * sqrtm(sx @ sy).real)
    assert similarity.get("frechet")(x, y) == pytest.approx(expected)


def test_subspace_agrees_with_scipy(samples):
    x, y = samples
    bases = [np.linalg.svd(a - a.mean(0), full_matrices=False)[2][:10].T for a in (x, y)]
    assert similarity.get("subspace")(x, y) == pytest.approx(np.mean(np.cos(subspace_angles(*bases)) ** 2))


def test_covariance_alignment_is_right_on_average_where_the_naive_form_is_not():
    scale = np.linspace(0.2, 2, 60)
    truth = (scale**2 @ scale[::-1] ** 2) / (scale**4).sum()
    found, naive = [], []
    for seed in range(60):
        x, y = np.random.default_rng(seed).normal(size=(2, 25, 60)) * np.stack([scale, scale[::-1]])[:, None]
        found.append(similarity.get("covariance")(x, y))
        a, b = np.cov(x.T), np.cov(y.T)
        naive.append((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert np.mean(found) == pytest.approx(truth, abs=0.03)
    assert abs(np.mean(naive) - truth) > 0.05


def test_debiased_cka_agrees_with_u_centred_inner_products(samples):
    def u_centred(k):
        n = len(k)
        k = k - np.diag(np.diag(k))
        k = k - k.sum(0) / (n - 2) - k.sum(1)[:, None] / (n - 2) + k.sum() / ((n - 1) * (n - 2))
        return k - np.diag(np.diag(k))

    a, b = (u_centred(x @ x.T) for x in samples)
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert similarity.get("cka")(*samples) == pytest.approx(expected)


def test_svcca_agrees_with_scikit_learn(samples):
    x, y = samples[0][:, :5], samples[1][:, :4]
    u, v = CCA(n_components=4, max_iter=5000, tol=1e-12).fit_transform(x, y)
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(u.T, v.T, strict=True)])
    assert similarity.get("svcca")(x, y) == pytest.approx(expected, abs=1e-4)


def test_a_distance_is_two_for_samples_that_are_far_apart_and_keeps_groups_together():
    x = np.random.default_rng(0).normal(size=(80, 5))
    measure = similarity.get("a_distance")
    far = x + np.where(np.arange(80) < 40, 0, 20)[:, None]
    assert measure.on(far)(np.arange(40), np.arange(40, 80)) == 2.0
    # Four copies of each object: only a classifier that has seen the object can know its side.
    copies = np.repeat(np.random.default_rng(0).normal(size=(40, 200)), 4, axis=0)
    objects = np.repeat(np.arange(40), 4)
    sides = np.arange(80), np.arange(80, 160)
    assert measure.on(copies)(*sides) > 1.5
    assert abs(measure.on(copies, groups=objects)(*sides)) < 0.7


def test_scales_come_from_the_reference():
    rng = np.random.default_rng(0)
    pool = np.concatenate([rng.normal(size=(40, 5)), rng.normal(1, 1, (40, 5)), rng.normal(0, 50, (40, 5))])
    first, second = np.arange(40), np.arange(40, 80)
    measure = similarity.get("mmd")
    with_outliers, without = measure.on(pool)(first, second), measure.on(pool, pool[:40])(first, second)
    assert without == pytest.approx(measure.on(pool[:80], pool[:40])(first, second))
    assert with_outliers < without / 2


@pytest.mark.parametrize("measure", ALL, ids=ids)
def test_bad_samples_are_one_clear_error(measure):
    good = np.random.default_rng(0).normal(size=(20, 5))
    nan, constant = good.copy(), np.ones((20, 5))
    nan[3, 2] = np.nan
    for bad, words in ((nan, "not finite"), (constant, "vary"), (good[:3], "rows"), (good[:, 0], "shape")):
        with pytest.raises(DataError, match=words):
            measure.on(bad, bad if measure.paired else None)(np.arange(3), np.arange(3))
    if measure.paired:
        with pytest.raises(DataError, match="two views"):
            measure(good, good[:10])
    else:
        with pytest.raises(DataError, match="one feature space"):
            measure(good, good[:, :3])


def test_unknown_measure_lists_the_known():
    with pytest.raises(ValueError, match="mmd, mmd_multi"):
        similarity.get("fid")
