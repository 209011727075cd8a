"""Part I's experiments: a class on the scale between normal and rivals, few shots, twin networks."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.studies.test_protocol import category

from anomaly_transfer import similarity
from anomaly_transfer.analysis import hypothesis
from anomaly_transfer.claims import ledger
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.errors import DataError, StoreError
from anomaly_transfer.metrics.bootstrap import Interval
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, few_shot, normal_similarity, paired_networks, records

MMD = similarity.get("mmd")


def cloud(rng, n, where, d=20):
    return rng.normal(size=(n, d)) + where * np.eye(d)[0]


def compared(where, measure=MMD, seed=0, rival=6.0, groups=None):
    rng = np.random.default_rng(seed)
    pool = np.concatenate([cloud(rng, 60, 0), cloud(rng, 60, 0), cloud(rng, 60, where), cloud(rng, 60, rival)])
    parts = np.split(np.arange(240), 4)
    groups = np.arange(240) if groups is None else groups
    statistic = measure.on(pool, pool[parts[0]], groups)
    return normal_similarity.compare(measure, statistic, *parts[:3], {"rival": parts[3]}, groups, 39, 30, rng)


def test_a_class_like_normal_is_near_and_one_like_the_rival_is_not():
    same, far, beyond = (compared(where).nearness["rival"] for where in (0.0, 6.0, -6.0))
    assert same.low < 1 < same.high
    assert same.low > normal_similarity.NEAR
    assert far.value == pytest.approx(-1, abs=0.15)
    # On the other side of normal it is far from both.
    assert far.high < beyond.value < same.low


def test_p_value_is_small_for_a_class_that_differs_and_not_for_one_that_does_not():
    assert compared(3.0).p_value == 1 / 40
    assert np.mean([compared(0.0, seed=seed).p_value for seed in range(12)]) > 0.25


@pytest.mark.parametrize("name", ["frechet", "overlap", "a_distance"])
def test_similarities_and_distances_share_one_scale(name):
    measure = similarity.get(name)
    near, far = compared(0.0, measure), compared(3.0, measure)
    assert far.excess > near.excess
    assert far.nearness["rival"].value < near.nearness["rival"].value


def test_without_a_scale_there_is_no_nearness():
    assert np.isnan(compared(0.0, rival=0.0).nearness["rival"].low)


def told_apart(statistic, farther=True, n_permutations=0, groups=None):
    """Five samples of 40 of a pool whose first number says which: normal, further, anomalous and two rivals."""
    parts = np.split(np.arange(200), 5)
    rivals = {"one": parts[3], "two": parts[4]}
    groups = np.arange(200) if groups is None else groups
    measure = SimpleNamespace(farther=farther)
    rng = np.random.default_rng(0)
    return normal_similarity.compare(measure, statistic, *parts[:3], rivals, groups, n_permutations, 200, rng)


@pytest.mark.parametrize("farther", [True, False])
def test_what_is_told_of_a_class_are_differences_of_the_measure(farther):
    """Distances by table, or similarities that are their negatives."""
    distance = {(2, 0): 3.0, (2, 3): 5.0, (2, 4): 2.0, (1, 0): 1.0, (1, 3): 9.0, (1, 4): 11.0}
    found = told_apart(lambda a, b: (1 if farther else -1) * distance[a[0] // 40, b[0] // 40], farther)
    sign = 1 if farther else -1
    assert (found.anomaly, found.ceiling) == (sign * 3, sign * 1)
    assert found.rivals == {"one": sign * 5, "two": sign * 2}
    assert found.scales == {"one": sign * 9, "two": sign * 11}
    assert (found.excess, found.excess_error, found.n) == (2, 0, 40)
    assert np.isnan(found.p_value)
    for name, value in (("one", (5 - 3) / (9 - 1)), ("two", (2 - 3) / (11 - 1))):
        # Nothing varies from half to half.
        assert found.nearness[name] == Interval(value=value, low=value, high=value)


def test_errors_are_those_of_differences_from_half_to_half():
    """What moves all comparisons of a class alike widens nothing; what moves one of two, by as much."""
    noise = np.random.default_rng(1).normal(size=200)
    distance = np.array([1.0, 0, 0, 5, 9])

    def of_sample(a, b):
        return noise[a].mean() + distance[b[0] // 40]

    found = told_apart(of_sample)
    for name in found.nearness:
        assert found.nearness[name].high - found.nearness[name].low < 1e-6
    # Half of 40 values, drawn without replacement, by their spread.
    errors = [np.std(noise[part], ddof=1) * np.sqrt(1 / 20 - 1 / 40) for part in (slice(40, 80), slice(80, 120))]
    assert found.excess_error == pytest.approx(np.hypot(*errors), rel=0.15)

    def of_reference(a, b):
        return noise[b].mean() + distance[b[0] // 40]

    found = told_apart(of_reference)
    assert found.excess_error == pytest.approx(0, abs=1e-12)
    # Both differences move together, so that their ratio stays.
    assert found.nearness["two"].high - found.nearness["two"].low < 1e-6

    def of_class(a, b):
        return distance[b[0] // 40] + (noise[a].mean() if a[0] // 40 == 2 and b[0] // 40 == 3 else 0.0)

    found = told_apart(of_class)
    width = (found.nearness["one"].high - found.nearness["one"].low) / (2 * 1.96)
    # The scale is 5 - 1.
    assert width == pytest.approx(errors[1] / 4, rel=0.15)
    assert found.nearness["two"].high == found.nearness["two"].low


@pytest.mark.parametrize("sign", [1, -1])
def test_standard_errors_are_those_over_halves_to_the_last_digit(sign):
    """The statistic tells one seen value after the other: of the data, then of each half."""
    seen = np.random.default_rng(0).normal([[0, 9, 7], [0, 12, 14]], size=(5, 2, 3))
    told = iter(sign * seen.ravel())
    parts = np.split(np.arange(200), 5)
    found = normal_similarity.compare(
        SimpleNamespace(farther=sign > 0), lambda a, b: next(told), *parts[:3], {"one": parts[3], "two": parts[4]},
        np.arange(200), 0, 4, np.random.default_rng(0),
    )  # fmt: skip
    assert found.excess == pytest.approx(seen[0, 0, 0] - seen[0, 1, 0])
    assert found.excess_error == pytest.approx(np.std(seen[1:, 0, 0] - seen[1:, 1, 0], ddof=1))
    gaps = seen[:, :, 1:] - seen[:, :, :1]
    for number, name in enumerate(("one", "two")):
        wanted = normal_similarity.fieller(*gaps[0, :, number], np.cov(gaps[1:, :, number].T))
        assert found.nearness[name].model_dump() == pytest.approx(wanted.model_dump())


def test_what_was_said_beforehand_is_what_the_claims_say():
    said = {(entry.effect, *entry.arguments.values()): entry.threshold for entry in ledger.claims() if entry.threshold}
    assert normal_similarity.NEAR == said["nearness", "image"] == said["nearness", "defect"]
    assert said["separability", "margin"] == normal_similarity.NARROW
    assert said["separability", "separability"] == hypothesis.SEPARABLE


def test_a_p_value_counts_permutations_that_are_as_extreme():
    def constant(a, b):
        return 1.0

    assert told_apart(constant, n_permutations=9).p_value == 1.0
    own = np.repeat([0, 0, 1, 0, 0], 40)
    for sign in (1, -1):
        found = told_apart(lambda a, b, sign=sign: sign * own[a].mean(), farther=sign > 0, n_permutations=9)
        assert found.p_value == 1 / 10
        assert found.excess == 1
        found = told_apart(lambda a, b, sign=sign: -sign * own[a].mean(), farther=sign > 0, n_permutations=9)
        assert found.p_value == 1.0


def test_fieller_covers_the_ratio():
    rng, hits = np.random.default_rng(0), 0
    covariance = np.array([[0.04, 0.01], [0.01, 0.02]])
    for above, below in rng.multivariate_normal([0.6, 1.0], covariance, 400):
        found = normal_similarity.fieller(above, below, covariance)
        hits += found.low <= 0.6 <= found.high
    assert 0.92 < hits / 400 < 0.98
    # A rival that is nearer than normal images gives no scale.
    assert np.isnan(normal_similarity.fieller(-0.3, -0.5, np.diag([0.002, 0.002])).low)
    exact = normal_similarity.fieller(1.0, 2.0, np.diag([0.01, 0.0]))
    assert (exact.low, exact.high) == pytest.approx((0.5 - norm.ppf(0.975) / 20, 0.5 + norm.ppf(0.975) / 20), abs=1e-4)


def test_fieller_s_bounds_are_the_ratios_that_the_data_just_allow():
    """By definition: r is inside if ``above - r * below`` is within 1.96 of its standard errors of zero."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        above, below = rng.normal(1, 1), rng.normal(3, 0.5)
        root = rng.normal(0, 0.3, (2, 2))
        covariance = root @ root.T

        def z(ratio, above=above, below=below, covariance=covariance):
            direction = np.array([1, -ratio])
            return (above - ratio * below) / np.sqrt(direction @ covariance @ direction)

        found = normal_similarity.fieller(above, below, covariance)
        assert found.low < found.value == above / below < found.high
        assert (z(found.low), z(found.high)) == pytest.approx((1.96, -1.96))
        mirrored = normal_similarity.fieller(-above, below, covariance * [[1, -1], [-1, 1]])
        assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_matched_samples_have_the_same_groups():
    from anomaly_transfer.studies.protocol import divide

    groups = np.repeat([f"{i:02}" for i in range(30)], 10)
    kinds = np.where(np.arange(300) % 10 < np.repeat(np.arange(30) % 8 + 1, 10), NORMAL, "x")
    domain = divide(category(groups, kinds))
    anomalous, normal = normal_similarity.matched_by_group(domain, "x", 40, np.random.default_rng(0))
    assert sorted(domain.groups[anomalous]) == sorted(domain.groups[normal])
    assert set(domain.table["anomaly_class"].iloc[anomalous]) == {"x"}
    assert set(domain.table["anomaly_class"].iloc[normal]) == {NORMAL}
    assert np.isin([*anomalous, *normal], domain.target).all()


