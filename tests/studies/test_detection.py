import shutil

import numpy as np
import pandas as pd
import pytest

from anomaly_transfer import benchmarks, profiles, studies
from anomaly_transfer.code_used import Code
from anomaly_transfer.errors import DataError, StoreError
from anomaly_transfer.metrics import aggregate
from anomaly_transfer.networks import backbones
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, detection
from anomaly_transfer.studies.base import SCORES


def run(store, **changes):
    asked = {
        "benchmark": "elpv",
        "category": "mono",
        "variant": "neighbours@head",
        "seed": 0,
        "profile": "smoke",
        "split": "grouped",
    }
    return detection.run(**(asked | changes), store=store)


def auroc(record, group="target"):
    return detection.interval(record, group=group).value


#: How far what a record keeps is from what was measured, at most: it has five significant digits.
DIGITS = 1e-5


@pytest.fixture
def computed(monkeypatch):
    """The experiments that were really computed."""
    calls = []
    original = detection._Run.result
    monkeypatch.setattr(detection._Run, "result", lambda asked: (calls.append(asked.experiment), original(asked))[1])
    return calls


def test_the_same_question_is_computed_once(store, computed):
    first, second = run(store), run(store)
    assert first == second
    assert len(computed) == 1


@pytest.mark.parametrize(
    "change", [{"variant": "gaussian@head"}, {"category": "poly"}, {"split": "random"}, {"seed": 1}]
)
def test_another_question_is_another_record(store, computed, change):
    assert run(store).key != run(store, **change).key
    assert len(computed) == 2


@pytest.mark.parametrize("what", ["code", "weights", "data", "settings"])
def test_changed_inputs_make_a_record_stale(store, computed, monkeypatch, what):
    run(store)
    if what == "code":
        monkeypatch.setattr(base, "code_of", lambda *places: Code({}, {}))
    elif what == "weights":
        monkeypatch.setattr(backbones, "weights_hash", lambda name: "other")
    elif what == "data":
        smaller = benchmarks.get("elpv").load("mono", 100)
        monkeypatch.setattr(detection, "_category", lambda *args: smaller)
    else:
        other = profiles.get("smoke").model_copy(update={"bootstrap": 60})
        monkeypatch.setattr(profiles, "get", lambda name: other)
    run(store)
    assert len(computed) == 2


