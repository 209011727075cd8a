"""Where the power of a Gaussian lies, on data whose truth is known."""

import numpy as np
import pytest

from anomaly_transfer import benchmarks
from anomaly_transfer.analysis import gaussianity
from anomaly_transfer.analysis.gaussianity import Folds
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.splits import Fold
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features


def known(shifted=slice(None), shift=0.0, n=600, d=20, seed=0, n_train=200, smallest=0.01):
    """Normal images with standard deviations from 1 to the smallest; anomalies are shifted by so many of them."""
    rng = np.random.default_rng(seed)
    widths = np.geomspace(1, smallest, d)
    x = rng.normal(size=(n, d)) * widths
    positive = np.arange(n) >= n - n // 4
    x[np.ix_(positive, np.arange(d)[shifted])] += shift * widths[shifted]
    rows = np.arange(n)
    folds = [Fold(rows[part : part + n_train], rows[400:]) for part in (0, 200)]
    return Folds(Features.of(net=x.astype("f4")), folds, positive)


@pytest.mark.parametrize(("shifted", "block"), [(slice(0, 4), 1), (slice(16, 20), 5)])
def test_the_block_that_holds_the_difference_is_found(shifted, block):
    found = gaussianity.by_component(known(shifted, 2.0), "net", n_blocks=5).set_index("block")
    assert found["value"].idxmax() == block
    assert found.loc[block, "low"] > 0.9
    assert (found.drop(block)["value"] < 0.65).all()
    assert found["variance"].is_monotonic_decreasing
    assert found["variance"].sum() == pytest.approx(1)


def test_more_images_help_what_needs_them():
    data = known(slice(10, 20), 1.0)
    found = gaussianity.by_size(data, "net", (10, 200, 10_000), ("ledoit-wolf", "identity"), draws=3)
    assert set(found["n"]) == {10, 200}
    value = found.set_index(["n", "covariance"])["value"]
    assert value[200, "ledoit-wolf"] > value[10, "ledoit-wolf"] + 0.03
    # Small directions are what a Euclidean distance cannot see, with any number of images.
    assert value[200, "ledoit-wolf"] > value[200, "identity"] + 0.08
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()


def test_thresholds_hold_where_the_gaussian_is_known_and_not_where_images_are_few():
    many = gaussianity.calibration(known(smallest=0.7), ["net"]).loc["net"]
    assert many["chi-square, fitted"] == pytest.approx(0.05, abs=0.04)
    assert many["distance, new / fitted"] == pytest.approx(1, abs=0.1)
    # Shrinkage blows up what hardly varies, so that distances are too small for the chi-square.
    assert gaussianity.calibration(known(), ["net"]).loc["net", "chi-square, new"] < 0.02
    few = gaussianity.calibration(known(d=60, n_train=40), ["net"]).loc["net"]
    assert few["distance, new / fitted"] > 1.2
    assert few["out-of-fold, new"] < 0.15


def test_folds_are_of_the_recommended_split_and_the_headline_classes():
    whole = benchmarks.get("elpv").load("mono", 200)
    table = whole.annotations.open()
    features = Features.of(net=np.zeros((len(table), 2), "f4"))
    data = Folds.of(whole, features)
    tested = np.concatenate([fold.test for fold in data.folds])
    assert set(table["anomaly_class"].iloc[tested]) == {NORMAL, "p = 1"}
    for fold in data.folds:
        groups = table["group"].to_numpy()
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert not data.positive[fold.train].any()
    with pytest.raises(DataError, match="no fold"):
        Folds.of(whole.taken(np.flatnonzero(table["anomaly_class"] == NORMAL)), features)