def test_where_few_groups_hold_both_kinds_both_are_drawn_freely():
    """Half of the class shares a group with normal images: those alone are taken; less than half: any are."""
    from anomaly_transfer.studies.protocol import divide

    def taken(n_shared, n_alone, most=40):
        rows = [(f"{i:02}", kind) for i in range(60) for kind in (NORMAL, NORMAL, *["x"] * (i < n_shared))]
        rows += [(f"alone {i:02}", "x") for i in range(n_alone)]
        groups, kinds = map(np.array, zip(*rows, strict=True))
        domain = divide(category(groups, kinds))
        domain = dataclasses.replace(domain, source=np.arange(0), target=np.arange(len(rows)))
        anomalous, normal = normal_similarity.matched_by_group(domain, "x", most, np.random.default_rng(0))
        assert len(anomalous) == len(normal) == len(set(anomalous)) == len(set(normal))
        assert set(domain.table["anomaly_class"].iloc[anomalous]) == {"x"}
        assert set(domain.table["anomaly_class"].iloc[normal]) == {NORMAL}
        return domain.groups[anomalous], domain.groups[normal]

    anomalous, normal = taken(20, 20)
    assert sorted(anomalous) == sorted(normal) == sorted(set(anomalous))
    assert len(anomalous) == 20
    anomalous, normal = taken(20, 21)
    assert len(anomalous) == 40
    assert any(name.startswith("alone") for name in anomalous)
    assert [len(part) for part in taken(20, 20, most=7)] == [len(part) for part in taken(20, 21, most=7)] == [7, 7]
    assert len(taken(2, 5)[0]) == 7


