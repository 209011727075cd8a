"""Part I in numbers: which classes count, and what intervals say."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from anomaly_transfer.analysis import hypothesis
from anomaly_transfer.studies import few_shot


def related(near=7, n=10, start="imagenet", region="image", benchmark="elpv"):
    where = {"benchmark": benchmark, "category": "c", "start": start, "region": region}
    rows = [
        {
            **where,
            "level": level,
            "anomaly_class": str(i),
            "photographs": 0.5,
            "nearness": 0.9 if i < near else 0.1,
            "low": 0.6 if i < near else -0.1,
            "near": i < near,
            "nearer": i < near,
            "separability": 0.95 if i % 2 else 0.7,
            "margin": 2.0 if i == 1 else 0.1,
        }
        for level in ("first", "last")
        for i in range(n)
    ]
    control = {**rows[0], "anomaly_class": "control", "near": False}
    return pd.DataFrame([*rows, {**control, "level": "last"}])


def shots(gain=0.1):
    rows = [
        {
            "benchmark": benchmark, "category": "c", "start": start, "task": "detection", "level": few_shot.ALL, "k": k,
            "draw": draw, "anomaly_class": name, "value": 0.6 + draw / 100 + (start == "random+normal") * gain * weight,
        }
        for weight, benchmark in enumerate("xyz", 1)
        for start in ("random", "random+normal", "imagenet")
        for name, most in (("a", 20), ("b", 5))
        for k in (1, 5, 20)
        if k <= most
        for draw in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_claims_count_each_class_once_at_the_last_level():
    parts = [related(), related(near=2, region="defect"), related(near=0, start="random")]
    parts += [related(near=4, benchmark="surfaces"), related(benchmark="mvtec_features").assign(photographs=np.nan)]
    both = pd.concat([*parts, related(near=1, benchmark="mnist")])
    found = hypothesis.claims(both, shots()).set_index("what")
    images = found.loc["near normal: real defects, whole images"]
    assert (images["value"], images["cases"]) == (0.7, 10)
    assert images["low"] == pytest.approx(0.397, abs=1e-3)  # Wilson, 7 of 10
    # Of patches there is one level only; here both count.
    assert found.loc["near normal: real defects, patches on them", "value"] == pytest.approx(0.2)
    assert found.loc["nearness: real defects, whole images", "value"] == 0.9
    assert found.loc["nearness: real defects, whole images", "low"] < 0.9
    assert found.loc["near normal: drawn defects, whole images", "value"] == 0.4
    # Where features are all there is, photographs are no rival.
    assert found.loc["near normal: objects known by features only, whole images", "cases"] == 10
    assert found.loc["nearer to normal than to photographs: whole images", "cases"] == 20
    # Another class of things is no defect: it is told apart.
    check = found.loc["other classes of things called near, whole images"]
    assert (check["value"], check["cases"]) == (0.1, 10)
    separable = found[found["claim"] == "P1.d"]
    assert separable["value"].tolist() == [0.5, 0.8]


def test_gains_are_of_the_same_draws_and_classes_at_every_k():
    found = hypothesis.gains(shots())
    assert set(found["start"]) == {"random"}
    assert found["value"].tolist() == pytest.approx(np.tile(np.repeat([0.1, 0.2, 0.3], 9), 1))
    without = shots()[lambda frame: frame["anomaly_class"] == "a"]
    assert found.equals(hypothesis.gains(without)), "a class without the largest k must not count"


def test_the_interval_of_a_gain_is_student_s_over_categories():
    found = hypothesis.claims(related(), shots()).set_index("claim").loc["P1.c"]
    expected = ttest_1samp([0.1, 0.2, 0.3], 0).confidence_interval(0.95)
    assert (found["value"], found["low"], found["high"]) == pytest.approx((0.2, expected.low, expected.high))
    assert found["cases"] == 3


def test_nothing_measured_is_said_so():
    found = hypothesis.claims(related().assign(low=np.nan), shots()).set_index("what")
    assert not found.index.str.contains("near normal").any()
    assert found.loc["nearer to normal than to photographs: whole images", "cases"] == 0
    assert np.isnan(found.loc["nearer to normal than to photographs: whole images", "value"])
