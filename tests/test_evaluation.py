import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from anomaly_transfer.errors import EvaluationError
from anomaly_transfer.evaluation import (
    Interval,
    evaluate,
    evaluate_table,
    localisation,
    paired_difference,
    paired_localisation,
    rank_correlation,
)


@st.composite
def scored(draw):
    """Scores with many ties, and labels of both kinds."""
    n = draw(st.integers(4, 60))
    scores = np.array(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)), dtype=float)
    positive = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    positive[:2] = [True, False]
    return scores, positive


@given(scored())
@settings(max_examples=150, deadline=None)
def test_estimates_equal_scikit_learn_ties_included(data):
    scores, positive = data
    found = evaluate(scores, positive, n_bootstrap=50)
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert found["auroc"].value == pytest.approx(roc_auc_score(positive, scores))
    assert found["average_precision"].value == pytest.approx(average_precision_score(positive, scores))
    assert found["fpr_at_95_tpr"].value == pytest.approx(fpr[tpr >= 0.95 - 1e-12].min())


@given(scored())
@settings(max_examples=50, deadline=None)
def test_only_the_order_of_scores_counts(data):
    scores, positive = data
    first, second = evaluate(scores, positive, n_bootstrap=50), evaluate(np.exp(scores / 3), positive, n_bootstrap=50)
    for name in first:
        assert second[name].model_dump() == pytest.approx(first[name].model_dump(), abs=1e-12)


def test_negated_scores_mirror_the_auroc():
    rng = np.random.default_rng(0)
    scores, positive = rng.normal(size=80), rng.random(80) < 0.3
    value = evaluate(scores, positive, n_bootstrap=50)["auroc"].value
    assert evaluate(-scores, positive, n_bootstrap=50)["auroc"].value == pytest.approx(1 - value)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Two normals one unit apart: the true AUROC is Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(0)
    positive = np.repeat([True, False], [40, 60])
    hits = 0
    for trial in range(200):
        interval = evaluate(rng.normal(positive.astype(float)), positive, n_bootstrap=300, seed=trial)["auroc"]
        hits += interval.low <= 0.76025 <= interval.high
    assert 0.89 <= hits / 200 <= 0.99


def test_scores_are_compared_within_strata_only():
    """Perfect within each stratum, upside down across them."""
    scores = np.array([1, 2, 11, 12.0])
    positive = np.array([False, True, False, True])
    strata = np.array([1, 1, 0, 0])
    assert evaluate(scores, positive, strata, 50)["auroc"].value == 1.0
    assert evaluate(scores, positive, None, 50)["auroc"].value == 0.75


def test_each_anomalous_image_counts_once_and_one_sided_strata_not_at_all():
    """Stratum 0: two anomalies, AUROC 1; stratum 1: one anomaly among many normal images, AUROC 0."""
    scores = np.array([0, 1, 1, 0, 5, 5, 5, 9, 9.0])
    positive = np.array([0, 1, 1, 1, 0, 0, 0, 1, 1], dtype=bool)
    strata = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
    assert evaluate(scores, positive, strata, 50)["auroc"].value == pytest.approx(2 / 3)


def test_a_paired_difference_is_narrower_than_two_intervals():
    rng = np.random.default_rng(0)
    positive = np.repeat([True, False], [60, 90])
    first = rng.normal(positive.astype(float))
    second = first + rng.normal(0, 0.1, 150)
    difference = paired_difference(first, second, positive)["auroc"]
    alone = evaluate(first, positive)["auroc"]
    assert difference.low <= 0 <= difference.high
    assert difference.high - difference.low < 0.4 * (alone.high - alone.low)
    worse = paired_difference(first, rng.normal(size=150), positive)["auroc"]
    assert worse.low > 0


def test_equal_detectors_differ_by_exactly_zero():
    scores, positive = np.arange(10.0), np.arange(10) > 6
    assert paired_difference(scores, scores, positive)["auroc"] == Interval(value=0, low=0, high=0)


@pytest.mark.parametrize(
    ("scores", "positive", "message"),
    [
        ([1.0, 2.0], [True, True], "needs both kinds"),
        ([1.0, 2.0], [False, False], "needs both kinds"),
        ([1.0, np.nan], [True, False], "1 of 2 scores are not finite"),
        ([1.0, 2.0, 3.0], [True, False], "lengths must agree"),
        ([], [], "needs both kinds"),
    ],
)
def test_what_is_not_defined_is_a_clear_error(scores, positive, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(np.array(scores), np.array(positive, dtype=bool))


def test_rank_correlation_equals_scipy_within_one_stratum():
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 4, 100) / 3
    scores = grades + rng.normal(0, 0.5, 100)
    found = rank_correlation(scores, grades)
    assert found.value == pytest.approx(spearmanr(scores, grades).statistic)
    assert found.low < found.value < found.high
    with pytest.raises(EvaluationError, match="two grades"):
        rank_correlation(scores, np.zeros(100))


