"""Costs, error rates and thresholds."""

import numpy as np
import pytest

from anomaly_transfer.errors import EvaluationError
from anomaly_transfer.metrics import decision

SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.35, 0.5, 0.6, 0.7])
POSITIVE = np.array([False] * 4 + [True] * 4)


def drawn(n, distance=2.0, seed=0, share=0.5):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < share
    return rng.normal(distance * positive, 1), positive


def test_the_weight_of_misses_counts_prevalence_and_ratio():
    assert decision.cost_weight(0.5, 1) == 0.5
    assert decision.cost_weight(0.01, 99) == pytest.approx(0.5)
    assert decision.cost_weight(0.1, 100) > decision.cost_weight(0.01, 100) > decision.cost_weight(0.01, 10)
    assert decision.cost_weight(0.0, 5) == 0.0
    for bad in ((1.2, 1), (0.1, 0), (-0.1, 1)):
        with pytest.raises(ValueError, match="a cost ratio above 0"):
            decision.cost_weight(*bad)


def test_expected_cost_is_that_of_counted_mistakes():
    # 1000 images, 20 anomalous; 3 missed at 50, 49 false alarms at 1; the worst case is every decision wrong.
    weight = decision.cost_weight(0.02, 50)
    counted = (3 * 50 + 49 * 1) / (20 * 50 + 980 * 1)
    assert decision.expected_cost(49 / 980, 3 / 20, weight) == pytest.approx(counted)


def test_looking_at_nothing_costs_what_flagging_all_or_none_does():
    for weight in (0.1, 0.5, 0.8):
        trivial = min(decision.expected_cost(1.0, 0.0, weight), decision.expected_cost(0.0, 1.0, weight))
        assert decision.blind_cost(weight) == pytest.approx(trivial)


def test_error_rates_count_what_is_above_the_threshold():
    assert decision.error_rates(SCORES, POSITIVE, 0.35) == (0.25, 0.25)
    assert decision.error_rates(SCORES, POSITIVE, np.inf) == (0.0, 1.0)
    assert decision.error_rates(SCORES, POSITIVE, -np.inf) == (1.0, 0.0)


def test_the_quantile_flags_five_per_cent_of_normal_images_whatever_the_labels_cost():
    scores, positive = drawn(4000)
    found = {decision.quantile(scores, positive, weight) for weight in (0.1, 0.9)}
    assert len(found) == 1
    assert decision.error_rates(scores, positive, found.pop())[0] == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize("weight", [0.02, 0.3, 0.5, 0.9, 0.99])
def test_no_threshold_is_cheaper_than_the_cheapest(weight):
    scores, positive = drawn(60, 1.0)

    def cost(threshold):
        return decision.expected_cost(*decision.error_rates(scores, positive, threshold), weight)

    every = [-np.inf, *np.sort(scores)]
    found = decision.cheapest(scores, positive, weight)
    assert cost(found) == pytest.approx(min(map(cost, every)))
    assert cost(found) <= decision.blind_cost(weight)
    assert found not in scores


def test_useless_scores_lead_to_a_blind_decision():
    positive = np.arange(200) % 2 == 0
    scores = -positive.astype(float)
    for rule in (decision.cheapest, decision.calibrated):
        assert rule(scores, positive, 0.2) == np.inf
        assert rule(scores, positive, 0.8) == -np.inf
    assert decision.calibrated(np.ones(200), positive, 0.8) == -np.inf


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8])
def test_the_logistic_threshold_of_two_gaussians_is_the_known_one(weight, share):
    # Log likelihood ratio of N(2, 1) to N(0, 1) is 2 s - 2, whatever the share of anomalies among the labelled.
    scores, positive = drawn(20_000, share=share)
    known = (np.log((1 - weight) / weight) + 2) / 2
    assert decision.calibrated(scores, positive, weight) == pytest.approx(known, abs=0.06)


def test_thresholds_move_with_units_and_fall_as_misses_weigh_more():
    scores, positive = drawn(400)
    for rule in (decision.cheapest, decision.calibrated):
        found = [rule(scores, positive, weight) for weight in (0.1, 0.5, 0.9)]
        assert found[0] > found[1] > found[2]
        assert rule(1e4 * scores + 7, positive, 0.5) == pytest.approx(1e4 * found[1] + 7, rel=1e-3)


def test_only_a_threshold_without_labels_can_do_without_labelled_anomalies():
    none = np.zeros(8, dtype=bool)
    assert decision.quantile(SCORES, none, 0.5) == pytest.approx(np.quantile(SCORES, 0.95))
    for rule in (decision.cheapest, decision.calibrated):
        with pytest.raises(EvaluationError, match="both kinds"):
            rule(SCORES, none, 0.5)


def test_the_ends_of_a_weight_are_allowed_and_lead_to_blind_decisions():
    assert decision.cost_weight(1.0, 5) == 1.0
    assert decision.cost_weight(0.2, 1e-9) == pytest.approx(0.0, abs=1e-8)
    for rule in (decision.cheapest, decision.calibrated):
        # Only false alarms count, or only misses: of equally cheap thresholds the one that flags fewest.
        assert decision.error_rates(SCORES, POSITIVE, rule(SCORES, POSITIVE, 0.0))[0] == 0
        assert decision.error_rates(SCORES, POSITIVE, rule(SCORES, POSITIVE, 1.0))[1] == 0
    assert decision.calibrated(SCORES, POSITIVE, 0.0) == np.inf
    assert decision.calibrated(SCORES, POSITIVE, 1.0) == -np.inf


@pytest.mark.parametrize(
    ("scores", "positive", "weight", "threshold"),
    [
        # Flag none or all, at the same cost; one of two, at the same cost; a tie of both kinds.
        ([0.0, 1.0], [True, False], 0.5, np.inf),
        ([0.0, 1.0], [False, True], 0.5, 0.5),
        ([0.0, 1.0, 2.0, 3.0], [False, True, False, True], 0.5, 2.5),
        ([0.0, 1.0, 1.0, 3.0], [False, True, False, True], 0.6, 0.5),
        ([0.0, 0.0], [True, False], 0.6, -np.inf),
    ],
)
def test_of_equally_cheap_thresholds_the_one_that_flags_fewest(scores, positive, weight, threshold):
    assert decision.cheapest(np.array(scores), np.array(positive), weight) == threshold


def test_a_curve_that_says_nothing_leaves_the_blind_decision():
    positive = np.arange(40) % 2 == 0
    for weight, threshold in ((0.49, np.inf), (0.5, np.inf), (0.51, -np.inf)):
        assert decision.calibrated(-positive.astype(float), positive, weight) == threshold


@pytest.mark.parametrize("rule", decision.RULES.values())
def test_what_cannot_be_judged_is_one_clear_error(rule):
    with pytest.raises(EvaluationError, match=r"both kinds|no normal"):
        rule(SCORES, np.ones(8, dtype=bool), 0.5)
    with pytest.raises(EvaluationError, match="not finite"):
        rule(np.where(SCORES > 0.6, np.nan, SCORES), POSITIVE, 0.5)
    with pytest.raises(EvaluationError, match="lengths must agree"):
        rule(SCORES[:5], POSITIVE, 0.5)
