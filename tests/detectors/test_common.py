"""What every detector must do; a new one is tested here by itself."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from tests.conftest import features_of_kind

from anomaly_transfer import detectors
from anomaly_transfer.detectors.base import LEAST, Detector, Localiser
from anomaly_transfer.errors import DataError, DeviceError, LabelLeakError
from anomaly_transfer.features.features import Features

ALL = sorted(detectors.methods())
LOCALISERS = [name for name in ALL if isinstance(detectors.make(name), Localiser)]


def made(method):
    return detectors.make(method, memory_bank=50, seed=0)


# Where all directions vary alike, as here, the smallest component is any one of them, and need not see the shift. Noise
# about the origin teaches nothing of what lies farther from it than the normal.
BLIND = ("gaussian-smallest", "pseudo-negatives", "pseudo-negatives-wide")


@pytest.mark.parametrize("method", [name for name in ALL if name not in BLIND])
def test_separates_what_is_separable_and_not_what_is_not(method):
    detector = made(method)
    detector.fit(features_of_kind(detector.kind, 60))
    same, other = (features_of_kind(detector.kind, 60, seed, shift) for seed, shift in ((1, 0.0), (2, 4.0)))
    normal, unusual = detector.anomaly_score(same), detector.anomaly_score(other)
    labels = np.repeat([0, 1], 60)
    assert roc_auc_score(labels, np.concatenate([normal, unusual])) > 0.95
    chance = detector.anomaly_score(features_of_kind(detector.kind, 60, seed=3))
    # Independent normal samples: one half within four standard errors of the AUROC.
    assert abs(roc_auc_score(labels, np.concatenate([normal, chance])) - 0.5) < 4 * np.sqrt(121 / (12 * 60 * 60))
    assert len(np.unique(normal)) > 50, "scores must not be constant"


@pytest.mark.parametrize("method", ALL)
def test_permuted_labels_give_one_half(method):
    detector = made(method)
    detector.fit(features_of_kind(detector.kind, 60))
    scores = np.concatenate(
        [detector.anomaly_score(features_of_kind(detector.kind, 60, s, shift)) for s, shift in ((1, 0.0), (2, 4.0))]
    )
    rng = np.random.default_rng(0)
    values = [roc_auc_score(rng.permutation(np.repeat([0, 1], 60)), scores) for _ in range(200)]
    assert abs(np.mean(values) - 0.5) < 0.02


@pytest.mark.parametrize("method", ALL)
def test_the_same_seed_gives_the_same_scores(method):
    features = features_of_kind(made(method).kind, 30)
    first, second = (made(method).fit(features).anomaly_score(features) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("method", ALL)
def test_the_order_of_images_does_not_matter(method):
    detector = made(method)
    detector.fit(features_of_kind(detector.kind, 30))
    test = features_of_kind(detector.kind, 20, seed=1)
    order = np.random.default_rng(0).permutation(20)
    assert np.allclose(detector.anomaly_score(test)[order], detector.anomaly_score(test.take(order)))


@pytest.mark.parametrize("method", ALL)
def test_bad_input_is_one_clear_error(method):
    detector = made(method)
    good = features_of_kind(detector.kind, 30)
    with pytest.raises(NotFittedError):
        detector.anomaly_score(good)
    with pytest.raises(DataError, match="at least 2"):
        detector.fit(good.take(np.array([0])))
    constant = Features.of(**{name: np.ones_like(array) for name, array in good.arrays.items()})
    with pytest.raises(DataError, match="do not vary"):
        detector.fit(constant)
    # The rows that it is fitted on, not others of the same array.
    beside = {name: np.concatenate([np.ones_like(array), array]) for name, array in good.arrays.items()}
    with pytest.raises(DataError, match="do not vary"):
        detector.fit(Features.of(**beside).take(np.arange(30)))
    broken = {name: array.copy() for name, array in good.arrays.items()}
    for array in broken.values():
        array[3] = np.nan
    with pytest.raises(DataError, match=r"not finite.*row 3"):
        detector.fit(Features.of(**broken))
    detector.fit(good)
    with pytest.raises(DataError, match="not finite"):
        detector.anomaly_score(Features.of(**broken))
    with pytest.raises(ValueError, match="no level"):
        detectors.make(f"{method}@nowhere").fit(good)
    other = features_of_kind("pooled" if detector.kind in ("maps", "both") else "maps", 30)
    with pytest.raises(DataError, match="works on"):
        detectors.make(method).fit(other)


@pytest.mark.parametrize("method", ALL)
def test_nan_in_any_level_is_found(method):
    good = features_of_kind(made(method).kind, 30)
    for level in good.levels:
        arrays = {name: array.copy() for name, array in good.arrays.items()}
        arrays[level][5] = np.inf
        with pytest.raises(DataError, match="not finite"):
            made(method).fit(Features.of(**arrays))


@pytest.mark.parametrize("method", ALL)
def test_scikit_learn_conventions(method):
    detector = made(method)
    features = features_of_kind(detector.kind, 20)
    assert detector.fit(features) is detector
    assert np.array_equal(detector.score_samples(features), -detector.anomaly_score(features))
    assert clone(detector).get_params() == detector.get_params()
    assert not hasattr(clone(detector), "state_")


@pytest.mark.parametrize("method", ALL)
def test_fitting_needs_more_channels_than_images(method):
    """n < d: two images, ten channels."""
    detector = made(method)
    features = features_of_kind(detector.kind, 2)
    assert np.isfinite(detector.fit(features).anomaly_score(features_of_kind(detector.kind, 5, seed=1))).all()


@pytest.mark.parametrize("method", LOCALISERS)
def test_the_map_points_at_the_anomaly(method):
    detector = made(method)
    detector.fit(features_of_kind(detector.kind, 60))
    maps = detector.anomaly_map(features_of_kind(detector.kind, 10, seed=1, shift=8.0))
    assert maps.shape == (10, 8, 8)
    for scores in maps:
        row, column = np.unravel_index(scores.argmax(), scores.shape)
        assert abs(row - 2) <= 1
        assert abs(column - 5) <= 1


def test_a_detector_that_reads_labels_fails():
    from anomaly_transfer import benchmarks

    annotations = benchmarks.get("elpv").load("mono", 60).annotations

    class Cheat(Detector):
        kind = "pooled"
        reads: str

        def _fit(self, features):
            return {"grade": annotations.open()["grade"].to_numpy()} if self.reads == "fit" else {}

        def _anomaly_score(self, features):
            return annotations.open()["grade"].to_numpy()

    cheat = Cheat()
    cheat.reads = "fit"
    with pytest.raises(LabelLeakError):
        cheat.fit(features_of_kind("pooled", 5))
    cheat.reads = "score"
    cheat.fit(features_of_kind("pooled", 5))
    with pytest.raises(LabelLeakError):
        cheat.anomaly_score(features_of_kind("pooled", 5))


def test_unknown_methods_list_the_choices():
    with pytest.raises(ValueError, match="gaussian"):
        detectors.make("isolation-tree")


@pytest.mark.parametrize("method", ALL)
def test_unknown_parameters_list_those_that_are_known(method):
    with pytest.raises(ValueError, match=r"has no parameter covarience; it has .*levels"):
        detectors.make(method, seed=0, covarience="oas")


def test_parameters_reach_the_detector_and_settings_of_a_run_those_that_have_them():
    assert detectors.make("gaussian", covariance="oas").covariance == "oas"
    assert detectors.make("patch-memory", seed=3, memory_bank=7).get_params() == {
        "levels": None,
        "memory_bank": 7,
        "candidates": 20_000,
        "seed": 3,
    }
    assert detectors.make("gaussian", seed=3, memory_bank=7).get_params() == detectors.make("gaussian").get_params()


@pytest.mark.parametrize("method", ALL)
def test_out_of_fold_scores_need_ten_images(method):
    """An error, and never the scores of an earlier fit."""
    detector = made(method)
    detector.out_of_fold_scores(features_of_kind(detector.kind, LEAST))
    with pytest.raises(DataError, match=r"9 image.*at least 10"):
        detector.out_of_fold_scores(features_of_kind(detector.kind, LEAST - 1))


def test_too_little_memory_says_what_to_lower(monkeypatch):
    def full(self, features):
        raise MemoryError

    monkeypatch.setattr(detectors.methods()["gaussian"], "_fit", full)
    with pytest.raises(
        DeviceError, match="GaussianDetector of 12 images: lower the image size, or the number of images"
    ):
        detectors.make("gaussian").fit(features_of_kind("pooled", 12))
