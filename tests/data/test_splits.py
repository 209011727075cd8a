import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_transfer.data import splits
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.errors import DataError


@st.composite
def tables(draw):
    """Two to nine groups, each with at least six normal and a few anomalous images, in any order."""
    rows = []
    for group in range(draw(st.integers(2, 9))):
        rows += [(f"g{group}", NORMAL)] * draw(st.integers(6, 12))
        rows += [(f"g{group}", "hole")] * draw(st.integers(0, 5))
    rows += [("g0", "hole")] * 5
    order = draw(st.permutations(range(len(rows))))
    return pd.DataFrame([rows[i] for i in order], columns=["group", "anomaly_class"])


CROSS_VALIDATION = sorted(set(splits.SPLITS) - {"official"})


@given(tables(), st.sampled_from(CROSS_VALIDATION), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_split_trains_on_normal_and_scores_each_image_once(table, name, seed):
    folds = splits.SPLITS[name](table, seed)
    normal = (table["anomaly_class"] == NORMAL).to_numpy()
    for fold in folds:
        assert normal[fold.train].all()
        assert not set(fold.train) & set(fold.test)
    scored = np.concatenate([fold.test for fold in folds])
    assert sorted(scored) == list(range(len(table)))


@given(tables(), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_grouped_folds_share_no_group(table, seed):
    for fold in splits.grouped_folds(table, seed):
        assert not set(table["group"].iloc[fold.train]) & set(table["group"].iloc[fold.test])


@given(tables(), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_matched_folds_leak_with_no_more_training_images(table, seed):
    whole = splits.grouped_folds(table, seed)
    halves = splits.matched_folds(table, seed)
    for fold in halves:
        (twin,) = (other for other in whole if set(fold.test) <= set(other.test))
        assert len(fold.train) <= len(twin.train)
    leaking = [set(table["group"].iloc[f.test]) & set(table["group"].iloc[f.train]) for f in halves]
    assert any(leaking)
    assert max(len(f.test) for f in halves) <= max(len(f.test) for f in whole) / 2 + 1


@given(tables(), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_halves_cut_every_group_and_label_in_two(table, seed):
    kinds = table["group"] + table["anomaly_class"]
    normal = (table["anomaly_class"] == NORMAL).to_numpy()
    halves = splits.matched_folds(table, seed)
    for whole in splits.grouped_folds(table, seed):
        mine = [half for half in halves if set(half.test) <= set(whole.test)]
        assert len(mine) == 2
        first, second = (kinds.iloc[half.test].value_counts() for half in mine)
        assert first.sub(second, fill_value=0).abs().max() <= 1
        assert abs(len(mine[0].test) - len(mine[1].test)) <= 1
        for half in mine:
            assert list(half.test) == sorted(half.test)
            assert list(half.train) == sorted(set(half.train))
            others = normal.sum() - normal[half.test].sum()
            assert len(half.train) == min(len(whole.train), others)


@pytest.mark.parametrize("n_groups", [2, 5, 6, 9])
def test_few_groups_are_folds_themselves_and_more_are_dealt_to_five(n_groups):
    table = pd.DataFrame({"group": np.repeat(np.arange(n_groups).astype(str), 8), "anomaly_class": NORMAL})
    found = [splits.grouped_folds(table, seed) for seed in (0, 1)]
    assert len(found[0]) == min(n_groups, 5)
    same = all(np.array_equal(a.test, b.test) for a, b in zip(*found, strict=True))
    assert same == (n_groups <= 5)
    assert len(splits.random_folds(table)) == 5


def test_two_normal_images_are_enough_to_train_on():
    table = pd.DataFrame({"group": list("aabb"), "anomaly_class": NORMAL})
    assert [len(fold.train) for fold in splits.grouped_folds(table)] == [2, 2]
    with pytest.raises(DataError, match="1 normal training"):
        splits.grouped_folds(table.iloc[:3])


def test_random_folds_hold_the_share_of_anomalies():
    table = pd.DataFrame({"group": "a", "anomaly_class": [NORMAL] * 40 + ["hole"] * 10})
    for fold in splits.random_folds(table):
        assert (table["anomaly_class"].iloc[fold.test] == "hole").sum() == 2


def test_the_official_split_trains_on_normal_images_of_its_part():
    table = pd.DataFrame(
        {
            "anomaly_class": [NORMAL, NORMAL, "hole", NORMAL, "hole"],
            "part": ["train", "train", "train", "test", "test"],
        }
    )
    (fold,) = splits.official_folds(table)
    assert fold.train.tolist() == [0, 1]
    assert fold.test.tolist() == [3, 4]


def test_the_seed_changes_random_folds_and_equal_seeds_agree():
    table = pd.DataFrame({"group": np.repeat(list("abcde"), 20), "anomaly_class": [NORMAL] * 80 + ["hole"] * 20})
    first, again, other = (splits.random_folds(table, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(first, other, strict=True))


def test_one_group_cannot_be_split_by_group():
    table = pd.DataFrame({"group": ["a"] * 10, "anomaly_class": [NORMAL] * 10})
    with pytest.raises(DataError, match="at least two groups"):
        splits.grouped_folds(table)


def test_a_fold_without_normal_training_images_is_an_error():
    table = pd.DataFrame({"group": ["a"] * 9 + ["b"] * 9, "anomaly_class": [NORMAL] * 9 + ["hole"] * 9})
    with pytest.raises(DataError, match="0 normal training"):
        splits.grouped_folds(table)


def test_group_rate_is_the_share_of_anomalies_in_the_group():
    table = pd.DataFrame({"group": ["a", "b", "a", "a", "b"]}, index=[9, 8, 7, 6, 5])
    positive = np.array([True, False, True, False, False])
    assert splits.group_rate(table, positive) == pytest.approx([2 / 3, 0, 2 / 3, 2 / 3, 0])


def test_groups_are_few_where_each_is_a_fold_of_its_own():
    for number in (1, 4, 5, 6, 10):
        groups = np.repeat([f"group {n}" for n in range(number)], 3)
        assert splits.are_few(groups) == splits.are_few(pd.Series(groups)) == (number <= splits.N_FOLDS)
