import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from anomaly_transfer.errors import EvaluationError
from anomaly_transfer.metrics.bootstrap import Interval
from anomaly_transfer.metrics.localisation import _area, localisation, paired_localisation
from anomaly_transfer.metrics.ranking import (
    _spearman,
    _weighted_metrics,
    evaluate,
    evaluate_table,
    paired_difference,
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


@given(scored(), st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_a_resample_is_judged_as_scikit_learn_judges_weights(data, seed):
    scores, positive = data
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(scores)))
    weights[0] = 1
    for row, found in zip(weights, _weighted_metrics(scores, positive, weights), strict=True):
        kept = row > 0
        if positive[kept].all() or not positive[kept].any():
            continue
        told = (positive[kept], scores[kept])
        fpr, tpr, _ = roc_curve(*told, sample_weight=row[kept], drop_intermediate=False)
        assert found == pytest.approx(
            [
                roc_auc_score(*told, sample_weight=row[kept]),
                average_precision_score(*told, sample_weight=row[kept]),
                fpr[tpr >= 0.95 - 1e-12].min(),
            ]
        )


@given(scored())
@settings(max_examples=30, deadline=None)
def test_exchanged_detectors_exchange_the_bounds(data):
    scores, positive = data
    other = np.random.default_rng(0).permutation(scores)
    there, back = (paired_difference(*pair, positive, n_bootstrap=50) for pair in ((scores, other), (other, scores)))
    for name, found in there.items():
        assert (found.value, found.low, found.high) == pytest.approx(
            (-back[name].value, -back[name].high, -back[name].low)
        )


def test_an_interval_holds_the_middle_95_per_cent_of_resamples():
    """Of one anomalous image among ten normal ones that tie in halves, the AUROC of a resample is a binomial share."""
    scores, positive = np.r_[np.zeros(50), np.ones(50), 0.5], np.arange(101) == 100
    found = evaluate(scores, positive, n_bootstrap=4000)["auroc"]
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx(binom(100, 0.5).ppf([0.025, 0.975]) / 100, abs=0.0101)


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


def perfect(n_normal, n_anomalous, sign=1, **layout):
    """A perfect ranking of so many images, or, with the sign -1, one that is upside down."""
    positive = np.arange(n_normal + n_anomalous) >= n_normal
    return evaluate(sign * np.arange(len(positive)), positive, n_bootstrap=50, **layout)


@pytest.mark.parametrize(("pairs", "bound"), [(1, 0.025), (4, 0.3976), (20, 0.8316), (100, 0.9638)])
def test_a_perfect_ranking_is_as_certain_as_its_disjoint_pairs_make_it(pairs, bound):
    for counts in ((pairs, pairs), (pairs, pairs + 30), (pairs + 30, pairs)):
        found, mirrored = perfect(*counts), perfect(*counts, sign=-1)
        assert tuple(found["auroc"].model_dump().values()) == pytest.approx((1, bound, 1), abs=1e-4)
        assert tuple(mirrored["auroc"].model_dump().values()) == pytest.approx((0, 0, 1 - bound), abs=1e-4)
        for metric in ("average_precision", "fpr_at_95_tpr"):
            assert (found[metric].low, found[metric].high) == (0, 1)
        assert (found["average_precision"].value, found["fpr_at_95_tpr"].value) == (1, 0)


def test_more_images_make_a_perfect_ranking_more_certain():
    lows = [perfect(n, n)["auroc"].low for n in range(1, 40)]
    assert lows == sorted(lows)
    assert len(set(lows)) == len(lows)


def test_one_pair_out_of_order_is_resampled():
    """Among 400 x 400 pairs; the bootstrap's bound is then far above that of a perfect ranking of fewer."""
    scores, positive = np.arange(800.0), np.arange(800) >= 400
    scores[399:401] = scores[400:398:-1]
    found = evaluate(scores, positive, n_bootstrap=200)
    assert found["auroc"].low > 0.9999
    assert found["average_precision"].low > 0.99


