"""Where the defect is, before and after fine-tuning."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.errors import DataError
from anomaly_transfer.store import Store
from anomaly_transfer.studies import finetuning, localisation, protocol
from anomaly_transfer.studies.localisation import DETECTORS, FROZEN, LAST, STATES
from anomaly_transfer.training import early_stopping

SMOKE = profiles.get("smoke")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def heat(store):
    whole = benchmarks.get("surfaces").load("brick", SMOKE.limit)
    (fold,) = protocol.folds(whole, 0, SMOKE.tuned_folds, SMOKE.tuned_test)
    return localisation.heat(whole, fold, "rate-1e-4", 0, SMOKE, store)


def test_maps_are_of_the_test_images_and_of_each_network(heat):
    shape = (len(heat.rows), 32, 32)
    assert set(heat.maps) == {(detector, state) for detector in DETECTORS for state in STATES}
    assert all(maps.shape == shape for maps in heat.maps.values())
    assert all(scores.shape == shape[:1] for scores in heat.scores.values())
    assert heat.epochs[FROZEN] == 0
    assert heat.epochs[LAST] == SMOKE.tuned_epochs
    changed = [not np.allclose(heat.maps[detector, FROZEN], heat.maps[detector, LAST]) for detector in DETECTORS]
    assert all(changed)
    labels = benchmarks.get("surfaces").load("brick", SMOKE.limit).annotations.open()["anomaly_class"].to_numpy()
    assert (heat.positive == (labels[heat.rows] != "normal")).all()


def test_the_stop_is_that_of_the_validation(heat, store, monkeypatch):
    whole = benchmarks.get("surfaces").load("brick", SMOKE.limit)
    (fold,) = protocol.folds(whole, 0, SMOKE.tuned_folds, SMOKE.tuned_test)
    for epoch in (0, 1):
        monkeypatch.setattr(early_stopping, "best", lambda *_, epoch=epoch: epoch)
        found = localisation.heat(whole, fold, "rate-1e-4", 0, SMOKE, store)
        state = {0: FROZEN, 1: LAST}[epoch]
        assert np.array_equal(found.maps["patch-shared", localisation.STOPPED], heat.maps["patch-shared", state])


@pytest.mark.parametrize("detector", DETECTORS)
def test_maps_epoch_by_epoch_are_those_of_each_network(heat, store, detector):
    whole = benchmarks.get("surfaces").load("brick", SMOKE.limit)
    (fold,) = protocol.folds(whole, 0, SMOKE.tuned_folds, SMOKE.tuned_test)
    rows = heat.rows[[3, 0]]
    found = localisation.over_epochs(whole, fold, "rate-1e-4", 0, SMOKE, rows, detector, store)
    assert found.shape == (SMOKE.tuned_epochs + 1, 2, 32, 32)
    np.testing.assert_allclose(found[0], heat.maps[detector, FROZEN][[3, 0]], rtol=1e-4)
    np.testing.assert_allclose(found[-1], heat.maps[detector, LAST][[3, 0]], rtol=1e-4)


def test_each_image_alone(heat):
    table = heat.by_image("patch-shared")
    assert list(table.columns) == list(STATES)
    assert len(table) == heat.positive.sum()
    place = table.index[0]
    expected = roc_auc_score(heat.masks[place].ravel(), heat.maps["patch-shared", FROZEN][place].ravel())
    assert table.loc[place, FROZEN] == pytest.approx(expected)


def test_the_border_can_be_left_out(heat):
    scores = np.ones((2, 32, 32), np.float32)
    scores[:, 4:-4, 4:-4] = 0.5
    masks = [np.zeros((32, 32), bool), np.zeros((32, 32), bool)]
    masks[1][:3, :3] = True
    made = dataclasses.replace(heat, masks=masks, maps={("patch-shared", FROZEN): scores})
    assert made.border("patch-shared") == pytest.approx(2.0)
    inner = made.inner()
    assert inner.maps["patch-shared", FROZEN].shape == (2, 24, 24)
    # A defect at the border is gone with it.
    assert inner.positive.tolist() == [False, False]


def test_a_record_tells_metrics_and_paired_gains(store):
    frame = localisation.run("surfaces", "brick", "rate-1e-4", 0, "smoke", store).frame()
    assert len(frame) == len(DETECTORS) * len(STATES) * 3
    assert frame["value"].between(0, 1).all()
    frozen = frame[frame["state"] == FROZEN]
    assert (frozen[["gain", "gain low", "gain high", "epoch"]] == 0).all(axis=None)
    last = frame[frame["state"] == LAST]
    assert last["gain"].to_numpy() == pytest.approx(last["value"].to_numpy() - frozen["value"].to_numpy(), abs=1e-4)


def test_a_fold_is_told_in_pixels_even_if_some_masks_are_missing(heat, store, monkeypatch):
    whole = benchmarks.get("surfaces").load("brick", SMOKE.limit)
    (fold,) = protocol.folds(whole, 0, SMOKE.tuned_folds, SMOKE.tuned_test)
    known, first = whole.masks, np.flatnonzero(heat.positive)[0]
    monkeypatch.setattr(
        type(whole),
        "masks",
        lambda self, rows, side: [None if i == first else mask for i, mask in enumerate(known(rows, side))],
    )
    fewer = localisation.heat(whole, fold, "rate-1e-4", 0, SMOKE, store)
    assert len(fewer.rows) == len(heat.rows) - 1
    assert heat.rows[first] not in fewer.rows
    for key, maps in heat.maps.items():
        assert np.allclose(fewer.maps[key], np.delete(maps, first, axis=0), atol=1e-4)


def test_bad_input_is_one_clear_error(store):
    with pytest.raises(DataError, match="no masks"):
        localisation.run("elpv", "mono", finetuning.DEFAULT, 0, "smoke", store)
    with pytest.raises(ValueError, match="mahalanobis"):
        localisation.run("surfaces", "brick", "quick", 0, "smoke", store)
