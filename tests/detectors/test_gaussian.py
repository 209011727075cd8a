import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import chi2, kstest
from sklearn.covariance import OAS, LedoitWolf
from sklearn.decomposition import PCA

from anomaly_transfer.detectors import gaussian
from anomaly_transfer.detectors.gaussian import (
    COVARIANCES,
    GaussianDetector,
    Moments,
    chi_square_threshold,
    fit_gaussian,
    mahalanobis,
)
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features


@pytest.mark.parametrize(("name", "theirs"), [("ledoit-wolf", LedoitWolf), ("oas", OAS)])
@given(st.integers(2, 60), st.integers(1, 40), st.integers(1, 5), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_equals_scikit_learn_in_one_pass_or_many(name, theirs, n, d, n_batches, seed):
    x = np.random.default_rng(seed).normal(size=(n, d)) ** 3 + 100
    theirs = theirs().fit(x)
    moments = Moments()
    for batch in np.array_split(x, min(n_batches, n)):
        moments.update(batch)
    assert np.allclose(moments.mean, theirs.location_)
    assert np.allclose(moments.covariance(name), theirs.covariance_, rtol=1e-8, atol=1e-10)
    if d > 1:  # of one channel, all shrinkages are the same
        assert np.isclose(moments.shrinkage(name), theirs.shrinkage_, atol=1e-7)
    assert np.allclose(mahalanobis(x, *moments.gaussian("x", name)) ** 2, theirs.mahalanobis(x), rtol=1e-5)


def test_a_large_mean_costs_no_digits():
    x = np.random.default_rng(0).normal(size=(200, 6))
    far = Moments().update(x[:50] + 1e7).update(x[50:] + 1e7)
    assert np.allclose(far.covariance(), Moments().update(x).covariance(), rtol=1e-6)


def test_where_all_directions_vary_alike_there_is_nothing_to_shrink_towards():
    """Plus and minus each axis: the covariance is the scaled identity, to the last bit; as scikit-learn decides."""
    x = np.concatenate([np.eye(4), -np.eye(4)])
    one = np.arange(5.0)[:, None]
    for data in (x, one):
        assert Moments().update(data).shrinkage("ledoit-wolf") == LedoitWolf().fit(data).shrinkage_ == 0
    assert Moments().update(x).shrinkage("oas") == OAS().fit(x).shrinkage_ == 1
    # Several data sets at once are told apart.
    both = np.stack([x, x * [1, 2, 3, 4]])
    assert Moments().update(both).shrinkage().tolist() == pytest.approx([0, LedoitWolf().fit(both[1]).shrinkage_])


def test_diagonal_and_identity_are_distances_in_standard_deviations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)) * [1, 2, 3, 4], rng.normal(size=(9, 4))
    mean, variance = x.mean(axis=0), x.var(axis=0)
    moments = Moments().update(x)
    of_channels = cdist(y, mean[None], "seuclidean", V=variance)[:, 0]
    assert np.allclose(mahalanobis(y, *moments.gaussian("x", "diagonal")), of_channels)
    euclidean = cdist(y, mean[None])[:, 0] / np.sqrt(variance.mean())
    assert np.allclose(mahalanobis(y, *moments.gaussian("x", "identity")), euclidean)


