"""Intervals that cover, p-values that are uniform under the null, groups that stay together."""

import numpy as np
import pytest

from anomaly_transfer import similarity
from anomaly_transfer.errors import DataError
from anomaly_transfer.similarity.resampling import half, swapped

FIRST, SECOND = np.arange(40), np.arange(40, 80)


def shifted(seed, n=40, d=8, by=0.7):
    x = np.random.default_rng(seed).normal(size=(2 * n, d))
    x[n:, 0] += by
    return x


def test_intervals_cover_the_truth():
    measure = similarity.get("energy")
    large = np.concatenate([shifted(99, 2000)[:2000], shifted(98, 2000)[2000:]])
    truth = measure.on(large)(np.arange(2000), np.arange(2000, 4000))
    hits = 0
    for seed in range(60):
        found = similarity.relate(measure, measure.on(shifted(seed)), FIRST, SECOND, None, 0, 40, seed)
        hits += found.low <= truth <= found.high
    assert hits >= 52


def test_a_bootstrap_would_not_cover_under_the_null_but_halves_do():
    measure = similarity.get("mmd")
    hits = {"halves": 0, "bootstrap": 0}
    for seed in range(40):
        statistic = measure.on(shifted(seed, by=0.0))
        found = similarity.relate(measure, statistic, FIRST, SECOND, None, 0, 40, seed)
        hits["halves"] += found.low <= 0 <= found.high
        rng = np.random.default_rng(seed)
        drawn = [statistic(rng.choice(FIRST, 40), rng.choice(SECOND, 40)) for _ in range(100)]
        hits["bootstrap"] += np.percentile(drawn, 2.5) <= 0 <= np.percentile(drawn, 97.5)
    assert hits["halves"] >= 36
    assert hits["bootstrap"] <= 10


def test_p_values_are_uniform_under_the_null_and_small_under_a_shift():
    measure = similarity.get("mmd")
    null = [
        similarity.relate(measure, measure.on(shifted(s, by=0.0)), FIRST, SECOND, None, 39, 2, s).p_value
        for s in range(60)
    ]
    assert 0.35 < np.mean(null) < 0.65
    assert similarity.relate(measure, measure.on(shifted(0, by=3.0)), FIRST, SECOND, None, 39, 2).p_value == 1 / 40


def test_paired_p_value_tests_for_a_relation():
    measure = similarity.get("cka")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 6))
    rows = np.arange(30)
    related = similarity.relate(measure, measure.on(x, x @ rng.normal(size=(6, 9))), rows, rows, None, 39, 10)
    unrelated = similarity.relate(measure, measure.on(x, rng.normal(size=(30, 9))), rows, rows, None, 39, 10)
    assert related.p_value == 1 / 40
    assert unrelated.p_value > 0.05
    assert related.low > 0.3


def test_halves_keep_groups_together_unless_they_are_few():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 4)
    chosen = half(np.arange(80), groups, rng)
    assert len(chosen) == 40
    assert len(np.unique(groups[chosen])) == 10
    few = np.repeat(np.arange(4), 20)
    assert len(np.unique(few[half(np.arange(80), few, rng)])) == 4


@pytest.mark.parametrize("n_mixed", [0, 2, 10])
def test_groups_change_sides_whole_and_mixed_ones_within(n_mixed):
    groups = np.repeat(np.arange(20), 4)
    side = groups % 2 == 0
    mixed = np.isin(groups, np.arange(n_mixed))
    side[mixed] = np.arange(mixed.sum()) % 4 == 0
    first, second = np.flatnonzero(side), np.flatnonzero(~side)
    moved = 0
    for seed in range(20):
        a, b = swapped(first, second, groups, np.random.default_rng(seed))
        assert sorted([*a, *b]) == list(range(80))
        for group in range(20):
            inside = np.isin(a, np.flatnonzero(groups == group)).sum()
            assert inside == (1 if group < n_mixed else inside // 4 * 4)
        moved += set(a) != set(first)
    assert moved > 15


def test_a_relation_of_objects_alone_is_not_a_relation_of_their_images():
    measure, rejected = similarity.get("cka"), 0
    groups = np.repeat(np.arange(8), 8)
    rows = np.arange(64)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        views = [5 * rng.normal(size=(8, 20))[groups] + rng.normal(size=(64, 20)) for _ in range(2)]
        found = similarity.relate(measure, measure.on(*views), rows, rows, groups, 19, 2, seed)
        rejected += found.p_value <= 0.05
    assert rejected <= 4


def test_unequal_groups_change_sides_or_say_why_not():
    groups = np.concatenate([np.zeros(20, dtype=int), np.arange(1, 21)])
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = swapped(np.arange(20), np.arange(20, 40), groups, rng)
        assert min(len(a), len(b)) >= 4
    with pytest.raises(DataError, match="too unequal"):
        swapped(np.arange(3), np.arange(3, 40), np.repeat([0, 1], [3, 37]), rng)
