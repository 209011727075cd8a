"""Intervals that cover, p-values that are uniform under the null, groups that stay together."""

from types import SimpleNamespace

import numpy as np
import pytest

from anomaly_transfer import similarity
from anomaly_transfer.errors import DataError
from anomaly_transfer.similarity.resampling import half, shuffled, swapped

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


def made(paired, farther):
    return SimpleNamespace(paired=paired, farther=farther)


def test_the_interval_is_1_96_spreads_over_halves_and_the_null_that_of_permutations():
    """The statistic tells one seen value after the other."""
    rows = np.arange(10)
    for paired in (True, False):
        told = iter([5.0, 1.0, 2.0, 3.0, 4.0, 10.0, 12.0, 17.0])
        second = rows if paired else rows[:8]
        found = similarity.relate(made(paired, True), lambda a, b, told=told: next(told), rows, second, None, 4, 3)
        error = np.std([10, 12, 17], ddof=1)
        assert (found.value, found.low, found.high) == pytest.approx((5, 5 - 1.96 * error, 5 + 1.96 * error))
        assert (found.null_low, found.null_high) == pytest.approx(tuple(np.percentile([1, 2, 3, 4], [2.5, 97.5])))
        assert (found.n_first, found.n_second) == (10, len(second))


@pytest.mark.parametrize(("paired", "farther", "large"), [(0, 1, 1), (0, 0, 0), (1, 1, 0), (1, 0, 1)])
def test_a_p_value_counts_what_is_at_least_as_different_or_as_related(paired, farther, large):
    """Four permutations: two are larger than the value, one is equal, one is smaller."""
    rows = np.arange(10)
    told = iter([2.0, 3.0, 4.0, 2.0, 1.0, 0.0])
    found = similarity.relate(made(bool(paired), bool(farther)), lambda a, b: next(told), rows, rows, None, 4, 1)
    assert found.p_value == ((1 + 3) / 5 if large else (1 + 2) / 5)
    assert np.isnan(found.low)


def test_without_permutations_there_is_no_null():
    measure, rows = similarity.get("energy"), np.arange(20)
    x = np.random.default_rng(0).normal(size=(40, 3))
    found = similarity.relate(measure, measure.on(x), rows, rows + 20, None, 0, 2)
    assert np.isnan([found.null_low, found.null_high, found.p_value]).all()
    assert found.low < found.value < found.high


def test_what_is_resampled_are_rows_of_either_sample():
    seen = []
    first, second, groups = np.arange(10), np.arange(10, 24), np.arange(24) // 2

    def watched(a, b):
        seen.append((a, b))
        return float(len(seen))

    similarity.relate(made(False, True), watched, first, second, groups, 2, 2)
    assert [(len(a), len(b)) for a, b in seen] == [
        (10, 14),
        *[(len(a), 24 - len(a)) for a, _ in seen[1:3]],
        (5, 6),
        (5, 6),
    ]
    for a, b in seen[1:3]:
        assert sorted([*a, *b]) == list(range(24))
    for a, b in seen[3:]:
        assert set(a) < set(first)
        assert set(b) < set(second)
    seen.clear()
    similarity.relate(made(True, False), watched, first, first + 10, None, 2, 2)
    assert all(np.array_equal(a, first) and sorted(b) == list(first + 10) for a, b in seen[:3])
    # Halves of pairs stay pairs.
    assert all(np.array_equal(a + 10, b) and len(a) == 5 for a, b in seen[3:])


@pytest.mark.parametrize(("n_groups", "whole"), [(5, False), (6, True)])
def test_a_handful_of_groups_is_cut_by_row(n_groups, whole):
    groups = np.repeat(np.arange(n_groups), 4)
    halves = [half(np.arange(len(groups)), groups, np.random.default_rng(seed)) for seed in range(20)]
    counts = np.array([np.bincount(groups[chosen], minlength=n_groups) for chosen in halves])
    assert np.isin(counts, (0, 4)).all() == whole
    assert (counts.sum(axis=1) == 2 * n_groups).all()
    # Half of six groups of one row are three rows, too few for a measure, and no more than half of the rows.
    assert len(half(np.arange(6), np.arange(6), np.random.default_rng(0))) == 3


def test_half_of_the_groups_is_kept_from_four_rows_on():
    """Three of six groups of one or two rows are three to six rows; with three, rows are drawn instead."""
    groups, sizes = np.repeat(np.arange(6), [1, 1, 2, 1, 1, 2]), set()
    for seed in range(60):
        names = np.random.default_rng(seed).permutation(6)[:3]
        wanted = np.flatnonzero(np.isin(groups, names))
        found = half(np.arange(8), groups, np.random.default_rng(seed))
        sizes.add(len(wanted))
        assert len(found) == (len(wanted) if len(wanted) >= 4 else 4)
        assert len(wanted) < 4 or np.array_equal(found, wanted)
    assert sizes == {3, 4, 5}


def test_rows_are_shuffled_within_their_group_unless_each_is_its_own():
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 5))
    orders = [shuffled(30, groups, np.random.default_rng(seed)) for seed in range(50)]
    for order in orders:
        assert sorted(order) == list(range(30))
        assert np.array_equal(groups[order], groups)
    # Every row of a group takes every place in it.
    assert len({(place, row) for order in orders for place, row in enumerate(order)}) == 6 * 25
    free = shuffled(30, np.arange(30), np.random.default_rng(0))
    assert np.array_equal(free, shuffled(30, None, np.random.default_rng(0)))
    assert not np.array_equal(free, np.arange(30))


def test_without_groups_rows_change_sides_one_by_one():
    for seed in range(10):
        a, b = swapped(np.arange(12), np.arange(12, 30), None, np.random.default_rng(seed))
        assert (len(a), len(b)) == (12, 18)
        assert sorted([*a, *b]) == list(range(30))
        assert 0 < (a >= 12).sum() < 12


def test_unequal_groups_change_sides_or_say_why_not():
    groups = np.concatenate([np.zeros(20, dtype=int), np.arange(1, 21)])
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = swapped(np.arange(20), np.arange(20, 40), groups, rng)
        assert min(len(a), len(b)) >= 4
    with pytest.raises(DataError, match="too unequal"):
        swapped(np.arange(3), np.arange(3, 40), np.repeat([0, 1], [3, 37]), rng)
