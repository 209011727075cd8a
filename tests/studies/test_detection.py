import shutil

import numpy as np
import pytest

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.code_used import Code
from anomaly_transfer.errors import DataError
from anomaly_transfer.metrics import aggregate
from anomaly_transfer.store import Store
from anomaly_transfer.studies import detection
from anomaly_transfer.studies.records import SCORES, Experiment


def experiment(**changes):
    base = {
        "method": "neighbours@head",
        "benchmark": "elpv",
        "category": "mono",
        "split": "grouped",
        "seed": 0,
        "profile": "smoke",
    }
    return Experiment(**(base | changes))


@pytest.fixture
def computed(monkeypatch):
    """The experiments that were really computed."""
    calls = []
    original = detection.Plan.compute
    monkeypatch.setattr(
        detection.Plan, "compute", lambda plan, *rest: (calls.append(plan.experiment), original(plan, *rest))[1]
    )
    return calls


def test_the_same_question_is_computed_once(store, computed):
    first, second = detection.run(experiment(), store), detection.run(experiment(), store)
    assert first == second
    assert len(computed) == 1


@pytest.mark.parametrize(
    "change", [{"method": "gaussian@head"}, {"category": "poly"}, {"split": "random"}, {"seed": 1}]
)
def test_another_question_is_another_record(store, computed, change):
    assert detection.run(experiment(), store).key != detection.run(experiment(**change), store).key
    assert len(computed) == 2


@pytest.mark.parametrize("what", ["code", "weights", "data", "settings"])
def test_changed_inputs_make_a_record_stale(store, computed, monkeypatch, what):
    detection.run(experiment(), store)
    if what == "code":
        monkeypatch.setattr(detection, "code", lambda method: Code({}, {}))
    elif what == "weights":
        monkeypatch.setattr(detection, "_weights_hash", lambda name: "other")
    elif what == "data":
        smaller = benchmarks.get("elpv").load("mono", 100)
        monkeypatch.setattr(detection, "_category", lambda *args: smaller)
    else:
        other = profiles.get("smoke").model_copy(update={"bootstrap": 60})
        monkeypatch.setattr(profiles, "get", lambda name: other)
    detection.run(experiment(), store)
    assert len(computed) == 2


