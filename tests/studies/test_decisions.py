"""Cracks: three parts without a shared photograph, labels that reach only what may see them, costs of decisions."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from tests.studies.test_protocol import category

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features
from anomaly_transfer.metrics import decision
from anomaly_transfer.studies import decisions, linear_probe
from anomaly_transfer.studies.decisions import CRACK, FIT, HINDSIGHT, TEST, THRESHOLD

SMOKE = profiles.get("smoke")


def photographs(n=20):
    """Ten patches each: six normal, three cracks and one stain."""
    kinds = np.tile([NORMAL] * 6 + [CRACK] * 3 + ["stain"], n)
    return category(np.repeat(np.arange(n).astype(str), 10), kinds)


def scored(seed=0, distance=2.0, variant="gaussian", n=4000):
    """A table of scores, as a run gives it."""
    rng = np.random.default_rng(seed)
    crack = rng.random(n) < 0.4
    return pd.DataFrame(
        {
            "row": np.arange(n),
            "part": np.where(np.arange(n) % 3 == 0, THRESHOLD, TEST),
            "group": (np.arange(n) % 40).astype(str),
            "crack": crack.astype(int),
            "area": np.where(crack, rng.random(n), np.nan),
            "score": rng.normal(distance * crack, 1),
            "benchmark": "crackforest",
            "category": "road",
            "variant": variant,
            "seed": seed,
        }
    )


def test_the_three_parts_share_no_photograph_and_leave_other_defects_out():
    whole = photographs()
    table = whole.annotations.open()
    rows, parts = decisions.divided(whole, 0)
    assert set(table["anomaly_class"][rows]) == {NORMAL, CRACK}
    groups = {name: set(table["group"][rows[parts == name]]) for name in (FIT, THRESHOLD, TEST)}
    assert [len(groups[name]) for name in (FIT, THRESHOLD, TEST)] == [8, 4, 8]
    assert sum(map(len, groups.values())) == len(set.union(*groups.values()))
    assert any((parts != decisions.divided(whole, seed)[1]).any() for seed in (1, 2))


def test_what_cannot_be_divided_is_one_clear_error():
    with pytest.raises(DataError, match="4 groups: at least 5"):
        decisions.divided(photographs(4), 0)
    with pytest.raises(DataError, match="no images of the class 'crack'"):
        decisions.divided(category(np.arange(40).astype(str), np.tile([NORMAL, "stain"], 20)), 0)
    only = category(np.repeat(np.arange(10).astype(str), 6), np.array([CRACK] * 5 + [NORMAL] * 55))
    with pytest.raises(DataError, match="both kinds are needed"):
        decisions.divided(only, 0)


@pytest.mark.parametrize("variant", decisions.VARIANTS)
def test_every_variant_scores_both_parts(store, variant):
    found = decisions.run("surfaces", "brick", variant, 0, "smoke", store).frame()
    whole = benchmarks.get("surfaces").load("brick", SMOKE.limit)
    table = whole.annotations.open().iloc[found["row"]]
    assert set(found["part"]) == {THRESHOLD, TEST}
    assert (found["crack"] == (table["anomaly_class"] == CRACK).to_numpy()).all()
    assert (found["group"] == table["group"].to_numpy()).all()
    assert (found["area"].notna() == (found["crack"] == 1)).all()
    assert found["area"].dropna().between(0, 1).all()
    assert found["score"].notna().all()
    assert found["score"].nunique() > 10


def test_an_unknown_variant_is_named(store):
    with pytest.raises(ValueError, match="no variant 'svm'"):
        decisions.run("surfaces", "brick", "svm", 0, "smoke", store)


@pytest.mark.parametrize("variant", ["gaussian", "svm-pixels", decisions.HEAD_10, decisions.HEAD])
def test_labels_outside_the_part_that_is_fitted_on_change_no_score(store, variant):
    whole = benchmarks.get("surfaces").load("brick", SMOKE.limit)
    rows, parts = decisions.divided(whole, 0)
    part = whole.taken(rows)
    fit = np.flatnonzero(parts == FIT)
    found = decisions._scores(variant, part, fit, 0, SMOKE, store)
    kinds = part.annotations.open()["anomaly_class"].to_numpy()

    def with_kinds(told):
        other = category(part.annotations.open()["group"].to_numpy(), told)
        return decisions._scores(
            variant, dataclasses.replace(part, annotations=other.annotations), fit, 0, SMOKE, store
        )

    inside = np.isin(np.arange(len(rows)), fit)
    swapped = np.where(inside, kinds, np.where(kinds == NORMAL, CRACK, NORMAL))
    assert np.array_equal(found, with_kinds(swapped))
    # Labels inside do count, where a method uses them.
    fewer = kinds.copy()
    fewer[fit[kinds[fit] == CRACK][0]] = "stain"
    assert np.array_equal(found, with_kinds(fewer)) == (variant in decisions.LABEL_FREE)


def test_a_head_on_all_labels_ranks_what_it_has_learnt():
    rng = np.random.default_rng(0)
    anomalous = np.arange(200) >= 100
    x = rng.normal(0, 1, (200, 6)).astype(np.float32)
    x[anomalous, 2] += 3
    scores = linear_probe.head_scores(Features.of(level=x), np.arange(60), np.arange(100, 140))
    assert scores.shape == (200,)
    assert scores[150:].min() > np.quantile(scores[60:100], 0.5)


def test_thresholds_are_set_on_one_part_and_judged_on_another():
    frame = scored()
    found = decisions.decide(frame, [0.2, 0.8]).set_index(["rule", "weight"])
    known, test = (frame[frame["part"] == name] for name in (THRESHOLD, TEST))
    for rule, threshold in decision.RULES.items():
        row = found.loc[(rule, 0.2)]
        assert row["threshold"] == threshold(known["score"].to_numpy(), known["crack"].to_numpy(bool), 0.2)
        assert row["misses"] == pytest.approx((test.loc[test["crack"] == 1, "score"] <= row["threshold"]).mean())
        assert row["cost"] == pytest.approx(0.2 * row["misses"] + 0.8 * row["false alarms"])
        assert row["relative"] == pytest.approx(row["cost"] / 0.2)
    for weight in (0.2, 0.8):
        assert found.loc[(HINDSIGHT, weight), "cost"] == found.xs(weight, level="weight")["cost"].min()
    # Labels of the tested part reach nothing but the bound.
    lied = frame.assign(crack=np.where(frame["part"] == TEST, 1 - frame["crack"], frame["crack"]))
    other = decisions.decide(lied, [0.2, 0.8]).set_index(["rule", "weight"])
    honest = found.index.get_level_values("rule") != HINDSIGHT
    assert (other["threshold"] == found["threshold"])[honest].all()


def test_few_labels_make_thresholds_dearer_and_all_of_them_are_the_rule_itself():
    frame = scored(distance=1.5)
    few = decisions.with_few(frame, 0.5, (2, 10, 5000), 20)
    mean = few.groupby(["rule", "k"])["cost"].mean()
    whole = decisions.decide(frame, [0.5]).set_index("rule")["cost"]
    for rule in ("calibrated", "cheapest"):
        assert mean[rule, 5000] == pytest.approx(whole[rule])
        assert mean[rule, 2] > mean[rule, 5000]
    assert set(few["rule"]) == {"calibrated", "cheapest"}
    # Every draw has cracks of its own.
    assert few[(few["rule"] == "cheapest") & (few["k"] == 2)]["threshold"].nunique() > 10


def test_the_threshold_without_labels_flags_about_five_per_cent_of_normal_images():
    frame = pd.concat([scored(), scored(seed=1)])
    found = decisions.at_no_label(frame)
    assert set(found["part"]) == {TEST}
    rate = found[found["crack"] == 0].groupby("seed")["flagged"].mean()
    assert rate.to_numpy() == pytest.approx([0.05, 0.05], abs=0.02)


def test_what_labels_save_is_paired_by_division_with_the_best_that_has_none():
    frames = [scored(seed, 1.0, "gaussian", 900) for seed in range(3)]
    frames += [scored(seed, 0.2, "svm-pixels", 900) for seed in range(3)]
    frames += [scored(seed, 3.0, decisions.HEAD, 900) for seed in range(3)]
    found = decisions.decide(pd.concat(frames), [0.5], ["calibrated"])
    row = decisions.saved(found).iloc[0]
    relative = found.set_index(["variant", "seed"])["relative"]
    each = relative["gaussian"] - relative[decisions.HEAD]
    assert (row["free"], row["variant"], row["seeds"]) == ("gaussian", decisions.HEAD, 3)
    assert row["value"] == pytest.approx(each.mean())
    assert 0 < row["low"] < row["value"] < row["high"]
