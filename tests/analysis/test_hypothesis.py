"""Part I in numbers: which classes count, and what normal images add."""

import numpy as np
import pandas as pd
import pytest

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


def test_each_class_counts_once_at_the_last_level_of_its_network():
    parts = [related(), related(near=2, region="defect"), related(near=0, start="random")]
    found = hypothesis.last_level(pd.concat([*parts, related(near=1, n=4, benchmark="mnist")]))
    assert set(found["level"]) == {"last"}
    assert set(found["region"]) == {"image"}
    assert "control" not in set(found["anomaly_class"])
    assert found.groupby(["benchmark", "start"]).size().to_dict() == {
        ("elpv", "imagenet"): 10, ("elpv", "random"): 10, ("mnist", "imagenet"): 4
    }  # fmt: skip
    assert found.groupby(["benchmark", "start"])["near"].sum().to_list() == [7, 0, 1]
    # Networks may end at levels of other names.
    other = related(start="other").replace({"level": {"last": "head"}})
    assert set(hypothesis.last_level(pd.concat([related(), other]))["level"]) == {"last", "head"}


def test_another_class_of_things_is_no_defect():
    both = pd.concat([related(n=1), related(n=1, benchmark="mnist"), related(n=1, benchmark="surfaces")])
    assert set(hypothesis.of_defects(both)["benchmark"]) == {"elpv", "surfaces"}


def test_gains_are_of_the_same_draws_and_classes_at_every_k():
    found = hypothesis.gains(shots())
    assert set(found["start"]) == {"random"}
    assert found["value"].tolist() == pytest.approx(np.tile(np.repeat([0.1, 0.2, 0.3], 9), 1))
    without = shots()[lambda frame: frame["anomaly_class"] == "a"]
    assert found.equals(hypothesis.gains(without)), "a class without the largest k must not count"