def test_the_same_seed_gives_identical_scores_from_an_empty_store(tmp_path):
    runs = [detection.run(experiment(method="patch-memory"), Store(tmp_path / name)) for name in "ab"]
    files = [Store(tmp_path / name).path("records", runs[0].key) / SCORES for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert runs[0].metrics == runs[1].metrics


def test_a_damaged_record_is_computed_again(store, computed):
    record = detection.run(experiment(), store)
    (store.path("records", record.key) / "record.json").write_text("{")
    assert detection.run(experiment(), store).metrics == record.metrics
    assert len(computed) == 2


def test_every_image_is_scored_once_and_metrics_are_those_of_the_scores(store):
    record = detection.run(experiment(), store)
    scores = detection.scores(record, store)
    assert scores["id"].is_unique
    assert len(scores) == sum(record.counts.values())
    part = scores[scores["anomaly_class"].isin(["normal", "p = 1"])]
    chances = [
        np.mean(fold.loc[fold["anomaly_class"] == "normal", "score"] < score)
        for _, fold in part.groupby("fold")
        for score in fold.loc[fold["anomaly_class"] == "p = 1", "score"]
    ]
    assert record.metrics["target"]["auroc"].value == pytest.approx(np.mean(chances))


def test_within_group_equals_the_headline_where_a_fold_is_a_group(store):
    record = detection.run(experiment(), store)
    plain, within = (detection.table([record], group=name)["value"].iloc[0] for name in ("target", "within group"))
    assert within == pytest.approx(plain)


def test_within_group_ignores_what_tells_groups_apart(store):
    record = detection.run(experiment(split="random", method="gaussian@stage2"), store)
    scores = detection.scores(record, store)
    shifted = scores.assign(score=scores["score"] + 1000.0 * (scores["group"] == "cells 1-60"))
    before, after = (detection._within_group(table, ("p = 1",), 50)["auroc"].value for table in (scores, shifted))
    assert before == after == pytest.approx(record.metrics["within group"]["auroc"].value)


def test_groups_make_up_the_headline(store):
    record = detection.run(experiment(), store)
    groups = detection.by_group(record, store)
    assert len(groups) == 5
    assert groups[["normal", "anomalous"]].to_numpy().sum() == record.counts["normal"] + record.counts["p = 1"]
    mean = np.average(groups["value"], weights=groups["anomalous"])
    assert mean == pytest.approx(record.metrics["target"]["auroc"].value)


def test_comparing_a_record_with_itself_gives_zero(store):
    record = detection.run(experiment(), store)
    assert detection.compare(record, record, store=store)["auroc"].value == 0
    other = detection.run(experiment(category="poly"), store)
    with pytest.raises(ValueError, match="same images"):
        detection.compare(record, other, store=store)


def test_across_splits_records_are_compared_within_groups(store):
    grouped, random = (detection.run(experiment(split=split), store) for split in ("grouped", "random"))
    difference = detection.compare(random, grouped, within="group", store=store)["auroc"].value
    values = [record.metrics["within group"]["auroc"].value for record in (random, grouped)]
    assert difference == pytest.approx(values[0] - values[1])


def test_across_splits_only_images_that_one_model_scored_are_compared(store):
    """Shifting all scores of one model changes nothing, whichever split it belongs to."""
    grouped, random = (detection.run(experiment(split=split), store) for split in ("grouped", "random"))
    tables = [detection._targets(record, store) for record in (random, grouped)]
    plain = detection._paired(*tables, "fold", 50)["auroc"]
    for number in (0, 1):
        shifted = [table.copy() for table in tables]
        shifted[number]["score"] += 1000.0 * (shifted[number]["fold"] == 2)
        assert detection._paired(*shifted, "fold", 50)["auroc"] == plain
    assert detection.compare(random, grouped, store=store)["auroc"].value == pytest.approx(plain.value)


@pytest.mark.parametrize("split", ["random", "matched"])
def test_a_leaking_split_records_by_how_much_it_flatters(store, split):
    record = detection.run(experiment(split=split), store)
    grouped = detection.run(experiment(), store)
    assert "minus grouped" not in grouped.metrics
    assert record.metrics["minus grouped"] == detection.compare(record, grouped, store=store)


def test_records_count_what_was_fitted_and_copies(store, monkeypatch, mvtec_folder, tmp_path):
    record = detection.run(experiment(), store)
    assert len(record.fitted_on) == 5
    assert sum(record.fitted_on) == 4 * record.counts["normal"]
    assert record.duplicates == 0
    own = shutil.copytree(mvtec_folder, tmp_path / "data" / "own" / "part")
    shutil.copy(own / "train" / "good" / "003.png", own / "test" / "good" / "copy.png")
    record = detection.run(experiment(benchmark="own", category="part", split="official"), store)
    assert record.duplicates == 1
    assert record.counts == {"normal": 7, "hole": 6}
    assert record.fitted_on == (14,)


def test_with_masks_a_localiser_is_judged_by_pixels(store):
    found = detection.matrix(["patch-memory", "neighbours@head"], "surfaces", "smoke", ["brick"])
    patch, pooled = (detection.run(e, store) for e in found)
    assert patch.metrics["pixel"]["pixel_auroc"].value > 0.6
    assert 0 < patch.metrics["pixel"]["pro"].low < patch.metrics["pixel"]["pro"].high
    assert "pixel" not in pooled.metrics


def test_small_pictures_are_not_enlarged_beyond_sense(store):
    profile = profiles.get("study")
    assert benchmarks.get("mnist5k").load("0", 20).input_side(profile.image_size) == 112
    assert benchmarks.get("elpv").load("mono", 20).input_side(profile.image_size) == 224


def test_a_benchmark_that_is_not_at_hand_says_how_to_get_it(store):
    (first, *_) = detection.matrix(["gaussian"], "mnist", "smoke")
    with pytest.raises(DataError, match="anomaly-transfer fetch mnist"):
        detection.run(first, store)


def test_the_matrix_defaults_to_all_categories_and_the_recommended_split():
    found = detection.matrix(["gaussian"], "elpv", "study")
    assert {e.category for e in found} == {"mono", "poly"}
    assert {e.split for e in found} == {"grouped"}
    assert {e.seed for e in found} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "no method"),
        ({"benchmark": "moon"}, "no benchmark"),
        ({"category": "amorphous"}, "mono, poly"),
        ({"split": "official"}, "grouped, random, matched"),
        ({"profile": "desktop"}, "no profile"),
    ],
)
def test_unknown_names_list_the_choices(store, change, message):
    with pytest.raises(ValueError, match=message):
        detection.run(experiment(**change), store)


def test_tables_hold_one_row_a_record(store):
    record = detection.run(experiment(), store)
    row = detection.table([record]).iloc[0]
    assert row["method"] == "neighbours@head"
    assert row["low"] <= row["value"] <= row["high"]
    averaged = aggregate.mean_over_seeds(detection.table([record, record]))
    assert len(averaged) == 1
    assert averaged["value"].iloc[0] == row["value"]