def test_the_margin_is_the_gap_between_the_bulks_in_spreads_within_the_classes():
    rng = np.random.default_rng(0)
    train, test = ((cloud(rng, 90, 0), cloud(rng, 30, 3.0)) for _ in range(2))
    objects = np.arange(90), np.arange(30)
    found = normal_similarity.separability(train, test, objects, 200, np.random.default_rng(0))
    x, y = np.concatenate(train), np.repeat([0, 1], [90, 30])
    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=20, class_weight="balanced")).fit(x, y)
    normal, anomalous = map(probe.decision_function, test)
    auroc = (normal[:, None] < anomalous).mean()
    within = np.sqrt((normal.var() + anomalous.var()) / 2)
    assert found["separability"].value == pytest.approx(auroc)
    assert found["margin"].value == pytest.approx((np.quantile(anomalous, 0.05) - np.quantile(normal, 0.95)) / within)
    for interval in found.values():
        assert interval.value - interval.low == pytest.approx(interval.high - interval.value)
    # Of an AUROC, by DeLong et al. (1988): the spread of what each image is ranked before.
    ranked = normal[:, None] < anomalous
    error = np.sqrt(ranked.mean(1).var(ddof=1) / 90 + ranked.mean(0).var(ddof=1) / 30)
    assert (found["separability"].high - auroc) / 1.96 == pytest.approx(error, rel=0.25)