def test_pairs_of_a_perfect_ranking_share_no_cluster():
    twenty = perfect(20, 20)["auroc"]
    copies = np.repeat(np.arange(20), 6)
    assert perfect(60, 60, clusters=copies)["auroc"].low == pytest.approx(0.025 ** (1 / 10))
    # Normal and anomalous images of the same objects: an object gives one or the other.
    assert perfect(20, 20, clusters=np.tile(np.arange(20), 2))["auroc"].low == pytest.approx(0.025 ** (1 / 10))
    assert perfect(20, 20, clusters=np.arange(40))["auroc"] == twenty
    assert perfect(20, 20, clusters=np.zeros(40))["auroc"].low == 0
    # The same objects in both strata are used in one.
    everywhere = perfect(20, 20, clusters=np.repeat(np.arange(20), 2), strata=np.tile([0, 1], 20))["auroc"]
    assert 0 < everywhere.low <= 0.025 ** (1 / 10)


def test_pairs_of_a_perfect_ranking_are_summed_over_strata():
    halves = np.tile([0, 1], 20)
    assert perfect(20, 20, strata=halves)["auroc"].low == pytest.approx(0.025 ** (1 / 20))
    # A stratum with one label has no pairs, and takes none away.
    assert perfect(20, 40, strata=np.r_[halves, np.full(20, 2)])["auroc"].low == pytest.approx(0.025 ** (1 / 20))


def test_a_stratum_with_fewer_pairs_than_its_share_limits_the_others():
    """Ten anomalous images with one normal, one with ten: were both AUROCs counted alike, 0.158 would be promised, but
    a true 0.03 of the first and 1 of the second, on average 0.118, would be perfect in 3 % of all samples.
    """
    strata = np.r_[0, np.ones(10), np.zeros(10), 1]
    found = perfect(11, 11, strata=strata)["auroc"]
    assert found.low == pytest.approx(0.025 ** (1 / 1.1))
    assert found.low < (10 * 0.03 + 1) / 11


def test_few_images_are_covered_as_well_perfect_ones_included():
    """Six images of each kind with a true AUROC of 0.9: a fifth of all rankings are perfect."""
    rng = np.random.default_rng(0)
    positive, apart = np.repeat([True, False], 6), norm.ppf(0.9) * np.sqrt(2)
    found = [evaluate(rng.normal(apart * positive), positive, n_bootstrap=200)["auroc"] for _ in range(400)]
    assert 0.15 < np.mean([interval.value == 1 for interval in found]) < 0.3
    assert np.mean([interval.low <= 0.9 <= interval.high for interval in found]) >= 0.95


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
    mirrored = rank_correlation(-scores, grades)
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx((-found.value, -found.high, -found.low))
    with pytest.raises(EvaluationError, match="two grades"):
        rank_correlation(scores, np.zeros(100))
    with pytest.raises(EvaluationError, match="different scores"):
        rank_correlation(np.zeros(100), grades)


def test_rank_correlations_of_strata_are_weighted_by_their_size():
    """One of four images is upside down, one of eight is right, and one of a single grade says nothing."""
    scores = np.r_[3, 2, 1, 0, np.arange(8), 5, 6, 7.0]
    grades = np.r_[np.arange(4), np.arange(8), 1, 1, 1.0]
    strata = np.repeat([0, 1, 2], [4, 8, 3])
    assert rank_correlation(scores, grades, strata, 50).value == pytest.approx((8 - 4) / 12)


def test_what_does_not_vary_has_no_rank_correlation():
    assert _spearman(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == _spearman(np.zeros(0), np.zeros(0)) == 0
    # A resample of two images is one of them twice in half of all cases.
    found = rank_correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0]), n_bootstrap=200)
    assert (found.value, found.low, found.high) == (1, 0, 1)


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


