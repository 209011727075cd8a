import json
import resource
import shutil

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests.conftest import features_of_kind

from anomaly_transfer import atomic, detectors
from anomaly_transfer.app import models
from anomaly_transfer.app.images import read_images
from anomaly_transfer.data.images import read_mask
from anomaly_transfer.detectors import base
from anomaly_transfer.errors import DataError, StoreError, WeightsError
from anomaly_transfer.metrics import decision


@pytest.mark.parametrize("method", sorted(detectors.methods()))
def test_a_kept_model_scores_as_before(method, some_images, store, tmp_path):
    model = models.fit(some_images, method, "efficientnet_lite0", 64, store=store)
    model.save(str(tmp_path / "model"))
    again = models.load(str(tmp_path / "model"))
    assert again.description == model.description
    assert np.array_equal(again.score(some_images, store), model.score(some_images, store))
    written = {path.name: path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert set(written) == {"model.json", "model.safetensors", atomic.LIST}
    assert len(set(written.values())) == 1, "one of them can be read by fewer people"


def test_each_image_passes_the_network_once_whatever_a_detector_sees(some_images, store, monkeypatch):
    read = []
    original = type(some_images).__getitem__
    monkeypatch.setattr(type(some_images), "__getitem__", lambda *of: (read.append(of[1]), original(*of))[1])
    # The one that sees both first: it leaves what the others need.
    for method in ("combined", "gaussian", "patch-memory"):
        models.fit(some_images, method, "efficientnet_lite0", 64, store=store)
    assert sorted(read) == list(range(len(some_images)))


def test_above_the_threshold_an_image_is_called_anomalous(mvtec_folder, some_images, store):
    model = models.fit(some_images, "gaussian", "efficientnet_lite0", 64, store=store)
    images = read_images(mvtec_folder / "test")
    flagged, scores = model.predict(images, store), model.score(images, store)
    assert flagged.dtype == bool
    assert 0 < flagged.sum() < len(images)
    assert scores[flagged].min() > model.threshold >= scores[~flagged].max()


def test_without_a_threshold_nothing_is_called_anomalous(some_images, store):
    model = models.fit(some_images[:9], "gaussian", "efficientnet_lite0", 64, store=store)
    assert model.threshold is None
    with pytest.raises(DataError, match=r"no threshold: too few training images to set a threshold \(10 are needed\)"):
        model.predict(some_images, store)


@pytest.mark.parametrize("method", detectors.localising())
def test_a_heat_map_says_where_the_defect_is(method, mvtec_folder, some_images, store):
    model = models.fit(some_images, method, "efficientnet_lite0", 64, store=store)
    maps = model.heat_map(read_images(mvtec_folder / "test" / "hole"), store)
    assert maps.shape == (6, 64, 64)
    masks = [read_mask(path) for path in sorted((mvtec_folder / "ground_truth" / "hole").iterdir())]
    assert roc_auc_score(np.ravel(masks), maps.ravel()) > 0.8


def test_a_method_that_does_not_localise_names_those_that_do(some_images, store):
    model = models.fit(some_images, "gaussian", "efficientnet_lite0", 64, store=store)
    with pytest.raises(
        ValueError, match=r"gaussian gives one score an image and no heat map; these do: .*patch-memory"
    ):
        model.heat_map(some_images, store)


@pytest.mark.parametrize("method", ["gaussian", "patch-memory"])
def test_the_model_is_fitted_on_all_images_after_the_threshold(method, some_images, store):
    model = models.fit(some_images, method, "efficientnet_lite0", 64, store=store)
    assert model.threshold is not None
    features = model.features(some_images, store)
    fresh = detectors.make(method, seed=0).fit(features)
    assert np.array_equal(model.detector.anomaly_score(features), fresh.anomaly_score(features))


def test_the_threshold_is_not_that_of_images_fitted_on():
    """Twenty images in sixteen dimensions: their own scores are too low."""
    detector, features = detectors.make("gaussian"), features_of_kind("pooled", 20)
    value = base.threshold(detector, features, 0.05)
    assert value > 1.1 * np.quantile(detector.fit(features).anomaly_score(features), 0.95)


def test_the_threshold_flags_as_many_new_normal_images_as_it_says():
    detector = detectors.make("gaussian")
    value = base.threshold(detector, features_of_kind("pooled", 400), 0.05)
    detector.fit(features_of_kind("pooled", 400))
    share = (detector.anomaly_score(features_of_kind("pooled", 2000, seed=1)) > value).mean()
    assert 0.02 < share < 0.09


def test_ten_images_are_needed_for_a_threshold():
    assert base.threshold(detectors.make("gaussian"), features_of_kind("pooled", 9), 0.05) is None


def test_the_bound_on_false_alarms_holds_whatever_the_scores_are():
    """In 95 of 100 samples or more; the share of a uniform score above a threshold is one minus the threshold."""
    rng = np.random.default_rng(0)
    for n in (10, 21, 50, 60, 200):
        share = 1 - np.quantile(rng.random((4000, n)), 0.95, axis=1)
        within = (share <= decision.false_alarm_bound(n, 0.05)).mean()
        assert within > 0.94, n
    # No wider than it must be, where the quantile is one of the scores.
    share = 1 - np.quantile(rng.random((4000, 21)), 0.95, axis=1)
    assert (share <= decision.false_alarm_bound(21, 0.05)).mean() < 0.96


def test_so_many_images_are_enough():
    least = decision.images_needed(0.05)
    assert decision.false_alarm_bound(least - 1, 0.05) > 0.1
    assert all(decision.false_alarm_bound(n, 0.05) <= 0.1 for n in range(least, 1000))


def test_a_model_says_what_its_threshold_promises(some_images, store):
    found = models.fit(some_images, "gaussian", "efficientnet_lite0", 64, store=store).description
    assert found.false_alarm_bound == decision.false_alarm_bound(14, 0.05)
    assert "5% of new normal images; 14 images promise that it flags at most 30% (with 95% confidence)" in found.promise
    assert "these are few: from 129 on" in found.promise
    many = found.model_copy(update={"n_training_images": 129})
    assert "few" not in many.promise
    few = models.fit(some_images.take(range(9)), "gaussian", "efficientnet_lite0", 64, store=store).description
    assert (few.threshold, few.false_alarm_bound) == (None, None)
    assert few.promise == "too few training images to set a threshold (10 are needed)"


def test_half_a_model_is_a_clear_error(some_images, store, tmp_path):
    model = models.fit(some_images, "gaussian", "efficientnet_lite0", 64, store=store)
    model.save(tmp_path / "model")
    whole = (tmp_path / "model" / models.ARRAYS).read_bytes()
    (tmp_path / "model" / models.ARRAYS).write_bytes(whole[:100])
    with pytest.raises(StoreError, match="fit` again"):
        models.load(tmp_path / "model")
    with pytest.raises(StoreError, match="does not hold a model"):
        models.load(tmp_path / "nowhere")


def test_other_weights_are_refused(some_images, store, tmp_path):
    model = models.fit(some_images, "gaussian", "efficientnet_lite0", 64, store=store)
    model.description = model.description.model_copy(update={"weights_sha256": "0" * 64})
    model.save(tmp_path / "model")
    with pytest.raises(WeightsError, match="other weights"):
        models.load(tmp_path / "model")


def changed(folder, **values):
    path = folder / models.DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def swapped(folder):
    shutil.copy(folder.with_name("other") / models.ARRAYS, folder / models.ARRAYS)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: changed(folder, schema_version=models.SCHEMA + 1), "has schema_version 3, and this version"),
        (lambda folder: changed(folder, colour="red"), "model.json, colour: Extra inputs"),
        (lambda folder: changed(folder, n_training_images="many"), "model.json, n_training_images: Input should be"),
        (lambda folder: changed(folder, method="neighbours"), "are of two models"),
        (swapped, "are of two models"),
        (lambda folder: (folder / models.DESCRIPTION).write_text("[1]"), "schema_version None"),
        (lambda folder: (folder / models.DESCRIPTION).write_text("{"), "does not hold a model"),
        (lambda folder: (folder / models.DESCRIPTION).write_bytes(b"\xff"), "does not hold a model"),
    ],
)
def test_a_model_that_was_tampered_with_is_one_line(some_images, store, tmp_path, damage, message):
    for name, method in (("model", "gaussian"), ("other", "neighbours")):
        models.fit(some_images, method, "efficientnet_lite0", 64, store=store).save(tmp_path / name)
    damage(tmp_path / "model")
    with pytest.raises(StoreError, match=message) as found:
        models.load(tmp_path / "model")
    assert "\n" not in str(found.value)


def test_a_threshold_of_your_own_may_stand_in_the_description(some_images, store, tmp_path):
    models.fit(some_images, "gaussian", "efficientnet_lite0", 64, store=store).save(tmp_path / "model")
    changed(tmp_path / "model", threshold=7.0)
    assert models.load(tmp_path / "model").threshold == 7.0


def test_a_full_disk_leaves_the_earlier_model(some_images, store, tmp_path):
    model = models.fit(some_images, "gaussian", "efficientnet_lite0", 64, store=store)
    model.save(tmp_path / "model")
    before = (tmp_path / "model" / models.ARRAYS).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(DataError, match="cannot be written"):
            model.save(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "model" / models.ARRAYS).read_bytes() == before