def separability(where, seed=0, groups=80):
    rng = np.random.default_rng(seed)
    train, test = ((cloud(rng, 80, 0), cloud(rng, 80, where)) for _ in range(2))
    objects = np.arange(80) % groups
    found = normal_similarity.separability(train, test, (objects, objects + groups), 60, rng)
    return found["separability"], found["margin"]


def test_a_class_that_the_target_lacks_is_left_out():
    """Its images were all dealt to the source."""
    table = pd.DataFrame(
        {"group": list("aabbccdd"), "anomaly_class": [NORMAL, "x", NORMAL, NORMAL, "x", "y", "y", "y"]}
    )
    domain = normal_similarity.Domains(None, table, np.array([4, 5, 6, 7]), np.array([0, 1, 2, 3]))
    assert [len(part) for part in normal_similarity.matched_by_group(domain, "y", 40, np.random.default_rng(0))] == [
        0,
        0,
    ]
    assert [len(part) for part in normal_similarity.matched_by_group(domain, "x", 40, np.random.default_rng(0))] == [
        1,
        1,
    ]


def test_separability_and_margin():
    auroc, margin = separability(9)
    assert auroc.value > 0.99
    assert margin.low > normal_similarity.NARROW
    auroc, margin = separability(0)
    assert auroc.low < 0.5 < auroc.high
    assert margin.value < -2


def test_intervals_of_separability_hold_what_other_images_would_give():
    several = [separability(1.5, seed) for seed in range(40)]
    for number in (0, 1):
        truth = np.mean([found[number].value for found in several])
        # Of the test images: the classifier was fitted on others each time, which the intervals do not cover.
        assert np.mean([found[number].low <= truth <= found[number].high for found in several]) > 0.75
        spread = np.std([found[number].value for found in several])
        assert np.mean([found[number].high - found[number].low for found in several]) < 3 * 3.92 * spread


def test_patches_on_the_defect_and_far_from_it():
    mask = np.zeros((64, 64), dtype=bool)
    mask[2:12, 50:62] = True
    cover = normal_similarity._coverage(mask, (4, 4))
    assert cover.sum() == mask.sum()
    assert cover.argmax() == 3
    assert normal_similarity._farthest(cover, (4, 4)) == 12


@pytest.mark.parametrize(("shape", "grid"), [((12, 20), (3, 4)), ((10, 7), (4, 3)), ((9, 9), (9, 9))])
def test_every_pixel_of_a_mask_counts_in_one_patch(shape, grid):
    for y in range(shape[0]):
        for x in range(shape[1]):
            mask = np.zeros(shape, bool)
            mask[y, x] = True
            cover = normal_similarity._coverage(mask, grid).reshape(grid)
            assert cover.sum() == 1
            row, column = np.argwhere(cover)[0]
            # Patches are equal to a pixel.
            assert abs((y + 0.5) / shape[0] * grid[0] - (row + 0.5)) < 0.5 + grid[0] / shape[0]
            assert abs((x + 0.5) / shape[1] * grid[1] - (column + 0.5)) < 0.5 + grid[1] / shape[1]
    assert normal_similarity._coverage(np.ones(shape, bool), grid).sum() == np.prod(shape)


