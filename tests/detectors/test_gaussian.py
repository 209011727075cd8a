import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest
from sklearn.covariance import LedoitWolf

from anomaly_transfer.detectors.gaussian import GaussianDetector, fit_gaussian, ledoit_wolf, mahalanobis
from anomaly_transfer.features import Features


@given(st.integers(2, 60), st.integers(1, 40), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_equals_scikit_learn(n, d, seed):
    x = np.random.default_rng(seed).normal(size=(n, d)) ** 3
    theirs = LedoitWolf().fit(x)
    mean, covariance, shrinkage = ledoit_wolf(torch.from_numpy(x))
    assert np.allclose(mean, theirs.location_)
    assert np.allclose(covariance, theirs.covariance_, rtol=1e-8, atol=1e-12)
    assert np.isclose(shrinkage, theirs.shrinkage_, atol=1e-8)
    ours = mahalanobis(x, *fit_gaussian(x))
    assert np.allclose(ours**2, theirs.mahalanobis(x), rtol=1e-6)


def test_many_at_once_equal_one_at_a_time():
    x = np.random.default_rng(0).normal(size=(5, 30, 7))
    mean, whitening = fit_gaussian(x)
    for i in range(5):
        alone = fit_gaussian(x[i])
        assert np.allclose(mean[i], alone[0])
        assert np.allclose(whitening[i], alone[1])


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
