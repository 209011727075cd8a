"""Joining relations with few shots, and what predicts what."""

import numpy as np
import pandas as pd
import pytest

from anomaly_transfer.analysis import transfer_prediction
from anomaly_transfer.studies import few_shot, normal_similarity


@pytest.fixture
def tables():
    """Two categories, three starts, ten classes: AUROC falls with nearness, and training on normal images adds 0.1."""
    rng = np.random.default_rng(0)
    related, shots = [], []
    for category in ("one", "two"):
        for start in ("random", "imagenet", "imagenet+normal"):
            for number in range(10):
                case = {"benchmark": "b", "category": category, "seed": 0, "start": start, "level": "head"}
                case["anomaly_class"] = f"class {number}"
                near = number / 10
                row = {"measure": normal_similarity.PRIMARY, "region": "image", "anomaly": 1 - near, "excess": 1 - near}
                row |= {"photographs": rng.random(), "scale of photographs": rng.random()}
                row |= {"value against photographs": near, "low against photographs": near - 0.1}
                related.append(case | row)
                for draw in range(3):
                    value = 0.9 - 0.3 * near + 0.1 * start.endswith("+normal") + rng.normal(0, 0.001)
                    shots.append(case | {"task": "detection", "draw": draw, "k": 5, "value": value})
    shots.append(shots[0] | {"level": few_shot.ALL, "value": 0.0})
    return pd.DataFrame(related), pd.DataFrame(shots)


def test_joined_has_one_row_a_case_and_the_gain_where_there_is_one(tables):
    cases = transfer_prediction.join(*tables)
    assert len(cases) == 60
    gain = cases.set_index("start")[transfer_prediction.GAIN]
    assert gain["imagenet"].to_numpy() == pytest.approx(np.full(20, 0.1), abs=0.01)
    assert gain["random"].isna().all()
    assert gain["imagenet+normal"].isna().all()


def test_correlations_are_taken_within_groups(tables):
    cases = transfer_prediction.join(*tables)
    found = transfer_prediction.correlations(
        cases[cases["start"] == "imagenet"], transfer_prediction.DETECTION, "category"
    )
    assert found.loc["nearness"].to_numpy() == pytest.approx([-1, -1], abs=0.02)
    assert found.loc["distance to normal"].to_numpy() == pytest.approx([1, 1], abs=0.02)
    assert found.loc["distance to photographs"].abs().max() < 0.8
    assert transfer_prediction.correlations(cases.head(3), transfer_prediction.DETECTION, "category").isna().all().all()


def test_skill_is_on_groups_that_were_not_seen(tables):
    cases = transfer_prediction.join(*tables)
    cases = cases[cases["start"] == "imagenet"]
    found = transfer_prediction.skill(cases, transfer_prediction.DETECTION, "category")
    assert found.loc["nearness"].min() > 0.95
    assert found.loc["distance to photographs"].max() < 0.5
    # If the other group says the opposite, the prediction is worse than none.
    opposite = cases.assign(nearness=cases["nearness"].where(cases["category"] == "one", 1 - cases["nearness"]))
    assert transfer_prediction.skill(opposite, transfer_prediction.DETECTION, "category").loc["nearness"].max() < 0