def test_the_same_seed_gives_identical_scores_from_an_empty_store(tmp_path):
    runs = [run(Store(tmp_path / name), variant="patch-memory") for name in "ab"]
    files = [Store(tmp_path / name).path("records", runs[0].key) / SCORES for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert runs[0].rows == runs[1].rows


def test_a_damaged_record_is_computed_again(store, computed):
    record = run(store)
    (store.path("records", record.key) / "record.json").write_text("{")
    assert run(store).rows == record.rows
    assert len(computed) == 2


def test_every_image_is_scored_once_and_metrics_are_those_of_the_scores(store):
    record = run(store)
    scores = detection.scores(record, store)
    assert scores["id"].is_unique
    assert len(scores) == sum(record.facts["counts"].values())
    part = scores[scores["anomaly_class"].isin(["normal", "p = 1"])]
    chances = [
        np.mean(fold.loc[fold["anomaly_class"] == "normal", "score"] < score)
        for _, fold in part.groupby("fold")
        for score in fold.loc[fold["anomaly_class"] == "p = 1", "score"]
    ]
    assert auroc(record) == pytest.approx(np.mean(chances), abs=DIGITS)


def test_within_group_equals_the_headline_where_a_fold_is_a_group(store):
    record = run(store)
    plain, within = (detection.table([record], group=name)["value"].iloc[0] for name in ("target", "within group"))
    assert within == pytest.approx(plain)


def test_within_group_ignores_what_tells_groups_apart(store):
    record = run(store, split="random", variant="gaussian@stage2")
    scores = detection.scores(record, store)
    shifted = scores.assign(score=scores["score"] + 1000.0 * (scores["group"] == "cells 1-60"))
    before, after = (detection._within_group(table, ("p = 1",), 50)["auroc"].value for table in (scores, shifted))
    assert before == after == pytest.approx(auroc(record, "within group"), abs=DIGITS)


def test_groups_make_up_the_headline(store):
    record = run(store)
    groups = detection.by_group(record, store)
    assert len(groups) == 5
    assert (
        groups[["normal", "anomalous"]].to_numpy().sum()
        == record.facts["counts"]["normal"] + record.facts["counts"]["p = 1"]
    )
    mean = np.average(groups["value"], weights=groups["anomalous"])
    assert mean == pytest.approx(auroc(record), abs=DIGITS)


def test_comparing_a_record_with_itself_gives_zero(store):
    record = run(store)
    assert detection.compare(record, record, store=store)["auroc"].value == 0
    other = run(store, category="poly")
    with pytest.raises(ValueError, match="same images"):
        detection.compare(record, other, store=store)


def test_across_splits_records_are_compared_within_groups(store):
    grouped, random = (run(store, split=split) for split in ("grouped", "random"))
    difference = detection.compare(random, grouped, within="group", store=store)["auroc"].value
    values = [auroc(record, "within group") for record in (random, grouped)]
    assert difference == pytest.approx(values[0] - values[1], abs=DIGITS)


def test_across_splits_only_images_that_one_model_scored_are_compared(store):
    """Shifting all scores of one model changes nothing, whichever split it belongs to."""
    grouped, random = (run(store, split=split) for split in ("grouped", "random"))
    tables = [detection._targets(record, store) for record in (random, grouped)]
    plain = detection._paired(*tables, "fold", 50)["auroc"]
    for number in (0, 1):
        shifted = [table.copy() for table in tables]
        shifted[number]["score"] += 1000.0 * (shifted[number]["fold"] == 2)
        assert detection._paired(*shifted, "fold", 50)["auroc"] == plain
    assert detection.compare(random, grouped, store=store)["auroc"].value == pytest.approx(plain.value, abs=DIGITS)


@pytest.mark.parametrize("split", ["random", "matched"])
def test_a_leaking_split_records_by_how_much_it_flatters(store, split):
    record = run(store, split=split)
    grouped = run(store)
    assert "minus grouped" not in detection.groups(grouped)
    for metric, told in detection.compare(record, grouped, store=store).items():
        kept = detection.interval(record, metric, "minus grouped")
        assert kept.model_dump() == pytest.approx(told.model_dump(), abs=DIGITS, nan_ok=True)


def test_records_count_what_was_fitted_and_copies(store, monkeypatch, mvtec_folder, tmp_path):
    record = run(store)
    assert len(record.facts["fitted_on"]) == 5
    assert sum(record.facts["fitted_on"]) == 4 * record.facts["counts"]["normal"]
    assert record.facts["duplicates"] == 0
    own = shutil.copytree(mvtec_folder, tmp_path / "data" / "own" / "part")
    shutil.copy(own / "train" / "good" / "003.png", own / "test" / "good" / "copy.png")
    record = run(store, benchmark="own", category="part", split="official")
    assert record.facts["duplicates"] == 1
    assert record.facts["counts"] == {"normal": 7, "hole": 6}
    assert record.facts["fitted_on"] == [14]


def test_with_masks_a_localiser_is_judged_by_pixels(store):
    found = detection.matrix(["patch-memory", "neighbours@head"], "surfaces", "smoke", ["brick"])
    patch, pooled = (studies.run(e, store) for e in found)
    assert detection.interval(patch, "pixel_auroc", "pixel").value > 0.6
    pro = detection.interval(patch, "pro", "pixel")
    assert 0 < pro.low < pro.high
    assert "pixel" not in detection.groups(pooled)


def test_small_pictures_are_not_enlarged_beyond_sense(store):
    profile = profiles.get("study")
    assert benchmarks.get("mnist5k").load("0", 20).input_side(profile.image_size) == 112
    assert benchmarks.get("elpv").load("mono", 20).input_side(profile.image_size) == 224


def test_a_benchmark_that_is_not_at_hand_says_how_to_get_it(store):
    (first, *_) = detection.matrix(["gaussian"], "mnist", "smoke")
    with pytest.raises(DataError, match="anomaly-transfer fetch mnist"):
        studies.run(first, store)


def test_the_matrix_defaults_to_all_categories_and_the_recommended_split():
    found = detection.matrix(["gaussian"], "elpv", "study")
    assert {e.category for e in found} == {"mono", "poly"}
    assert {e.split for e in found} == {"grouped"}
    assert {e.seed for e in found} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "magic"}, "no variant"),
        ({"benchmark": "moon"}, "no benchmark"),
        ({"category": "amorphous"}, "mono, poly"),
        ({"split": "official"}, "grouped, random, matched"),
        ({"profile": "desktop"}, "no profile"),
    ],
)
def test_unknown_names_list_the_choices(store, change, message):
    with pytest.raises(ValueError, match=message):
        run(store, **change)


def test_tables_hold_one_row_a_record(store):
    record = run(store)
    row = detection.table([record]).iloc[0]
    assert row["method"] == "neighbours@head"
    assert row["low"] <= row["value"] <= row["high"]
    averaged = aggregate.mean_over_seeds(detection.table([record, record]))
    assert len(averaged) == 1
    assert averaged["value"].iloc[0] == row["value"]


def test_a_metric_that_a_record_lacks_is_named(store):
    record = run(store)
    for wanted in ({"metric": "pixel_auroc", "group": "pixel"}, {"metric": "luck"}):
        with pytest.raises(ValueError, match=r"has no .*: it has target"):
            detection.interval(record, **wanted)
        with pytest.raises(ValueError, match=r"has no .*: it has target"):
            detection.table([record], **wanted)


def test_rows_by_the_recommended_split_are_those_of_the_records(store):
    found = [run(store), run(store, split="random"), run(store, variant="gaussian@head")]
    rows = pd.concat([record.frame() for record in found], ignore_index=True)
    for wanted in ({}, {"metric": "average_precision", "group": "p = 1"}):
        chosen = detection.recommended(rows, **wanted).reset_index(drop=True)
        pd.testing.assert_frame_equal(chosen, detection.table([found[0], found[2]], **wanted), check_like=True)


def test_what_is_recorded_of_a_method_is_its_first_seed_by_the_recommended_split():
    found = detection.recorded(["gaussian", "svm"])
    assert set(found["method"]) == {"gaussian", "svm"}
    assert set(found["seed"]) == {0}
    assert not found.duplicated(["method", "benchmark", "category"]).any()
    for benchmark, part in found.groupby("benchmark"):
        assert set(part["split"]) == {benchmarks.get(benchmark).splits[0]}
    assert found["value"].between(found["low"], found["high"]).all()
    with pytest.raises(StoreError, match="no records of the study 'detection'"):
        detection.recorded(["gaussian"], "full")
