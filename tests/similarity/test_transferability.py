"""Transferability estimates against dense formulas, known limits and labels that mean nothing."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_transfer.errors import DataError
from anomaly_transfer.similarity import transferability as T


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 40)
    return rng.normal(size=(120, 6)) + 1.5 * np.eye(6)[np.unique(y, return_inverse=True)[1]], y


def test_estimates_and_truth_fall_when_the_labels_are_shuffled(task):
    x, y = task
    shuffled = np.random.default_rng(1).permutation(y)
    for estimate in (T.hscore, T.logme, T.probe_accuracy, T.knn_accuracy):
        assert estimate(x, y) > estimate(x, shuffled)
    assert T.probe_accuracy(x, shuffled) == pytest.approx(1 / 3, abs=0.12)
    assert T.probe_accuracy(x, y) > 0.7


def test_hscore_approaches_classes_minus_one_when_classes_are_far_apart(task):
    x, y = task
    far = x + 100 * np.eye(6)[np.unique(y, return_inverse=True)[1]]
    assert 1.9 < T.hscore(far, y) <= 2.0


@pytest.mark.parametrize("d", [3, 60])
def test_logme_is_the_maximum_of_the_dense_evidence(d):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = rng.normal(size=(40, d))
    x[:, 0] += y

    def negative_evidence(log_precisions, target):
        alpha, beta = np.exp(log_precisions)
        covariance = np.eye(40) / beta + x @ x.T / alpha
        return -multivariate_normal(np.zeros(40), covariance).logpdf(target) / 40

    best = [
        -minimize(negative_evidence, [0, 0], args=((y == k).astype(float),), method="Nelder-Mead").fun for k in (0, 1)
    ]
    assert T.logme(x, y) == pytest.approx(np.mean(best), abs=2e-3)


def test_leep_knows_a_source_class_that_is_the_label():
    y = np.arange(60) % 3
    sure = np.eye(3)[y] * 0.97 + 0.01
    assert T.leep(sure, y) == pytest.approx(np.log(0.98 * 0.98 + 2 * 0.01 * 0.01))
    assert T.leep(np.full((60, 3), 1 / 3), y) == pytest.approx(np.log(1 / 3))
    with pytest.raises(DataError, match="sum to one"):
        T.leep(3 * sure, y)


def test_hscore_is_the_trace_of_the_explained_variance(task):
    """In the features' own metric: shrunk, with the class means' covariance shrunk by the same share."""
    x, y = task
    estimate = LedoitWolf().fit(x)
    means = sum(np.outer(y == name, x[y == name].mean(axis=0) - x.mean(axis=0)) for name in "abc")
    explained = (1 - estimate.shrinkage_) * means.T @ means / len(x)
    assert T.hscore(x, y) == pytest.approx(np.trace(np.linalg.inv(estimate.covariance_) @ explained))
    # One feature is enough.
    assert 0 < T.hscore(x[:, :1], y) < 1


def test_leep_is_the_likelihood_of_labels_by_the_source_s_classes():
    """By its definition, image by image."""
    rng = np.random.default_rng(0)
    theta, y = rng.dirichlet(np.ones(4), 30), np.arange(30) % 3
    joint = np.array([[sum(theta[i, z] for i in range(30) if y[i] == k) / 30 for z in range(4)] for k in range(3)])
    given = joint / joint.sum(axis=0)
    likelihood = [sum(given[y[i], z] * theta[i, z] for z in range(4)) for i in range(30)]
    assert T.leep(theta, y) == pytest.approx(np.mean(np.log(likelihood)))
    # A class of the source that never occurs says nothing.
    assert T.leep(np.hstack([theta, np.zeros((30, 1))]), y) == pytest.approx(T.leep(theta, y))
    with pytest.raises(DataError, match="sum to one"):
        T.leep(np.hstack([theta + 0.5, np.full((30, 1), -2.0)]), y)


def test_accuracy_is_balanced_over_classes():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [90, 20])
    x = rng.normal(size=(110, 5)) + 0.7 * y[:, None]
    folds = StratifiedGroupKFold(5)
    for found, classifier in (
        (T.knn_accuracy(x, y), KNeighborsClassifier(5)),
        (T.probe_accuracy(x, y), RidgeClassifier(alpha=5, class_weight="balanced")),
    ):
        told = cross_val_predict(make_pipeline(StandardScaler(), classifier), x, y, groups=np.arange(110), cv=folds)
        assert found == pytest.approx(balanced_accuracy_score(y, told))


def test_groups_stay_in_one_fold():
    rng = np.random.default_rng(0)
    x, y, groups = (
        np.repeat(rng.normal(size=(30, 50)), 4, axis=0),
        np.repeat(np.arange(30) % 2, 4),
        np.repeat(np.arange(30), 4),
    )
    assert T.knn_accuracy(x, y, k=1) == 1.0
    assert T.knn_accuracy(x, y, groups, k=1) < 0.8


def test_bad_input_is_one_clear_error(task):
    x, y = task
    with pytest.raises(DataError, match="two classes"):
        T.hscore(x, np.zeros(120))
    with pytest.raises(DataError, match="one label a row"):
        T.logme(x, y[:-1])
    with pytest.raises(DataError, match="not finite"):
        T.knn_accuracy(np.full((120, 2), np.inf), y)