def test_patches_are_picked_image_by_image_over_all_batches():
    from anomaly_transfer.detectors.patch import patch_features
    from anomaly_transfer.features.features import Features

    rng = np.random.default_rng(0)
    maps = Features.of(level=rng.normal(size=(150, 3, 4, 5)).astype("f4"))
    place = rng.integers(20, size=150)
    flat = patch_features(maps).reshape(150, 20, 3)
    assert np.allclose(normal_similarity._picked(maps, place, rng), flat[np.arange(150), place])
    free = normal_similarity._picked(maps, None, rng)
    chosen = [np.flatnonzero((image == patch).all(axis=1)).item() for image, patch in zip(flat, free, strict=True)]
    assert set(chosen) == set(range(20))


def test_samples_of_a_level_are_what_they_are_called(monkeypatch):
    """The features of an image are its number, and those of rivals are negative."""
    from anomaly_transfer import profiles
    from anomaly_transfer.studies.protocol import divide

    kinds = np.tile([NORMAL, NORMAL, NORMAL, "x", "y", NORMAL], 50)
    kinds[np.flatnonzero(kinds == "y")[9:]] = "z"
    domain = divide(category(np.repeat([f"{i:02}" for i in range(50)], 6), kinds), most=1000)
    few = domain.rows(domain.target, "y")
    assert len(few) < 8 <= len(domain.rows(domain.target, "z"))
    arrays = [np.arange(300.0)[:, None], -1.0 - np.arange(20)[:, None], -100.0 - np.arange(7)[:, None]]
    sizes = profiles.get("smoke").model_copy(update={"sample": 30, "permutations": 19, "halves": 12})
    made, calls, nearness = [], [], dict.fromkeys("ab", Interval(value=0.5, low=0.25, high=0.75))

    def on(name):
        return SimpleNamespace(name=name, on=lambda *given: made.append(given))

    def watched(measure, statistic, *samples):
        calls.append((measure.name, *samples))
        return normal_similarity.Comparison(1, 2, {"a": 3, "b": 4}, {"a": 5, "b": 6}, 7, 8, 9, nearness, 10)

    monkeypatch.setattr(normal_similarity, "compare", watched)
    measures = [on(normal_similarity.PRIMARY), on("other")]
    object_of = {"a": np.arange(20) // 4}
    frame = normal_similarity._level(domain, arrays, ["a", "b"], object_of, measures, sizes, 0, "image", "deep")
    assert frame[["measure", "anomaly_class"]].values.tolist() == [
        [name, kind] for name in (normal_similarity.PRIMARY, "other") for kind in ("x", "z")
    ]
    row = frame.iloc[0]
    columns = ["anomaly", "ceiling", "a", "b", "excess", "excess_error", "p_value", "n"]
    assert row[columns].tolist() == [1, 2, 3, 4, 7, 8, 9, 10]
    assert row[["scale of a", "scale of b"]].tolist() == [5, 6]
    assert row[[f"{what} against b" for what in ("value", "low", "high")]].tolist() == [0.5, 0.25, 0.75]
    for number, (name, normal, further, anomalous, others, groups, n_permutations, n_halves, _) in enumerate(calls):
        pool, reference, same = made[number // 2]
        assert (n_permutations, n_halves) == ((19, 12) if name == normal_similarity.PRIMARY else (0, 6))
        rows = [pool[part, 0].astype(int) for part in (normal, further, anomalous)]
        assert np.array_equal(reference, pool[normal])
        assert set(rows[0]) <= set(domain.rows(domain.source, NORMAL))
        assert set(rows[1]) <= set(domain.rows(domain.target, NORMAL))
        assert set(rows[2]) <= set(domain.rows(domain.target, "xz"[number % 2]))
        assert len(rows[0]) == 30
        assert 8 <= len(rows[1]) == len(rows[2]) <= 30
        assert np.array_equal(pool[others["a"]], arrays[1])
        assert np.array_equal(pool[others["b"]], arrays[2])
        assert same is groups
        # Equal where objects are, and nowhere else.
        known = np.concatenate([domain.groups[pool[pool[:, 0] >= 0, 0].astype(int)], [f"a{i}" for i in object_of["a"]]])
        known = np.concatenate([known, [f"b{i}" for i in range(7)]])
        assert np.array_equal(groups[:, None] == groups, known[:, None] == known)
    told = frame["separability"].notna()
    assert told.tolist() == [True, True, False, False]
    away = normal_similarity._level(domain, arrays, ["a", "b"], object_of, measures, sizes, 0, "defect", "deep")
    assert "separability" not in away


def verdict_rows(**columns):
    rows = pd.DataFrame(
        {"benchmark": "b", "start": "imagenet", "region": "image", "measure": normal_similarity.PRIMARY, "p_value": 0.5}
        | {"photographs": 1.0, "low of separability": 0.5, "high of separability": 0.9}
        | {f"{what} against photographs": 0.0 for what in ("value", "low", "high")}
        | {f"{what} against materials": 0.0 for what in ("value", "low", "high")}
        | columns
    )
    return normal_similarity.verdicts(rows)


def test_a_class_is_near_if_its_whole_interval_is():
    low = np.array([0.6, 0.5, 0.4, 0.0, -0.1, np.nan])
    found = verdict_rows(**{"low against photographs": low, "value against photographs": 0.7})
    assert found["near"].tolist() == [True, False, False, False, False, False]
    assert found["nearer"].tolist() == [True, True, True, False, False, False]
    # Without a scale there is no nearness.
    assert found["nearness"].tolist() == pytest.approx([0.7] * 5 + [np.nan], nan_ok=True)
    other = verdict_rows(measure=[normal_similarity.PRIMARY, "energy"])
    assert len(other) == 1


def test_the_rival_is_photographs_where_there_are_any():
    found = verdict_rows(
        **{"photographs": [1.0, np.nan], "low against photographs": [0.7, np.nan], "low against materials": 0.2}
    )
    assert found["low"].tolist() == [0.7, 0.2]
    alone = normal_similarity.verdicts(
        verdict_rows(**{"low against materials": [0.3]}).drop(
            columns=["nearness", "low", "high", *(f"{w} against photographs" for w in ("value", "low", "high"))]
        )
    )
    assert alone["low"].tolist() == [0.3]


def test_classes_that_differ_are_told_after_a_correction_within_benchmark_start_and_region():
    p = np.array([0.01, 0.02, 0.03, 0.9])
    assert verdict_rows(p_value=p)["differs"].tolist() == [True, True, True, False]
    assert verdict_rows(p_value=p)["p_adjusted"].tolist() == pytest.approx([0.04, 0.04, 0.04, 0.9])
    for column in ("benchmark", "start", "region"):
        apart = verdict_rows(p_value=[0.04, 0.9], **{column: ["one", "two"]})
        assert apart["differs"].tolist() == [True, False]
    assert verdict_rows(p_value=[0.05])["differs"].tolist() == [False]


def test_a_patch_is_taken_where_the_defect_is_most_and_one_where_none_is_near(monkeypatch):
    """What is taken of each picture in either region; of the normal ones, the same places."""
    from anomaly_transfer import benchmarks, profiles
    from anomaly_transfer.features.features import Features
    from anomaly_transfer.studies import protocol

    sizes, side, grid = profiles.get("smoke"), 64, (8, 8)
    whole = benchmarks.get("surfaces").load("brick", 80)
    domain = protocol.divide(dataclasses.replace(whole, largest_input=side))
    images, masks = domain.category.images, domain.category.masks(np.arange(len(domain.table)), side)
    maps = Features.of(level=np.zeros((len(images), 2, *grid), "f4"))
    taken, levels = [], []
    monkeypatch.setattr(normal_similarity, "map_levels", lambda *_, **__: ("level",))
    monkeypatch.setattr(normal_similarity.starts, "features_of", lambda *_: maps)
    monkeypatch.setattr(normal_similarity, "_picked", lambda maps, place, rng: taken.append(place))
    monkeypatch.setattr(normal_similarity, "_level", lambda *given: levels.append(given))
    normal_similarity._patches(domain, {}, {}, None, sizes, 0, None)
    assert [region for *_, region, _ in levels] == ["defect", "background"]
    on, off = taken
    defective = np.array([mask is not None and mask.any() for mask in masks])
    assert 5 < defective.sum() < len(masks) - 5
    for row in np.flatnonzero(defective):
        # Defect pixels by patch, counted one by one.
        cover = masks[row].reshape(8, 8, 8, 8).sum(axis=(1, 3))
        assert cover.flat[on[row]] == cover.max() > 0
        y, x = np.nonzero(cover)

        def gap(place, y=y, x=x):
            return np.hypot(place // 8 - y, place % 8 - x).min()

        assert gap(off[row]) == max(gap(place) for place in range(64)) > 0
    for place in taken:
        assert set(place[~defective]) <= set(place[defective])
        assert len(set(place[~defective])) > 3


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def test_relations_of_drawn_defects(store):
    frame = normal_similarity.run("surfaces", "brick", "imagenet", 0, "smoke", store).frame()
    assert set(frame["start"]) == {"imagenet"}
    assert set(frame["region"]) == {"image", "defect", "background"}
    assert set(frame["measure"]) == {measure.name for measure in similarity.UNPAIRED}
    found = normal_similarity.verdicts(frame)
    assert found["nearness"].isna().equals(found["low"].isna())
    bounds = ["low of separability", "high of separability"]
    wide = normal_similarity.verdicts(frame.assign(**dict.fromkeys(bounds, 1.04)))
    assert wide[bounds].max().to_list() == [1, 1]
    twice = normal_similarity.verdicts(pd.concat([frame, frame.assign(benchmark="another")]))
    assert twice["p_adjusted"].tolist() == [*found["p_adjusted"], *found["p_adjusted"]]
    by_region = found[found["anomaly_class"] != "control"].groupby("region")["nearness"].median()
    assert by_region["defect"] < by_region["background"]


def test_records_are_kept_exported_and_read_back(store, tmp_path, monkeypatch):
    first = normal_similarity.run("surfaces", "brick", "imagenet", 0, "smoke", store)
    monkeypatch.setattr(normal_similarity, "_of_images", lambda *_: pytest.fail("computed twice"))
    assert normal_similarity.run("surfaces", "brick", "imagenet", 0, "smoke", store) == first
    records.export([first], tmp_path / "out")
    assert (tmp_path / "out" / "normal_similarity" / "imagenet__surfaces__brick__0.json").is_file()
    assert records.load(tmp_path / "out") == [first]
    # A damaged entry is computed again.
    (store.path("records", first.key) / base.RECORD).write_text("{")
    with pytest.raises(pytest.fail.Exception, match="computed twice"):
        normal_similarity.run("surfaces", "brick", "imagenet", 0, "smoke", store)
    with pytest.raises(StoreError, match="make study"):
        records.recorded("normal_similarity", "smoke")


def test_a_record_is_new_when_its_data_or_weights_are(monkeypatch):
    from anomaly_transfer import benchmarks, profiles
    from anomaly_transfer.networks import backbones
    from anomaly_transfer.studies import base

    def key(category, *others):
        study = normal_similarity.STUDY
        asked = study.experiment("surfaces", "brick", "imagenet", 0, "smoke")
        return base.request(study, asked, (), category, profiles.get("smoke"), list, others).key

    whole = benchmarks.get("surfaces").load("brick")
    first = key(whole)
    assert key(benchmarks.get("surfaces").load("brick")) == first
    assert key(whole.taken(np.arange(20))) != first
    assert key(dataclasses.replace(whole, largest_input=64)) != first
    assert key(whole, whole) != first
    with monkeypatch.context() as patch:
        patch.setattr(type(benchmarks.get("surfaces")), "target_classes", ("crack",))
        assert key(whole) != first
    monkeypatch.setattr(backbones, "weights_hash", lambda name: "other")
    assert key(whole) != first


def test_features_of_many_objects_are_compared_with_each_other(store, monkeypatch):
    from anomaly_transfer import benchmarks
    from anomaly_transfer.benchmarks.base import Category
    from anomaly_transfer.data.annotations import Annotations
    from anomaly_transfer.features.features import Features

    known = benchmarks.get("mvtec_features")

    def load(name, limit=None):
        rng = np.random.default_rng(sum(map(ord, name)))
        vectors = rng.normal(size=(90, 16)).astype(np.float32) + 4 * rng.normal(size=16).astype(np.float32)
        kinds = np.repeat([NORMAL, "defective"], [60, 30])
        table = pd.DataFrame({"id": range(90), "group": range(90), "anomaly_class": kinds, "grade": np.nan}).astype(
            {"id": str, "group": str}
        )
        return Category(known.name, name, Features.of(net=vectors), Annotations(table))

    names = tuple(f"net-{number}" for number in range(14))
    monkeypatch.setattr(type(known), "available", lambda self: names)
    monkeypatch.setattr(type(known), "load", lambda self, name, limit=None: load(name))
    frame = normal_similarity.run("mvtec_features", "net-0", "imagenet", 0, "smoke", store).frame()
    found = normal_similarity.verdicts(frame)
    assert found["nearness"].item() == pytest.approx(1, abs=0.3)
    with pytest.raises(ValueError, match="ImageNet only"):
        normal_similarity.run("mvtec_features", "net-0", "random", 0, "smoke", store)
    monkeypatch.setattr(type(known), "available", lambda self: names[:1])
    with pytest.raises(DataError, match="none is at hand"):
        normal_similarity.run("mvtec_features", "net-0", "imagenet", 0, "smoke", store)


def test_few_shots_are_drawn_from_the_source_and_the_same_for_every_start(store):
    found = {s: few_shot.run("surfaces", "brick", s, 0, "smoke", store).frame() for s in ("imagenet", "random")}
    detection = {s: f[(f["task"] == "detection") & (f["level"] == few_shot.ALL)] for s, f in found.items()}
    columns = ["anomaly_class", "k", "draw"]
    assert detection["imagenet"][columns].equals(detection["random"][columns])
    means = {s: f[f["anomaly_class"] != "control"]["value"].mean() for s, f in detection.items()}
    assert means["imagenet"] > means["random"] + 0.05
    control = detection["imagenet"].query("anomaly_class == 'control'")["value"].mean()
    assert control == pytest.approx(0.5, abs=0.2)
    tasks = set(found["imagenet"]["task"])
    assert tasks == {"detection", "recognition", "hscore", "logme", "leep", "probe", "knn"}
    assert set(found["random"]["task"]) == tasks - {"leep"}


def test_few_shot_classifiers_see_no_image_of_the_target(monkeypatch):
    from anomaly_transfer.studies.protocol import divide

    kinds = np.tile([NORMAL, NORMAL, "x", "y"], 60)
    domain = divide(category(np.repeat([str(i) for i in range(60)], 4), kinds))
    seen = []
    monkeypatch.setattr(
        few_shot, "_fitted", lambda x, chosen, fit=few_shot._fitted: (seen.append(chosen), fit(x, chosen))[1]
    )
    few_shot.few_shot(domain, {"all": np.random.default_rng(0).normal(size=(240, 5))}, (2, 5), 3, 0)
    rows = np.concatenate([part for chosen in seen for part in chosen.values()])
    assert len(rows)
    assert np.isin(rows, domain.source).all()


def test_twin_networks_must_not_have_seen_normal_images():
    with pytest.raises(ValueError, match="choose from imagenet, random"):
        paired_networks.run("elpv", "mono", "random+normal", 0, "smoke")


def test_twin_networks(store):
    frame = paired_networks.run("elpv", "mono", "imagenet", 0, "smoke", store).frame()
    cka = frame[(frame["measure"] == "cka") & (frame["level"] == "head")].set_index("trained_on")["value"]
    assert {paired_networks.FURTHER, paired_networks.PHOTOGRAPHS, paired_networks.UNTRAINED, "p = 1"} <= set(cka.index)
    # Other normal images and other photographs make other networks, and none is the one that was not trained.
    assert cka.nunique() == len(cka)
    assert cka.max() < 1
    assert frame[frame["measure"] == "cka"]["p_value"].notna().all()


@pytest.mark.parametrize("study", ["few_shot", "paired_networks"])
def test_further_studies_are_recorded(study):
    found = records.recorded(study)
    assert {"elpv", "magnetic_tile"} <= {record.experiment.benchmark for record in found}
    assert {record.experiment.profile for record in found} == {"study"}


def test_records_name_their_origin():
    found = records.recorded("normal_similarity")
    where = {(record.experiment.benchmark, record.experiment.category) for record in found}
    assert {("elpv", "mono"), ("elpv", "poly"), ("magnetic_tile", "tile"), ("crackforest", "road")} <= where
    for record in found:
        assert record.experiment.profile == "study"
        assert len(record.provenance.code) == 64
        assert set(record.frame()["region"]) <= {"image", "defect", "background"}