def test_largest_and_smallest_components_share_the_distance_out():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(n, 12)) * np.geomspace(10, 0.1, 12) for n in (4000, 50))
    moments = Moments().update(x)
    whole, largest, smallest = (moments.gaussian("x", "ledoit-wolf", c) for c in ("all", "largest", "smallest"))
    squares = [mahalanobis(y, *part) ** 2 for part in (whole, largest, smallest)]
    assert np.allclose(squares[0], squares[1] + squares[2])
    kept = PCA(n_components=0.99).fit(x)
    assert largest[1].shape == (kept.n_components_, 12)
    # Directions, as subspaces, are those of scikit-learn.
    directions = np.linalg.qr(largest[1].T)[0]
    assert np.allclose(np.linalg.norm(kept.components_ @ directions, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("components", ["all", "largest", "smallest"])
def test_fewer_images_than_channels_and_constant_channels_are_no_trouble(covariance, components):
    rng = np.random.default_rng(0)
    x = np.hstack([rng.normal(size=(5, 20)), np.full((5, 3), 7.0)]).astype("f4")
    detector = GaussianDetector(covariance=covariance, components=components).fit(Features.of(a=x))
    assert np.isfinite(detector.anomaly_score(Features.of(a=x[:3]))).all()


@pytest.mark.parametrize("parameter", ["covariance", "components"])
def test_unknown_estimates_list_the_choices(parameter):
    x = Features.of(a=np.random.default_rng(0).normal(size=(9, 2)).astype("f4"))
    with pytest.raises(ValueError, match="choose from"):
        GaussianDetector(**{parameter: "guess"}).fit(x)


def test_fitting_holds_one_batch_at_a_time(tmp_path):
    import tracemalloc

    def peak(n):
        array = np.lib.format.open_memmap(tmp_path / f"{n}.npy", "w+", "f4", (n, 64))
        array[:] = np.random.default_rng(0).normal(size=(n, 64))
        features = Features.of(a=np.load(tmp_path / f"{n}.npy", mmap_mode="r"))
        tracemalloc.start()
        GaussianDetector().fit(features)
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found

    assert peak(40_000) < 1.1 * peak(4_000)


def test_many_at_once_equal_one_at_a_time():
    x = np.random.default_rng(0).normal(size=(5, 30, 7))
    mean, whitening = fit_gaussian(x)
    for i in range(5):
        alone = fit_gaussian(x[i])
        assert np.allclose(mean[i], alone[0])
        assert np.allclose(whitening[i], alone[1])


@pytest.mark.parametrize("n", [3, 40])
def test_working_on_some_data_sets_at_a_time_changes_nothing(monkeypatch, n):
    """The one that does not vary gets the floor of all of them, in whatever part it is."""
    x = np.random.default_rng(0).normal(size=(10, n, 6)).astype(np.float32)
    x[4] = 1.0
    whole = Moments().update(x[:, :2]).update(x[:, 2:]).gaussian()
    monkeypatch.setattr(gaussian, "TOGETHER", 3)
    moments = Moments().update(x[:, :2]).update(x[:, 2:])
    assert max(len(part) for part in moments.whitenings()) == 3
    assert all(np.array_equal(a, b) for a, b in zip(whole, moments.gaussian(), strict=True))


def test_whitening_makes_the_data_standard():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 4)) @ rng.normal(size=(4, 4)) + 3
    mean, whitening = fit_gaussian(x)
    white = (x - mean) @ whitening.T
    assert np.allclose(np.cov(white.T), np.eye(4), atol=0.02)


def test_squared_distances_of_a_gaussian_follow_chi_square():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    mean, whitening = fit_gaussian(rng.normal(size=(50_000, 6)) @ mixing)
    distances = mahalanobis(rng.normal(size=(2000, 6)) @ mixing, mean, whitening)
    assert kstest(distances**2, chi2(6).cdf).pvalue > 0.001
    assert np.mean(distances > chi_square_threshold(0.1, 6)) == pytest.approx(0.1, abs=0.025)


def test_the_score_is_the_sum_over_levels_and_a_level_can_be_chosen():
    rng = np.random.default_rng(0)
    train, test = (
        Features.of(a=rng.normal(size=(40, 5)).astype("f4"), b=rng.normal(size=(40, 3)).astype("f4")) for _ in range(2)
    )
    both = GaussianDetector().fit(train)
    one = GaussianDetector(levels=("b",)).fit(train)
    assert np.allclose(both.anomaly_score(test), both.level_distances(test).sum(axis=1))
    assert np.allclose(one.anomaly_score(test), both.level_distances(test)[:, 1])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_distance_has_no_unit(scale):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(50, 8)), rng.normal(size=(10, 8))
    plain = mahalanobis(test, *fit_gaussian(train))
    assert np.allclose(mahalanobis(scale * test + 7, *fit_gaussian(scale * train + 7)), plain, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_rounding_is_no_variation_whatever_the_unit(scale):
    """Spreads of less, and of more, than a millionth of the values themselves."""
    noise = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(DataError, match="do not vary in colour"):
        Moments().update(scale * (1 + 5e-7 * noise)).gaussian("colour")
    mean, whitening = Moments().update(scale * (1 + 2e-6 * noise)).gaussian()
    assert np.allclose(mean, scale)
    assert np.isfinite(whitening).all()


def test_one_component_is_left_on_either_side():
    """Where all directions vary alike, none carries less than a hundredth; a single channel is the smallest itself."""
    moments = Moments().update(np.concatenate([np.eye(5), -np.eye(5)]))
    shapes = [moments.gaussian("x", "ledoit-wolf", c)[1].shape for c in ("smallest", "largest")]
    assert shapes == [(1, 5), (4, 5)]
    x = np.arange(9.0)[:, None]
    whole, smallest = (Moments().update(x).gaussian("x", "ledoit-wolf", c) for c in ("all", "smallest"))
    assert np.allclose(mahalanobis(x, *smallest), mahalanobis(x, *whole))


@pytest.mark.parametrize("components", ["largest", "smallest"])
def test_a_single_channel_is_the_largest_and_the_smallest_component(components):
    x = np.random.default_rng(0).normal(3, 2, (50, 1)).astype(np.float32)
    train, test = Features.of(a=x[:40]), Features.of(a=x[40:])
    some, every = (GaussianDetector(components=c).fit(train).anomaly_score(test) for c in (components, "all"))
    assert some == pytest.approx(every, rel=1e-6)
