"""Every measure: identity, symmetry, invariances, zero where there is nothing, agreement with other implementations."""

from itertools import permutations

import numpy as np
import pytest
from scipy.linalg import sqrtm, subspace_angles
from scipy.spatial.distance import cdist, pdist
from scipy.stats import energy_distance, ks_2samp, spearmanr, wasserstein_distance
from sklearn.covariance import LedoitWolf
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel

from anomaly_transfer import similarity
from anomaly_transfer.errors import DataError
from anomaly_transfer.similarity.base import Measure
from anomaly_transfer.similarity.paired import _ratio, _span
from anomaly_transfer.similarity.unpaired import _folds, _ridge, hsic

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


def test_a_measure_is_of_the_kind_that_it_stands_among():
    assert [measure.paired for measure in ALL] == [measure in PAIRED for measure in ALL]
    assert len(ALL) == len(PAIRED) + len(UNPAIRED)


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


def orthonormal(n, k, seed=0):
    """Columns about zero, each of length one, at right angles."""
    x = np.random.default_rng(seed).normal(size=(n, k))
    return np.linalg.qr(x - x.mean(axis=0))[0]


def test_two_directions_of_known_correlations_and_lengths():
    """Each direction of the first view, of length a, has one partner in the second, of correlation r."""
    q = orthonormal(30, 4)
    a, r = np.array([3.0, 1.0]), np.array([0.9, 0.4])
    x, y = q[:, :2] * a, q[:, :2] * r + q[:, 2:] * np.sqrt(1 - r**2)
    known = {
        "svcca": r.mean(),
        "pwcca": (a @ r) / a.sum(),
        "procrustes": 1 - (a @ r) ** 2 / ((a @ a) * 2),
        "cka_naive": (a**2 @ r**2) / np.sqrt((a**4).sum() * 2),
    }
    for name, value in known.items():
        assert similarity.get(name)(5 + x @ rotation(2), y @ rotation(2, 1)) == pytest.approx(value), name
    # The second view's lengths are all one: its directions count alike.
    assert similarity.get("pwcca")(y, x) == pytest.approx(_pwcca_of(y, x))


