import numpy as np
import pytest
from tests.conftest import features_of_kind

from anomaly_transfer import detectors, models
from anomaly_transfer.errors import StoreError, WeightsError


@pytest.mark.parametrize("method", sorted(detectors.methods()))
def test_a_kept_model_scores_as_before(method, some_images, store, tmp_path):
    model, features = models.fit(some_images, method, "efficientnet_lite0", 64, store=store)
    model.save(tmp_path / "model")
    again = models.load(tmp_path / "model")
    assert again.description == model.description
    assert np.array_equal(
        again.detector.anomaly_score(again.features(some_images, store)), model.detector.anomaly_score(features)
    )
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("method", ["gaussian", "patch-memory"])
def test_the_model_is_fitted_on_all_images_after_the_threshold(method, some_images, store):
    model, features = models.fit(some_images, method, "efficientnet_lite0", 64, store=store)
    assert model.description.threshold is not None
    fresh = detectors.make(method, seed=0).fit(features)
    assert np.array_equal(model.detector.anomaly_score(features), fresh.anomaly_score(features))


def test_the_threshold_is_not_that_of_images_fitted_on():
    """Twenty images in sixteen dimensions: their own scores are too low."""
    detector, features = detectors.make("gaussian"), features_of_kind("pooled", 20)
    value = models.threshold(detector, features, 0.05)
    assert value > 1.1 * np.quantile(detector.fit(features).anomaly_score(features), 0.95)


def test_the_threshold_flags_as_many_new_normal_images_as_it_says():
    detector = detectors.make("gaussian")
    value = models.threshold(detector, features_of_kind("pooled", 400), 0.05)
    detector.fit(features_of_kind("pooled", 400))
    share = (detector.anomaly_score(features_of_kind("pooled", 2000, seed=1)) > value).mean()
    assert 0.02 < share < 0.09


def test_ten_images_are_needed_for_a_threshold():
    assert models.threshold(detectors.make("gaussian"), features_of_kind("pooled", 9), 0.05) is None


def test_half_a_model_is_a_clear_error(some_images, store, tmp_path):
    model, _ = models.fit(some_images, "gaussian", "efficientnet_lite0", 64, store=store)
    model.save(tmp_path / "model")
    whole = (tmp_path / "model" / models.ARRAYS).read_bytes()
    (tmp_path / "model" / models.ARRAYS).write_bytes(whole[:100])
    with pytest.raises(StoreError, match="fit` again"):
        models.load(tmp_path / "model")
    with pytest.raises(StoreError, match="does not hold a model"):
        models.load(tmp_path / "nowhere")


def test_other_weights_are_refused(some_images, store, tmp_path):
    model, _ = models.fit(some_images, "gaussian", "efficientnet_lite0", 64, store=store)
    model.description = model.description.model_copy(update={"weights_sha256": "0" * 64})
    model.save(tmp_path / "model")
    with pytest.raises(WeightsError, match="other weights"):
        models.load(tmp_path / "model")