def slow_pro(maps, masks):
    """Per-region overlap over every threshold there is, one at a time."""
    from scipy.ndimage import label

    thresholds = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    points = [(0.0, 0.0)]
    for threshold in thresholds:
        overlaps, false, normal = [], 0, 0
        for scores, mask in zip(maps, masks, strict=True):
            regions, count = label(mask, structure=np.ones((3, 3)))
            overlaps += [(scores[regions == r] >= threshold).mean() for r in range(1, count + 1)]
            false, normal = false + (scores[~mask] >= threshold).sum(), normal + (~mask).sum()
        points.append((false / normal, np.mean(overlaps)))
    x, y = np.array(points).T
    grid = np.linspace(0, 0.3, 3001)
    return np.trapezoid(np.interp(grid, x, y), grid) / 0.3


def test_paired_localisation_is_a_difference_on_the_same_resamples():
    rng = np.random.default_rng(0)
    masks = [np.pad(np.ones((4, 4), bool), (n, 8 - n)) for n in range(8)] + [np.zeros((12, 12), bool)] * 4
    good = [mask + rng.normal(0, 0.4, mask.shape) for mask in masks]
    bad = [map_ + rng.normal(0, 0.4, map_.shape) for map_ in good]
    gain = paired_localisation(good, bad, masks, 200)
    alone = [localisation(maps, masks, 200) for maps in (good, bad)]
    for metric in ("pixel_auroc", "pro"):
        assert gain[metric].value == pytest.approx(alone[0][metric].value - alone[1][metric].value)
        assert gain[metric].low > 0
        widths = [found[metric].high - found[metric].low for found in (gain, *alone)]
        assert widths[0] < widths[1] + widths[2]
    same = paired_localisation(good, good, masks, 50)["pro"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_localisation_equals_brute_force():
    rng = np.random.default_rng(0)
    masks = [np.zeros((24, 24), bool) for _ in range(4)]
    masks[0][3:9, 3:9] = masks[0][9:12, 9:12] = masks[1][10:20, 2:6] = masks[1][2:5, 15:20] = True
    maps = [rng.normal(size=(24, 24)) + 1.2 * mask for mask in masks]
    found = localisation(maps, masks, n_bootstrap=50)
    pixels, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    assert found["pixel_auroc"].value == pytest.approx(roc_auc_score(truth, pixels), abs=0.002)
    assert found["pro"].value == pytest.approx(slow_pro(maps, masks), abs=0.01)
    assert found["pro"].low <= found["pro"].value <= found["pro"].high


def test_regions_that_touch_at_a_corner_are_one():
    """A found block and a missed pixel at its corner: 16 of 17 pixels of one region, not one of two regions."""
    mask = np.zeros((16, 16), bool)
    mask[4:8, 4:8] = True
    found = mask.astype(float)
    mask[8, 8] = True
    assert localisation([found], [mask], 50)["pro"].value > 0.9


def test_perfect_and_constant_maps():
    mask = np.zeros((16, 16), bool)
    mask[4:8, 4:8] = True
    perfect = localisation([mask.astype(float), np.zeros((16, 16))], [mask, np.zeros_like(mask)], 50)
    assert perfect["pixel_auroc"].value == pytest.approx(1.0)
    assert perfect["pro"].value == pytest.approx(1.0)
    constant = localisation([np.ones((16, 16))] * 2, [mask, np.zeros_like(mask)], 50)
    assert constant["pixel_auroc"].value == pytest.approx(0.5)
    assert constant["pro"].value <= 0.5


@pytest.mark.parametrize(
    ("shape", "defect", "value", "message"),
    [((8, 9), True, 0.0, "has shape"), ((8, 8), False, 0.0, "at least one defect"), ((8, 8), True, np.nan, "finite")],
)
def test_maps_that_cannot_be_judged(shape, defect, value, message):
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = defect
    with pytest.raises(EvaluationError, match=message):
        localisation([np.full(shape, value)], [mask])


def test_a_table_is_judged_by_class_and_grade():
    rng = np.random.default_rng(0)
    kinds = np.repeat(["normal", "p = 1/3", "p = 1"], 40)
    grade = np.repeat([0, 1 / 3, 1], 40)
    table = pd.DataFrame({"score": grade + rng.normal(0, 0.3, 120), "anomaly_class": kinds, "grade": grade, "fold": 0})
    found = evaluate_table(table, ("p = 1",), "fold", 100)
    assert set(found) == {"target", "all", "p = 1/3", "p = 1", "grade"}
    assert found["target"] == found["p = 1"]
    assert found["p = 1"]["auroc"].value > found["all"]["auroc"].value > found["p = 1/3"]["auroc"].value
    assert found["grade"]["spearman"].value > 0.5


def test_classes_called_like_a_summary_leave_it_as_it_is():
    rng = np.random.default_rng(0)
    grade = np.repeat([0, 1 / 3, 2 / 3, 1], 40)
    table = pd.DataFrame({"score": grade + rng.normal(0, 0.3, 160), "grade": grade, "fold": 0})
    plain = evaluate_table(table.assign(anomaly_class=np.repeat(["normal", "a", "b", "c"], 40)), ("b",), "fold", 100)
    names = ["normal", "all", "target", "grade"]
    found = evaluate_table(table.assign(anomaly_class=np.repeat(names, 40)), ("target",), "fold", 100)
    assert {name: found[name] for name in ("all", "target", "grade")} == {
        name: plain[name] for name in ("all", "target", "grade")
    }
    assert found["target (class)"] == plain["b"]
    assert found["all (class)"] == plain["a"]
    assert found["grade (class)"] == plain["c"]


def test_thousands_of_strata_with_one_label_cost_nothing():
    """Each image its own group, as in a one-class benchmark: only one stratum compares anything."""
    scores, positive = np.random.default_rng(0).normal(size=5000), np.arange(5000) % 10 == 0
    strata = np.arange(5000)
    with pytest.raises(EvaluationError, match="within one stratum"):
        evaluate(scores, positive, strata, 2000)
    strata[:20] = -1
    start = time.perf_counter()
    found = evaluate(scores, positive, strata, 2000)
    assert time.perf_counter() - start < 5
    assert found == evaluate(scores[:20], positive[:20], None, 2000)


def test_whole_clusters_are_resampled():
    """Six copies of each image are no more evidence than one."""
    rng = np.random.default_rng(0)
    scores, positive = rng.normal(size=60), np.arange(60) % 2 == 0
    once = evaluate(scores, positive, n_bootstrap=2000)["auroc"]
    copies = (np.repeat(scores, 6), np.repeat(positive, 6))
    naive = evaluate(*copies, n_bootstrap=2000)["auroc"]
    honest = evaluate(*copies, n_bootstrap=2000, clusters=np.repeat(np.arange(60), 6))["auroc"]
    assert honest.value == naive.value == pytest.approx(once.value)
    width = {name: found.high - found.low for name, found in (("once", once), ("naive", naive), ("honest", honest))}
    assert width["honest"] == pytest.approx(width["once"], rel=0.15)
    assert width["naive"] < 0.6 * width["once"]
    same = paired_difference(copies[0], copies[0], copies[1], clusters=np.repeat(np.arange(60), 6))["auroc"]
    assert same == Interval(value=0, low=0, high=0)


def test_clusters_widen_rank_correlations_and_pixel_metrics():
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 4, 30) / 3
    scores = grades + rng.normal(size=30)
    many = np.repeat(scores, 6), np.repeat(grades, 6)
    naive, honest = (rank_correlation(*many, clusters=c) for c in (None, np.repeat(np.arange(30), 6)))
    assert honest.value == naive.value
    assert honest.high - honest.low > 1.5 * (naive.high - naive.low)
    masks = [rng.random((8, 8)) < 0.2 for _ in range(10)]
    maps = [mask + rng.normal(size=(8, 8)) for mask in masks]
    naive, honest = (
        localisation(maps * 6, masks * 6, 500, clusters=c)["pixel_auroc"] for c in (None, np.tile(np.arange(10), 6))
    )
    assert honest.value == naive.value
    assert honest.high - honest.low > 1.5 * (naive.high - naive.low)


def test_maps_of_different_models_are_not_compared():
    """Fold 1 scores everything a hundred higher: within each fold the maps are perfect."""
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:4] = True
    masks = [mask, np.zeros_like(mask)] * 2
    maps = [m + 100.0 * (number > 1) for number, m in enumerate(masks)]
    strata = np.array([0, 0, 1, 1])
    assert localisation(maps, masks, 50, strata=strata)["pixel_auroc"].value == pytest.approx(1.0)
    assert localisation(maps, masks, 50)["pixel_auroc"].value < 0.9