def _pwcca_of(x, y):
    """By its definition, with canonical directions from covariances."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    inner = np.linalg.solve(x.T @ x, x.T @ y) @ np.linalg.solve(y.T @ y, y.T @ x)
    squares, vectors = np.linalg.eig(inner)
    h = x @ vectors.real
    weight = np.abs((h / np.linalg.norm(h, axis=0)).T @ x).sum(axis=1)
    return (weight @ np.sqrt(squares.real)) / weight.sum()


def test_cca_looks_at_ten_leading_components():
    q = orthonormal(60, 25)
    x = q[:, :15] * np.geomspace(10, 1, 15)
    ninth, tenth, eleventh = (x.copy() for _ in range(3))
    for view, column in ((ninth, 8), (tenth, 9), (eleventh, 10)):
        view[:, column:] = q[:, column + 10 : 25] * np.geomspace(10, 1, 15)[column:]
    found = [similarity.get("svcca")(x, view) for view in (ninth, tenth, eleventh)]
    assert found == pytest.approx([0.8, 0.9, 1.0], abs=1e-6)
    # Columns that repeat add no component.
    few = x[:, :4]
    assert similarity.get("svcca")(few, np.hstack([few, few])) == pytest.approx(1.0)


def test_rsa_is_the_rank_correlation_of_distances(samples):
    assert similarity.get("rsa")(*samples) == pytest.approx(spearmanr(*map(pdist, samples)).statistic)


def test_rbf_cka_is_that_of_its_kernels(samples):
    k, l = (rbf_kernel(x, gamma=1 / np.median(pdist(x, "sqeuclidean"))) for x in samples)  # noqa: E741
    assert similarity.get("cka_rbf")(*samples) == pytest.approx(hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l)))


def test_minibatches_are_of_32_rows_or_a_few_more():
    x, y = np.random.default_rng(0).normal(size=(2, 100, 5))
    y += x
    for n, n_parts in ((20, 1), (63, 1), (64, 2), (95, 2), (100, 3)):
        parts = [np.array_split(view[:n], n_parts) for view in (x, y)]
        products = [(a @ a.T, b @ b.T) for a, b in zip(*parts, strict=True)]
        cross, one, two = (sum(hsic(pair[i], pair[j]) for pair in products) for i, j in ((0, 1), (0, 0), (1, 1)))
        assert similarity.get("cka_minibatch")(x[:n], y[:n]) == pytest.approx(cross / np.sqrt(one * two))


@pytest.mark.parametrize(("first", "second"), [(-1.0, 2.0), (2.0, -1.0), (0.0, 2.0), (-1.0, -1.0)])
def test_a_square_that_is_not_positive_is_no_relation(first, second):
    assert _ratio(1.0, first, second) == 0
    assert _ratio(1.0, 1.0, 4.0) == 0.5


def test_hsic_is_the_sum_over_distinct_rows():
    n = 6
    k, l = (a + a.T for a in np.random.default_rng(0).normal(size=(2, n, n)))  # noqa: E741
    rows = range(n)
    pairs = [k[i, j] * l[i, j] for i, j in permutations(rows, 2)]
    triples = [k[i, j] * l[i, q] for i, j, q in permutations(rows, 3)]
    fours = [k[i, j] * l[q, r] for i, j, q, r in permutations(rows, 4)]
    assert hsic(k, l) == pytest.approx(np.mean(pairs) - 2 * np.mean(triples) + np.mean(fours))


def test_distances_by_their_definitions_for_samples_of_unequal_size():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 6)), rng.normal(0.5, 2, (19, 6)) @ rotation(6)
    between = cdist(x, y).mean()
    assert similarity.get("energy")(x, y) == pytest.approx(2 * between - pdist(x).mean() - pdist(y).mean())
    median = np.median(pdist(np.concatenate([x, y]), "sqeuclidean"))

    def mmd(factor):
        def kernel(squares):
            return np.exp(-squares / (factor * median)).mean()

        within = [kernel(pdist(part, "sqeuclidean")) for part in (x, y)]
        return sum(within) - 2 * kernel(cdist(x, y, "sqeuclidean"))

    assert similarity.get("mmd")(x, y) == pytest.approx(mmd(1))
    assert similarity.get("mmd_multi")(x, y) == pytest.approx(np.mean([mmd(f) for f in (0.25, 0.5, 1, 2, 4)]))
    sx, sy = np.cov(x.T), np.cov(y.T)
    frechet = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx + sy - 2 * sqrtm(sx @ sy).real)
    assert similarity.get("frechet")(x, y) == pytest.approx(frechet)
    squares = [hsic(part @ part.T, part @ part.T) for part in (x, y)]
    assert similarity.get("covariance")(x, y) == pytest.approx((sx * sy).sum() / np.sqrt(np.prod(squares)))
    # Fewer columns than dimensions of a subspace: it is all of space.
    assert similarity.get("subspace")(x, y) == pytest.approx(1.0)


def test_a_subspace_has_no_more_dimensions_than_the_smaller_sample():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 40)), rng.normal(size=(6, 40))
    bases = [np.linalg.svd(a - a.mean(0), full_matrices=False)[2][:5].T for a in (x, y)]
    for pair in ((x, y), (y, x)):
        assert similarity.get("subspace")(*pair) == pytest.approx(np.mean(np.cos(subspace_angles(*bases)) ** 2))


def test_the_domain_classifier_is_a_ridge_with_both_sides_weighing_the_same():
    rng = np.random.default_rng(0)
    x, sign, held = rng.normal(size=(30, 8)), np.repeat([1.0, -1.0], [10, 20]), rng.normal(size=(7, 8))
    weight = np.where(sign > 0, 0.05, 0.025)
    centred = x - weight @ x
    ridge = Ridge(alpha=0.01 * (weight @ centred**2).sum()).fit(x, sign, sample_weight=weight)
    assert _ridge(x, sign, held) == pytest.approx(ridge.predict(held))


@pytest.mark.parametrize("objects", [2, 3, 12, 40])
def test_folds_hold_every_row_out_once_and_keep_objects_together_where_they_can(objects):
    groups, first = np.arange(40) % objects, 16
    folds = _folds(groups, first)
    assert np.array_equal(np.sum(folds, axis=0), np.ones(40))
    assert len(folds) == 5
    side = np.arange(40) < first
    for held in folds:
        assert side[~held].any()
        assert not side[~held].all()
        if objects < 40:
            assert not set(groups[held]) & set(groups[~held])
        else:  # by row: either side in equal shares
            assert [held[side].sum(), held[~side].sum()] == pytest.approx([16 / 5, 24 / 5], abs=1)
    # An object of its own for either side: by object, a fold would lack one of them.
    assert np.array_equal(_folds(np.repeat([0, 1], [16, 24]), first), _folds(np.arange(40), first))


def test_overlap_is_one_minus_the_gap_between_distances_to_either_half(samples):
    x, y = samples
    gaps = []
    for fitted, held in ((y[::2], y[1::2]), (y[1::2], y[::2])):
        gaussian = LedoitWolf().fit(fitted)
        gaps.append(ks_2samp(gaussian.mahalanobis(x), gaussian.mahalanobis(held)).statistic)
    measure = similarity.get("overlap")
    assert measure(x, y) == pytest.approx(1 - np.mean(gaps))
    # One object, or one of which the other half is a single row: cut by row.
    pool, rows = np.concatenate([x, y]), (np.arange(40), np.arange(40, 80))
    for of_second in (np.zeros(40), np.arange(40) == 7):
        groups = np.concatenate([np.arange(40), 100 + of_second])
        assert measure.on(pool, groups=groups)(*rows) == pytest.approx(measure(x, y))


@pytest.mark.parametrize("measure", ALL, ids=ids)
def test_four_rows_are_enough_and_three_are_not(measure):
    x, y = np.random.default_rng(0).normal(size=(2, 9, 3))
    statistic = measure.on(x, y) if measure.paired else measure.on(np.concatenate([x, y]))
    other = 0 if measure.paired else 9
    assert np.isfinite(statistic(np.arange(4), other + np.arange(4)))
    for few, many in ((3, 4), (4, 3)):
        with pytest.raises(DataError, match="at least 4 rows on each side, not 3"):
            statistic(np.arange(few), other + np.arange(many))


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
