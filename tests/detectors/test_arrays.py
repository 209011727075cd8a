"""Detectors on plain arrays, as estimators of scikit-learn among others."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.conftest import features_of_kind, map_features, pooled_features

from anomaly_transfer import detectors
from anomaly_transfer.detectors.base import Localiser, threshold
from anomaly_transfer.detectors.gaussian import COVARIANCES, GaussianDetector
from anomaly_transfer.detectors.vector import JoinedDetector
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.pixels import LEVEL as PIXELS

METHODS = {name: detectors.make(name, memory_bank=50, seed=0) for name in sorted(detectors.methods())}
ON_VECTORS = [name for name, detector in METHODS.items() if detector.kind in ("pooled", "pixels")]
ON_MAPS = [name for name, detector in METHODS.items() if detector.kind == "maps"]


def arrays(method):
    """Normal images, and new ones, as a detector takes them: one array each."""
    if method in ON_MAPS:
        return map_features(30)["fine"], map_features(9, seed=1, shift=2.0)["fine"]
    return pooled_features(30)["high"], pooled_features(9, seed=1, shift=2.0)["high"]


# All of them pass. Detectors that work on maps are left out: scikit-learn would check them with two axes.
@parametrize_with_checks([METHODS[name] for name in ON_VECTORS])
def test_what_works_on_vectors_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", METHODS)
def test_scikit_learn_is_told_what_cannot_be_checked(method):
    """Else it would check nothing, and say that all is well."""
    assert get_tags(METHODS[method]).input_tags.two_d_array == (method in ON_VECTORS)
    assert isinstance(METHODS[method], Localiser) == (method not in ON_VECTORS)


@pytest.mark.parametrize("method", ON_VECTORS + ON_MAPS)
def test_an_array_is_features_of_one_level(method):
    train, new = arrays(method)
    detector = clone(METHODS[method])
    level = PIXELS if detector.kind == "pixels" else "features"
    expected = clone(detector).fit(Features.of(**{level: train}))
    scores = detector.fit(train).anomaly_score(new)
    assert scores.shape == (9,)
    assert detector.levels_ == (level,)
    assert detector.n_features_in_ == expected.n_features_in_ == train.shape[1]
    assert np.array_equal(scores, expected.anomaly_score(Features.of(**{level: new})))
    assert np.array_equal(detector.score_samples(new), -scores)
    if method in ON_MAPS:
        assert np.array_equal(detector.anomaly_map(new), expected.anomaly_map(Features.of(features=new)))
        assert np.array_equal(detector.scored(new)[0], scores)
    if isinstance(detector, JoinedDetector):
        assert np.array_equal(detector.joined(new), expected.joined(Features.of(**{level: new})))


@pytest.mark.parametrize("method", ON_VECTORS + ON_MAPS)
def test_an_array_may_be_in_either_precision(method):
    train, new = arrays(method)
    detector = clone(METHODS[method])
    single = detector.fit(train).anomaly_score(new)
    double = detector.fit(train.astype(np.float64)).anomaly_score(new.astype(np.float64))
    assert double == pytest.approx(single, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("method", ON_VECTORS + ON_MAPS)
def test_the_threshold_is_that_of_the_same_features(method):
    train, new = arrays(method)
    detector = clone(METHODS[method])
    level = PIXELS if detector.kind == "pixels" else "features"
    assert threshold(detector, train, 0.1) == threshold(clone(detector), Features.of(**{level: train}), 0.1)
    assert np.array_equal(detector.anomaly_score(new), clone(detector).fit(train).anomaly_score(new))
    assert threshold(detector, train[:9], 0.1) is None


@pytest.mark.parametrize("method", ON_VECTORS + ON_MAPS)
def test_labels_are_of_no_account(method):
    train, _ = arrays(method)
    plain, labelled = clone(METHODS[method]).fit(train), clone(METHODS[method]).fit(train, np.arange(30) % 2)
    assert plain.state_.keys() == labelled.state_.keys()
    assert all(np.array_equal(plain.state_[name], labelled.state_[name]) for name in plain.state_)


def test_the_gaussian_of_an_array_is_that_of_scikit_learn():
    """In double precision, which a mean as large as this one takes."""
    rng = np.random.default_rng(0)
    train, new = (rng.normal(1e6, [1, 2, 3], (n, 3)) for n in (50, 9))
    ours, theirs = GaussianDetector().fit(train), LedoitWolf().fit(train)
    assert ours.mean_["features"] == pytest.approx(theirs.location_, rel=1e-12)
    assert ours.precision_["features"] == pytest.approx(theirs.precision_, rel=1e-6)
    assert ours.anomaly_score(new) == pytest.approx(np.sqrt(theirs.mahalanobis(new)), rel=1e-6)
    assert ours.level_distances(new)[:, 0] == pytest.approx(ours.anomaly_score(new))


def test_what_was_fitted_has_names_by_level_and_only_then():
    features = pooled_features(30)
    detector = GaussianDetector(components="largest")
    assert not hasattr(detector, "mean_")
    detector.fit(features)
    assert {level: len(mean) for level, mean in detector.mean_.items()} == {"low": 6, "high": 10}
    assert detector.n_features_in_ == 16
    for level in features.levels:
        rank = len(detector.whitening_[level])
        assert rank < features[level].shape[1]
        assert np.linalg.matrix_rank(detector.precision_[level]) == rank


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_pipeline_scales_clones_and_sets_parameters(covariance):
    train, new = (array * np.geomspace(0.01, 100, 10) + 5 for array in arrays("gaussian"))
    pipeline = make_pipeline(StandardScaler(), GaussianDetector()).set_params(gaussiandetector__covariance=covariance)
    scale = StandardScaler().fit(train)
    expected = detectors.make("gaussian", covariance=covariance).fit(scale.transform(train))
    assert np.array_equal(clone(pipeline).fit(train).score_samples(new), expected.score_samples(scale.transform(new)))


def test_columns_of_a_table_are_told_by_their_names():
    train, new = (pd.DataFrame(array).add_prefix("channel ") for array in arrays("svm"))
    detector, nameless = detectors.make("svm").fit(train), detectors.make("svm").fit(train.to_numpy())
    assert np.array_equal(detector.anomaly_score(new), nameless.anomaly_score(new.to_numpy()))
    with pytest.raises(ValueError, match="feature names should match"):
        detector.anomaly_score(new[new.columns[::-1]])


@pytest.mark.parametrize("method", ON_VECTORS + ON_MAPS)
def test_an_array_that_cannot_be_used_is_one_clear_error(method):
    train, new = arrays(method)
    detector = clone(METHODS[method])
    with pytest.raises(ValueError, match=r"1 sample.*minimum of 2"):
        detector.fit(train[:1])
    with pytest.raises(DataError, match="do not vary"):
        detector.fit(np.ones_like(train))
    detector.fit(train)
    with pytest.raises(ValueError, match=f"{train.shape[1] - 1} features.*expecting {train.shape[1]}"):
        detector.anomaly_score(new[:, 1:])
    new[3] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        detector.anomaly_score(new)
    with pytest.raises(ValueError, match="no level 'stage6'; choose from"):
        detectors.make(f"{method}@stage6").fit(train)
    with pytest.raises(DataError, match="at least 10"):
        detector.out_of_fold_scores(train[:9])


def test_an_array_of_the_other_kind_is_refused():
    vectors, maps = pooled_features(30)["high"], map_features(30)["fine"]
    for method in ON_MAPS:
        with pytest.raises(DataError, match="works on maps features"):
            clone(METHODS[method]).fit(vectors)
    for method in ON_VECTORS:
        with pytest.raises(ValueError, match="dim 4"):
            clone(METHODS[method]).fit(maps)
    for array in (vectors, maps):
        with pytest.raises(DataError, match="works on pooled features and on maps"):
            clone(METHODS["combined"]).fit(array)


@pytest.mark.parametrize("method", ["gaussian", "combined"])
def test_an_array_is_not_taken_for_several_levels(method):
    features = features_of_kind(METHODS[method].kind, 12)
    detector = clone(METHODS[method]).fit(features)
    with pytest.raises(ValueError, match="no level 'low'; choose from features"):
        detector.anomaly_score(np.zeros((2, detector.n_features_in_)))
