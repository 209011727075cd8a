"""Gains, differences and regrets over seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr, ttest_1samp

from anomaly_transfer.analysis import ablation
from anomaly_transfer.studies import finetuning
from anomaly_transfer.training import loop, pseudo_anomalies


def tables(values):
    """Rows of ``finetuning.run``: {(variant, seed): (frozen, stopped, oracle)}, with curves of two epochs."""
    rows = []
    for (variant, seed), (frozen, stopped, best) in values.items():
        case = {"benchmark": "b", "category": "c", "variant": variant, "seed": seed, "fold": 0}
        for rule, value in ((finetuning.FROZEN, frozen), ("validation", stopped), (finetuning.ORACLE, best)):
            rows.append({**case, "kind": "rule", "measure": rule, "value": value, "gain": value - frozen})
        for epoch in (0, 1):
            sums = {loop.LOSS: 10 - epoch, loop.HELD_OUT: 20 + epoch * (1 + seed)}
            sums |= {kind: 0.8 + 0.1 * epoch for kind in pseudo_anomalies.KINDS}
            sums[finetuning.TEST] = 0.6 + epoch * (0.1 * seed - 0.05)
            levels = {name: 1 - 0.2 * epoch for name in (*finetuning.MEASURES, finetuning.WHITENED, finetuning.RANKS)}
            told = [("sum", sums), ("stem", levels), ("head", {k: v - 0.2 * epoch for k, v in levels.items()})]
            for level, found in told:
                rows += [
                    {**case, "kind": "curve", "epoch": epoch, "measure": k, "level": level, "value": v}
                    for k, v in found.items()
                ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def frame():
    default = {(finetuning.DEFAULT, seed): (0.6, 0.62 + 0.01 * seed, 0.7) for seed in range(3)}
    return tables(default | {("euclidean", seed): (0.6, 0.61 + 0.02 * seed, 0.65) for seed in range(4)})


def test_intervals_over_seeds_are_those_of_the_t_test(frame):
    found = ablation.gains(frame, ["validation", finetuning.ORACLE]).set_index(["variant", "rule"])
    row = found.loc[(finetuning.DEFAULT, "validation")]
    expected = ttest_1samp([0.02, 0.03, 0.04], 0).confidence_interval()
    assert (row["value"], row["low"], row["high"]) == pytest.approx((0.03, expected.low, expected.high))
    assert found["seeds"].to_list() == [3, 4, 3, 4]
    assert found.loc[("euclidean", finetuning.ORACLE), "low"] == pytest.approx(0.05)


def test_one_seed_has_no_interval(frame):
    found = ablation.gains(frame[frame["seed"] == 0], ["validation"])
    assert found["value"].notna().all()
    assert found[["low", "high"]].isna().all(axis=None)


def test_rules_keep_the_order_that_was_asked_for(frame):
    assert ablation.gains(frame, [finetuning.ORACLE, "validation"])["rule"].unique().tolist() == [
        finetuning.ORACLE,
        "validation",
    ]


def test_over_categories_is_the_mean_and_standard_error(frame):
    both = pd.concat([frame, frame.assign(category="d", value=frame["value"] + 0.1)])
    found = ablation.over_categories(both, ["validation"]).loc[("b", finetuning.DEFAULT, "validation")]
    assert found.to_list() == pytest.approx([0.68, 0.05, 2])
    assert np.isnan(ablation.over_categories(frame, ["validation"])["sem"]).all()


def test_differences_are_paired_by_seed(frame):
    (row,) = ablation.differences(frame, "validation").to_dict("records")
    assert (row["variant"], row["seeds"]) == ("euclidean", 3)
    expected = ttest_1samp([-0.01, 0.0, 0.01], 0).confidence_interval()
    assert (row["value"], row["low"]) == pytest.approx((0, expected.low), abs=1e-12)


def test_regret_is_what_the_oracle_had_more(frame):
    found = ablation.regrets(frame, ["validation"]).set_index("variant")
    assert found.loc[finetuning.DEFAULT, "value"] == pytest.approx(0.7 - 0.63)
    assert found.loc["euclidean", "value"] == pytest.approx(0.65 - 0.64)


def test_paths_start_at_the_frozen_network(frame):
    found = ablation.paths(frame).set_index(["variant", "measure", "epoch"])
    assert found.xs(0, level="epoch")["value"].to_numpy() == pytest.approx(0)
    assert found.loc[(finetuning.DEFAULT, ablation.VALIDATION, 1), "value"] == pytest.approx(0.1)
    assert found.loc[(finetuning.DEFAULT, finetuning.TEST, 1), "value"] == pytest.approx(np.mean([-0.05, 0.05, 0.15]))
    assert found.loc[(finetuning.DEFAULT, finetuning.TEST, 1), "seeds"] == 3


def run_of(test, validation, seed=0):
    """Curves of one run."""
    case = {"benchmark": "b", "category": "c", "variant": finetuning.DEFAULT, "seed": seed, "fold": 0, "kind": "curve"}
    measures = {finetuning.TEST: test, **dict.fromkeys(pseudo_anomalies.KINDS, validation)}
    return pd.DataFrame(
        [
            {**case, "epoch": epoch, "measure": name, "level": "sum", "value": value}
            for name, values in measures.items()
            for epoch, value in enumerate(values)
        ]
    )


def test_agreement_is_of_steps_and_not_of_drifts():
    drift = run_of([0.5, 0.6, 0.8, 0.95], [0.5, 0.8, 0.9, 1.1])
    assert ablation.agreement(drift)["value"].to_list() == pytest.approx([-1.0])
    together = run_of([0.5, 0.6, 0.8, 0.7], [0.5, 0.6, 0.9, 0.6], 1)
    still = run_of([0.5] * 4, [0.5, 0.6, 0.7, 0.9], 2)
    (row,) = ablation.agreement(pd.concat([drift, together, still])).to_dict("records")
    assert (row["value"], row["seeds"]) == (pytest.approx(0.0, abs=1e-9), 2)
    assert (row["low"], row["high"]) == (-1, 1)  # two seeds that contradict each other tell nothing


def test_steps_of_one_size_are_ties_whatever_their_last_digit_is():
    run = run_of([0.5, 0.6, 0.7, 0.8, 0.7], [0.1, 0.4, 0.6, 0.7, 0.5])
    expected = spearmanr([1, 1, 1, -1], [3, 2, 1, -2]).statistic
    assert ablation.agreement(run)["value"].to_list() == pytest.approx([expected])


def test_patience_decides_what_the_validation_sees():
    found = ablation.by_patience(run_of([0.5, 0.6, 0.7, 0.9], [0.8, 0.7, 0.7, 0.9]), [2, None]).set_index("rule")
    assert found["value"].to_dict() == pytest.approx({"patience 2": 0.4, "no patience": 0.0, "random epoch": 0.225})


def test_changes_from_the_first_to_the_last_epoch(frame):
    row = ablation.changes(frame).set_index("variant").loc[finetuning.DEFAULT]
    assert row["objective"] == pytest.approx(-0.1)
    assert row["held-out"] == pytest.approx(np.mean([0.05, 0.1, 0.15]))
    assert row["validation"] == pytest.approx(0.1)
    assert row["cka"] == pytest.approx((0.8 + 0.6) / 2)


def test_signs():
    found = pd.DataFrame({"low": [0.1, -0.2, -0.1, np.nan], "high": [0.3, -0.1, 0.1, np.nan]})
    told = "not told apart from zero"
    assert ablation.signs(found).to_list() == ["above zero", "below zero", told, told]


def test_every_hypothesis_has_a_remedy_that_can_be_run(frame):
    remedies = [variant for variants in ablation.HYPOTHESES.values() for variant in variants]
    assert len(set(remedies)) == len(remedies)
    assert set(remedies) <= set(finetuning.VARIANTS)
    better = frame.assign(variant=frame["variant"].replace("euclidean", "squared"))
    (row,) = ablation.hypotheses(better, finetuning.ORACLE).to_dict("records")
    assert (row["hypothesis"], row["verdict"]) == ("far images count too little", "below zero")
    assert ablation.hypotheses(frame, finetuning.ORACLE)["variant"].to_list() == ["euclidean"]


def test_told_in_words():
    found = pd.DataFrame({"value": [0.1, -0.2], "low": [0.05, np.nan], "high": [0.15, np.nan]}, index=["a", "b"])
    assert ablation.formatted(found).to_dict() == {"a": "+0.1000 [+0.0500, +0.1500]", "b": "-0.2000 (one seed)"}
    assert ablation.formatted(found, digits=2)["a"] == "+0.10 [+0.05, +0.15]"
