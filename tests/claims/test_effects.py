"""Effects against small frames whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from anomaly_transfer.claims import effects
from anomaly_transfer.studies import anomalib_comparison, decisions, linear_probe, localisation

WHERE = {"benchmark": "elpv", "category": "mono"}


def only(frame):
    assert list(frame.columns) == effects.CASE
    assert len(frame) == 1
    return frame.iloc[0]


def tuned_rules(values):
    """One seed a column of ``values``, one rule a key."""
    rows = [
        WHERE | {"kind": "rule", "variant": variant, "measure": rule, "seed": seed, "value": value}
        for (variant, rule), of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]
    return pd.DataFrame(rows)


def test_rules_are_compared_seed_by_seed():
    found = tuned_rules(
        {
            ("mahalanobis", "validation"): [0.80, 0.90],
            ("mahalanobis", "last epoch"): [0.70, 0.82],
            ("rate-1e-4", "last epoch"): [0.10, 0.10],
        }
    )
    row = only(effects.rules_apart(found, "validation", "last epoch"))
    assert row["case"] == "elpv mono"
    assert row["value"] == pytest.approx(0.09)
    assert row["high"] - row["value"] == pytest.approx(12.706 * 0.01, rel=1e-3)


def test_a_kind_of_stand_in_is_a_case_of_its_own():
    rules = {("mahalanobis", f"validation by {kind}"): [0.8, 0.8] for kind in effects.pseudo_anomalies.KINDS}
    rules["mahalanobis", "validation"] = [0.7, 0.7]
    found = effects.stand_ins_apart(tuned_rules(rules))
    assert list(found["case"]) == [f"elpv mono, {kind}" for kind in effects.pseudo_anomalies.KINDS]
    assert found["value"].to_numpy() == pytest.approx(0.1)


def test_the_objective_is_the_papers_minus_the_other():
    found = tuned_rules({("mahalanobis", "last epoch"): [0.9, 0.9, 0.9], ("euclidean", "last epoch"): [0.8, 0.8, 0.86]})
    row = only(effects.objective(found, "euclidean"))
    assert row["value"] == pytest.approx(0.08)
    assert row["low"] < row["value"] < row["high"]


def shots(values, k=5):
    rows = [
        WHERE
        | {"task": "detection", "level": "all", "anomaly_class": "p = 1", "k": k, "draw": draw}
        | {"start": start, "value": value}
        for start, of_draws in values.items()
        for draw, value in enumerate(of_draws)
    ]
    return pd.DataFrame(rows)


def test_doubtful_grades_are_no_defects():
    found = shots({"random": [0.5, 0.6], "random+normal": [0.6, 0.8]})
    doubtful = found.assign(anomaly_class="p = 1/3", value=0.0)
    row = only(effects.few_shot_gain(pd.concat([found, doubtful]), "random+normal", "random"))
    assert row["value"] == pytest.approx(0.15)


def test_starts_are_compared_draw_by_draw():
    found = shots({"random": [0.5, 0.6], "random+normal": [0.6, 0.8]})
    assert only(effects.few_shot_gain(found, "random+normal", "random"))["value"] == pytest.approx(0.15)
    assert only(effects.few_shot_gain(found, "random", "random+normal"))["value"] == pytest.approx(-0.15)


def detected(*rows):
    """Rows of detectors, as they are recorded: each with another metric and another group that count for nothing."""
    found = []
    for method, split, value, low, high, group, seed in rows:
        row = WHERE | {"method": method, "split": split, "seed": seed, "profile": "study", "group": group}
        row |= {"metric": "auroc", "value": value, "low": low, "high": high}
        found += [row, row | {"metric": "average_precision", "value": 0.3}, row | {"group": "all", "value": 0.2}]
    return pd.DataFrame(found)


def record(method, split, value, low, high, group="target", seed=0):
    return method, split, value, low, high, group, seed


def test_detectors_are_compared_by_the_recommended_split():
    found = detected(
        record("gaussian", "grouped", 0.9, 0.86, 0.93),
        record("gaussian-euclidean", "grouped", 0.8, 0.77, 0.84),
        record("gaussian", "random", 0.1, 0.1, 0.1),
        record("gaussian", "grouped", 0.1, 0.1, 0.1, seed=1),
    )
    row = only(effects.detectors_apart(found, "gaussian", "gaussian-euclidean"))
    assert row["value"] == pytest.approx(0.1)
    assert row["low"] == pytest.approx(0.1 - np.hypot(0.04, 0.04))
    assert row["high"] == pytest.approx(0.1 + np.hypot(0.03, 0.03))


def test_a_leak_is_told_of_the_split_that_was_asked_for():
    found = detected(
        record("gaussian", "matched", 0.05, 0.02, 0.08, "minus grouped"),
        record("gaussian", "random", 0.50, 0.50, 0.50, "minus grouped"),
        record("gaussian", "grouped", 0.50, 0.50, 0.50, "minus grouped"),
        record("gaussian", "matched", 0.90, 0.80, 0.95),
    )
    row = only(effects.leak(found, "matched"))
    assert (row["case"], row["value"]) == ("elpv mono, gaussian", 0.05)


def factorial(none_random, none_moved, all_random, all_moved, pixels=0.5, unseen=0.6):
    """AUROC of the four cells; one draw, three seeds that agree."""
    rows = []
    for seed in range(3):
        for start, none, everything in (
            (linear_probe.WITHOUT, none_random, all_random),
            (linear_probe.WITH, none_moved, all_moved),
        ):
            cells = {(method, 0): none for method in linear_probe.LABEL_FREE}
            cells |= {(linear_probe.ON_PIXELS, 0): pixels, (linear_probe.SEEN, linear_probe.ALL): everything}
            cells |= {(linear_probe.UNSEEN, linear_probe.ALL): unseen}
            rows += [
                WHERE
                | {"seed": seed, "start": start, "method": method, "k": k, "draw": 0, "anomaly_class": "p = 1"}
                | {"value": value}
                for (method, k), value in cells.items()
            ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("labels given transfer", 0.15),
        ("transfer", 0.175),
        ("transfer minus labels", 0.05),
        ("as published", 0.4),
    ],
)
def test_parts_of_the_factorial(part, value):
    # Labels add .1 on random features and .15 on transferred ones; transfer .15 without labels and .2 with.
    row = only(effects.factorial(factorial(0.6, 0.75, 0.7, 0.9), part))
    assert row["value"] == pytest.approx(value)
    assert row["low"] == pytest.approx(row["high"])


def test_the_wider_of_two_intervals_is_taken():
    """Seeds that agree, and test images that do not."""
    found = pd.concat(factorial(0.6, 0.75, 0.7, 0.9 + step).assign(draw=k) for k, step in enumerate((-0.05, 0, 0.05)))
    row = only(effects.with_all_labels(found))
    assert row["value"] == pytest.approx(0.9)
    assert (row["low"], row["high"]) == pytest.approx((0.8525, 0.9475))


def test_data_sets_are_averaged_by_seed():
    found = pd.concat([factorial(0.6, 0.75, 0.7, 0.9), factorial(0.6, 0.75, 0.7, 0.8).assign(benchmark="mnist")])
    row = only(effects.with_all_labels(found, average=True))
    assert (row["case"], row["value"]) == ("mean over data sets", pytest.approx(0.85))


def test_all_labels_by_themselves_and_against_an_opponent():
    found = factorial(0.6, 0.75, 0.7, 0.9)
    assert only(effects.with_all_labels(found))["value"] == pytest.approx(0.9)
    assert only(effects.with_all_labels(found, linear_probe.ON_PIXELS))["value"] == pytest.approx(0.8)


def test_unseen_types_are_compared_with_the_best_detector_without_labels():
    found = factorial(0.6, 0.75, 0.7, 0.9, unseen=0.7)
    better = found["method"].eq(linear_probe.LABEL_FREE[1]) & found["start"].eq(linear_probe.WITH)
    found.loc[better, "value"] = 0.8
    assert only(effects.unseen_types(found))["value"] == pytest.approx(-0.1)


def test_heat_maps_are_judged_at_the_last_epoch():
    rows = [
        WHERE | {"seed": seed, "detector": "patch-shared", "metric": metric, "state": state, "gain": gain}
        for seed in range(2)
        for metric, state, gain in (
            ("pixel_auroc", localisation.LAST, 0.1),
            ("pixel_auroc", localisation.STOPPED, 0.5),
            ("pro", localisation.LAST, 0.7),
        )
    ]
    row = only(effects.localisation_gain(pd.DataFrame(rows), "pixel_auroc"))
    assert (row["case"], row["value"]) == ("elpv mono, patch-shared", pytest.approx(0.1))


def test_a_detector_that_is_always_right_costs_nothing():
    rows = [
        WHERE | {"variant": "gaussian", "seed": seed, "part": part, "score": float(crack), "crack": crack}
        for seed in range(2)
        for part in decisions.PARTS
        for crack in (0, 1)
        for _ in range(30)
    ]
    found = effects.relative_cost(pd.DataFrame(rows), "cheapest")
    assert list(found["case"]) == [f"gaussian, {place}" for place in decisions.SCENARIOS]
    assert found["value"].to_numpy() == pytest.approx(0.0)


def test_a_combination_is_compared_with_its_best_part():
    rows = [
        WHERE | {"seed": 0, "rival": rival, "value": value, "own": 0.9, "more": 0.9 - value}
        for rival, value in (("gaussian", 0.8), ("patch-gaussian", 0.95), ("patch-memory", 0.7), ("svm", 0.99))
    ]
    found = pd.DataFrame(rows)
    found["more low"], found["more high"] = found["more"] - 0.02, found["more"] + 0.02
    row = only(effects.combination(found))
    assert row[["value", "low", "high"]].to_list() == pytest.approx([-0.05, -0.07, -0.03])
    assert only(effects.combination(found, "patch-memory"))["value"] == pytest.approx(0.2)


def test_the_better_of_two_peers_counts():
    rows = [
        WHERE | {"seed": 0, "rival": rival, "value": value, "own": 0.9, "more": 0.9 - value}
        for rival, value in zip(anomalib_comparison.PEERS, (0.8, 0.93), strict=True)
    ]
    found = pd.DataFrame(rows)
    found["more low"], found["more high"] = found["more"] - 0.02, found["more"] + 0.02
    row = only(effects.over_peers(found))
    assert row[["value", "low", "high"]].to_list() == pytest.approx([-0.03, -0.05, -0.01])


def test_noise_has_no_similarity_that_a_debiased_measure_would_find():
    naive, debiased = (effects.from_nothing(f"Linear CKA, {kind}") for kind in ("naive", "debiased"))
    assert (naive["low"] > debiased["high"] + 0.5).all()
    assert list(naive["case"]) == ["simulated, n = 16", "simulated, n = 32", "simulated, n = 64"]
