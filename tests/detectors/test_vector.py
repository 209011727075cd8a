"""SVM, forest and pseudo-negatives: what they rest on, and that they are scikit-learn's."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM
from tests.conftest import pooled_features

from anomaly_transfer import detectors
from anomaly_transfer.data.images import ImageArray
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features
from anomaly_transfer.features.pixels import LEVEL as PIXELS
from anomaly_transfer.features.pixels import pixels


def two_channels(n):
    x = np.random.default_rng(0).normal(0, [1.0, 100.0], (n, 2)).astype(np.float32)
    return Features.of(level=x)


def test_the_svm_is_that_of_scikit_learn():
    train, test = pooled_features(80), pooled_features(40, seed=1, shift=1.0)
    detector = detectors.make("svm@low").fit(train)
    x, y = (detector.joined(part) for part in (train, test))
    machine = OneClassSVM(gamma="scale", nu=0.1).fit(x)
    assert np.allclose(detector.anomaly_score(test), -machine.decision_function(y), atol=1e-3)
    # At most a tenth of the training images may be on the wrong side.
    assert (detector.anomaly_score(train) > 1e-3).mean() <= 0.1
    assert (detectors.make("svm@low").set_params(nu=0.5).fit(train).anomaly_score(train) > 1e-3).mean() > 0.2


def test_the_forest_is_that_of_scikit_learn_and_grows_again_the_same():
    train, test = pooled_features(80), pooled_features(40, seed=1)
    detector = detectors.make("forest@low", seed=3).fit(train)
    x, y = (detector.joined(part).astype(np.float32) for part in (train, test))
    expected = -IsolationForest(random_state=3).fit(x).score_samples(y)
    assert np.allclose(detector.anomaly_score(test), expected)
    assert not np.array_equal(
        detector.anomaly_score(test), detectors.make("forest@low", seed=4).fit(train).anomaly_score(test)
    )


def test_channels_of_features_weigh_the_same_and_pixels_do_not():
    spread = {}
    for method, level in (("svm", "level"), ("svm-pixels", PIXELS)):
        loud = Features.of(**{level: two_channels(500)["level"]})
        detector = detectors.make(method).fit(loud)
        spread[method] = detector.joined(loud).std(axis=0)
    # A quiet channel is not made louder than the floor allows: a tenth of the median.
    assert spread["svm"][1] == pytest.approx(5 * spread["svm"][0], rel=0.1)
    assert spread["svm-pixels"][1] == pytest.approx(100 * spread["svm-pixels"][0], rel=0.1)


def test_a_level_counts_the_same_however_many_channels_it_has():
    detector = detectors.make("svm").fit(pooled_features(200))
    x = detector.joined(pooled_features(200))
    low, high = np.square(x[:, :6]).sum(), np.square(x[:, 6:]).sum()
    assert low == pytest.approx(high, rel=1e-3)


def test_pca_keeps_what_varies():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 30)) + 0.01 * rng.normal(size=(100, 30))
    detector = detectors.make("svm-pca").fit(Features.of(**{PIXELS: plane.astype(np.float32)}))
    assert detector.state_["components"].shape == (2, 30)
    assert detector.support_vectors_.shape[1] == 2


@pytest.mark.parametrize("method", ["pseudo-negatives", "pseudo-negatives-wide"])
def test_noise_about_the_origin_teaches_what_lies_nearer_to_it(method):
    train, same = pooled_features(200, shift=3.0), pooled_features(100, seed=1, shift=3.0)
    detector = detectors.make(method).fit(train)
    nearer, farther = (pooled_features(100, seed=2, shift=shift) for shift in (0.0, 6.0))
    labels = np.repeat([0, 1], 100)
    found = {
        name: roc_auc_score(labels, np.concatenate([detector.anomaly_score(f) for f in (same, part)]))
        for name, part in (("nearer", nearer), ("farther", farther))
    }
    assert found["nearer"] > 0.95
    assert found["farther"] < 0.5, "what is farther from the origin than the normal looks more normal still"


def test_pixels_are_the_pictures_themselves():
    grey = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    found = pixels(ImageArray(grey))
    assert found.levels == (PIXELS,)
    assert np.allclose(found[PIXELS], grey.reshape(5, -1) / 255)
    colour = np.random.default_rng(0).integers(0, 256, (5, 64, 48, 3), dtype=np.uint8)
    assert pixels(ImageArray(colour))[PIXELS].shape == (5, 32 * 32 * 3)


def test_colour_among_grey_is_one_clear_error():
    rng = np.random.default_rng(0)
    grey, colour = (ImageArray(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in ((9, 8, 8), (9, 8, 8, 3)))
    detector = detectors.make("svm-pixels").fit(pixels(grey))
    with pytest.raises(DataError, match="grey and others in colour"):
        detector.anomaly_score(pixels(colour))
