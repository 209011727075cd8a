import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from anomaly_transfer import benchmarks, detectors, profiles
from anomaly_transfer.data.splits import SPLITS
from anomaly_transfer.features import cached
from anomaly_transfer.networks import backbones
from anomaly_transfer.studies import comparison, detection


def test_each_rival_is_compared_on_the_same_images(store):
    record = comparison.run("surfaces", "brick", "gaussian", 0, "smoke", store)
    frame = record.frame().set_index("rival")
    assert list(frame.index) == list(comparison.RIVALS)
    # Folds of equal weight would make it exact; the means are of folds with other numbers of anomalies.
    assert frame["more"].to_numpy() == pytest.approx((frame["own"] - frame["value"]).to_numpy(), abs=1e-3)
    assert (frame["more low"] <= frame["more"]).all()
    assert (frame["more"] <= frame["more high"]).all()
    own = detection.run("surfaces", "brick", "gaussian", 0, "smoke", store, "grouped")
    assert frame["own"].iloc[0] == pytest.approx(detection.interval(own).value, abs=1e-4)
    # A detector does not differ from itself.
    assert tuple(frame.loc["gaussian", ["more", "more low", "more high"]]) == (0, 0, 0)
    assert (frame.drop(index="gaussian")["more"] != 0).all()


def test_ranks_of_a_detector_that_always_wins():
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.uniform(0.5, 0.6, (12, 3)), columns=["a", "b", "c"])
    values["best"] = 0.9
    order, p_values, p_value = comparison.ranks(values)
    assert order.index[0] == "best"
    assert order["best"] == 1
    assert order.sum() == 1 + 2 + 3 + 4
    assert p_value < 0.001
    assert (p_values.loc["best", ["a", "b", "c"]] < 0.05).all()
    assert p_values.loc["a", "b"] > 0.05


def test_ranks_of_equals_are_not_told_apart():
    values = pd.DataFrame(np.random.default_rng(1).uniform(size=(12, 4)), columns=list("abcd"))
    _, p_values, p_value = comparison.ranks(values)
    assert p_value > 0.05
    assert (p_values.to_numpy() > 0.05).all()


def test_costs_are_measured_for_each_detector(store):
    category = benchmarks.get("surfaces").load("brick", 120)
    fold = SPLITS["grouped"](category.annotations.open(), 0)[0]
    sizes = profiles.get("smoke")
    found = comparison.costs(category, fold, ["gaussian", "combined", "svm-pixels"], sizes, store)
    assert list(found.index) == ["gaussian", "combined", "svm-pixels"]
    assert (found[["fit", "score", "memory"]] > 0).all().all()
    # It holds a Gaussian of its own, and more.
    assert found.loc["combined", "memory"] > found.loc["gaussian", "memory"]
    features = cached.features(store, category.images, backbones.pretrained(sizes.backbone), 64)
    detector = detectors.make("gaussian").fit(features.take(fold.train))
    kinds = category.annotations.open()["anomaly_class"].to_numpy()[fold.test]
    known = np.isin(kinds, ["normal", *benchmarks.get("surfaces").target_classes])
    scores = detector.anomaly_score(features.take(fold.test))
    assert found.loc["gaussian", "AUROC"] == pytest.approx(roc_auc_score(kinds[known] != "normal", scores[known]))


def test_more_normal_images_make_a_better_gaussian(store):
    category = benchmarks.get("surfaces").load("brick", 240)
    fold = SPLITS["grouped"](category.annotations.open(), 0)[0]
    found = comparison.learning_curve(category, fold, ["gaussian"], [4, 1000], 2, profiles.get("smoke"), store)
    few, everything = (part["AUROC"] for _, part in found.groupby("images"))
    assert len(few) == 2
    assert len(everything) == 1
    assert found["images"].max() == len(fold.train)
    assert few.nunique() == 2, "each draw takes other images"
    assert everything.item() > few.mean()
    whole = comparison.costs(category, fold, ["gaussian"], profiles.get("smoke"), store)
    assert everything.item() == pytest.approx(whole.loc["gaussian", "AUROC"])