@pytest.mark.parametrize(
    ("x", "y", "upto", "area"),
    [
        ([0.5, 1.0], [1.0, 1.0], 1.0, 0.75),
        ([0.5, 1.0], [1.0, 1.0], 0.3, 0.3 * 0.6 / 2),
        ([0.3, 1.0], [0.9, 1.0], 0.3, 0.3 * 0.9 / 2),
        ([0.0, 0.2, 0.2, 1.0], [0.1, 0.5, 0.7, 1.0], 0.3, 0.2 * 0.3 + 0.1 * (0.7 + 0.7375) / 2),
        # A curve that ends early goes on level, or, up to one, straight to the corner.
        ([0.2], [0.5], 0.3, 0.2 * 0.5 / 2 + 0.1 * 0.5),
        ([0.2], [0.5], 1.0, 0.2 * 0.5 / 2 + 0.8 * 0.75),
    ],
)
def test_the_area_under_a_broken_line(x, y, upto, area):
    assert _area(np.array(x), np.array(y), upto) == pytest.approx(area)


def test_a_region_counts_as_much_as_any_other_however_small():
    """A large region that is found and a single pixel that is not, or the other way round: one of two regions."""
    mask = np.zeros((16, 16), bool)
    mask[2:8, 2:8] = mask[12, 12] = True
    alone = np.zeros((16, 16), bool)
    alone[12, 12] = True
    for found in (mask & ~alone, alone):
        assert localisation([found.astype(float)], [mask], 50)["pro"].value == pytest.approx(0.5, abs=0.1)
    assert localisation([alone.astype(float)], [alone], 50)["pro"].value == pytest.approx(1.0)
    assert localisation([-alone.astype(float)], [alone], 50)["pro"].value == pytest.approx(0.0)


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


def graded(kinds, folds):
    table = pd.DataFrame({"anomaly_class": kinds, "fold": folds})
    return table.assign(score=np.random.default_rng(0).normal(size=len(table)), grade=np.nan)


def test_a_class_that_cannot_be_compared_is_left_out_and_a_headline_that_cannot_is_an_error():
    """In fold 1 there is no normal image."""
    table = graded(["normal"] * 5 + ["a"] * 5 + ["b"] * 5, [0] * 10 + [1] * 5)
    assert set(evaluate_table(table, ("a",), "fold", 20)) == {"target", "all", "a"}
    for columns in (("b",), ("c",)):
        with pytest.raises(EvaluationError, match="within one stratum"):
            evaluate_table(table, columns, "fold", 20)


def test_without_a_target_all_classes_are_it():
    table = graded(["normal"] * 9 + ["a"] * 5 + ["b"] * 5, 0)
    found = evaluate_table(table, (), "fold", 20)
    assert found["all"] == found["target"]
    assert found["target"]["auroc"].value == pytest.approx(
        roc_auc_score(table["anomaly_class"] != "normal", table["score"])
    )
    assert evaluate_table(table, ("a", "b"), "fold", 20) == found
    assert evaluate_table(table, ("a",), "fold", 20)["all"] == found["all"]


@pytest.mark.parametrize(("grades", "told"), [([0, 1], False), ([0, 0.5, 1], True)])
def test_two_grades_are_no_scale(grades, told):
    table = graded(["normal"] * 9 + ["a"] * 9, 0)
    assert ("grade" in evaluate_table(table.assign(grade=np.resize(grades, 18)), (), "fold", 20)) == told
    # An image without a grade does not count.
    some = table.assign(grade=np.where(np.arange(18) < 12, np.resize(grades, 18), np.nan))
    assert evaluate_table(some, (), "fold", 20).get("grade") == evaluate_table(some[:12], (), "fold", 20).get("grade")


def test_a_table_is_resampled_by_cluster():
    table = graded(["normal"] * 20 + ["a"] * 20, 0).assign(grade=np.resize([0, 0.5, 1], 40), object=np.arange(40))
    many = pd.concat([table] * 5)
    naive, honest = (evaluate_table(many, (), "fold", 500, 0, cluster) for cluster in (None, "object"))
    for name, metric in (("target", "auroc"), ("grade", "spearman")):
        wide, narrow = (found[name][metric] for found in (honest, naive))
        assert wide.value == narrow.value
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


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
