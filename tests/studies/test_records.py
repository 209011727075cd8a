import itertools
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from anomaly_transfer import benchmarks, provenance, settings, studies
from anomaly_transfer.errors import StoreError
from anomaly_transfer.studies import base, detection, records
from anomaly_transfer.studies.records import Experiment, Record


@pytest.fixture
def record(store):
    return detection.run("elpv", "mono", "neighbours@head", 0, "smoke", store, "grouped")


def test_a_record_survives_writing_and_reading(record, store, tmp_path):
    kept = store.path("records", record.key) / base.RECORD
    assert Record.model_validate_json(kept.read_bytes()) == record
    records.export([record], tmp_path)
    assert records.load(tmp_path) == [record]


def test_provenance_is_complete(record):
    p = record.provenance
    assert len(p.code) == len(p.data) == len(p.weights) == len(record.key) == 64
    assert {"torch", "numpy", "python"} <= set(p.versions)
    assert "cores" in p.hardware
    assert set(p.seconds) == {"features", "fit", "score", "evaluate"}
    assert p.peak_memory_mb > 50
    assert p.date.startswith("20")


def test_provenance_names_modules_libraries_and_engines(record):
    p = record.provenance
    assert {"anomaly_transfer.detectors.nearest_neighbors", "anomaly_transfer.features.extraction"} <= set(p.modules)
    assert p.libraries["torch"] == p.versions["torch"].partition("+")[0]
    assert {"torchvision", "scikit-image", "pandas"} <= set(p.versions)
    assert p.engine in ("eager", "openvino")
    assert p.gpu_memory_mb is None


@pytest.mark.parametrize(("system", "unit"), [("linux", 2**10), ("darwin", 1)])
def test_memory_is_in_mebibytes_on_every_system(system, unit, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(provenance.sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=300 * 2**20 // unit))
    assert provenance.peak_memory_mb() == 300


def test_a_damaged_record_is_a_clear_error(record, tmp_path):
    records.export([record], tmp_path)
    path = tmp_path / f"{record.experiment.name}.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(StoreError, match="restore it"):
        records.load(tmp_path)


def test_fields_that_nobody_knows_are_refused(record, tmp_path):
    content = json.loads(record.model_dump_json())
    for changed in (content | {"auc": 1.0}, content | {"experiment": content["experiment"] | {"auc": 1.0}}):
        with pytest.raises(ValueError, match="auc"):
            Record.model_validate(changed)
        (tmp_path / "detection").mkdir(exist_ok=True)
        (tmp_path / "detection" / "one.json").write_text(json.dumps(changed))
        with pytest.raises(StoreError, match=r"one\.json is no whole record"):
            records.load(tmp_path)


def test_a_folder_of_records_is_read_in_order(record, tmp_path):
    other = record.model_copy(update={"experiment": record.experiment.model_copy(update={"category": "a"})})
    of_another = record.model_copy(update={"experiment": record.experiment.model_copy(update={"study": "few_shot"})})
    records.export([record, of_another, other], tmp_path / "out")
    found = records.load(tmp_path / "out")
    assert [(r.experiment.study, r.experiment.category) for r in found] == [
        ("detection", "a"),
        ("detection", "mono"),
        ("few_shot", "mono"),
    ]
    assert records.load(tmp_path / "out", "few_shot") == [of_another]
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_name_tells_every_coordinate_but_the_profile():
    told = {"study": "s", "variant": "v", "benchmark": "b", "category": "c", "split": "p", "seed": 3, "profile": "full"}
    whole = Experiment(**told)
    assert (whole.slug, whole.name) == ("v__b__c__p__3", "s/v__b__c__p__3")
    assert Experiment(**(told | {"split": ""})).slug == "v__b__c__3"
    for field, value in told.items():
        other = Experiment(**(told | {field: 4 if field == "seed" else f"{value}x"}))
        assert (other.name == whole.name) == (field == "profile")
        assert other != whole


def test_rows_are_written_to_five_significant_digits():
    frame = pd.DataFrame(
        {
            "word": ["a", None],
            "value": [123.456789, 0.000123456789],
            "nothing": [np.nan, -1e-9],
            "whole": [3.0, 123456789.0],
            "count": np.array([2, 3], dtype=np.int64),
        }
    )
    assert records.rows_of(frame) == [["a", 123.46, None, 3, 2], [None, 0.00012346, -1e-9, 123456789, 3]]


def test_a_frame_has_the_coordinates_and_the_variant_by_the_name_of_the_axis(record):
    whole = record.frame()
    assert (len(whole), list(whole.columns[:5])) == (len(record.rows), ["group", "metric", "value", "low", "high"])
    assert set(whole.columns[5:]) == {"method", "benchmark", "category", "split", "seed", "profile"}
    assert set(whole["method"]) == {"neighbours@head"}
    without = record.model_copy(
        update={"axis": "start", "experiment": record.experiment.model_copy(update={"split": ""})}
    )
    assert set(without.frame().columns[5:]) == {"start", "benchmark", "category", "seed", "profile"}


def test_every_recorded_file_lies_where_its_experiment_says():
    folder = settings.results_folder() / "study"
    found = records.load(folder)
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}
    assert paths == {f"{record.experiment.name}.json" for record in found}
    assert len(paths) == len(found)
    for path in paths:
        read = Record.model_validate_json((folder / path).read_bytes())
        assert path == f"{read.experiment.study}/{read.experiment.slug}.json"
        assert read.experiment.profile == "study"
        assert read.axis == studies.get(read.experiment.study).axis
        assert all(len(row) == len(read.columns) for row in read.rows)


@pytest.mark.parametrize("study", studies.names())
def test_all_rows_of_a_study_are_one_frame_with_its_axis(study):
    kept = records.recorded(study)
    frame = records.frame(study)
    assert len(frame) == sum(len(record.rows) for record in kept)
    assert set(frame[studies.get(study).axis]) == {record.experiment.variant for record in kept}
    assert ("split" in frame) == studies.get(study).by_split
    assert set(frame["profile"]) == {"study"}


POOLED, PATCHES = {"gaussian", "neighbours", "neighbours@head"}, {"patch-gaussian", "patch-shared", "patch-memory"}
#: What the book shows: by benchmark, the methods and splits that every category has.
SHOWN = {
    "elpv": (POOLED | PATCHES, {"grouped", "random"}),
    "magnetic_tile": (POOLED | PATCHES, {"grouped", "random", "matched"}),
    "crackforest": (POOLED, {"grouped", "random", "matched"}),
    "mnist": (POOLED | PATCHES, {"official"}),
    "fashion_mnist": (POOLED | PATCHES, {"official"}),
    "cifar10": (POOLED | PATCHES, {"official"}),
    "mvtec_features": ({"gaussian", "neighbours"}, {"random"}),
}


@pytest.mark.parametrize("benchmark", SHOWN)
def test_recorded_runs_are_complete_and_name_their_origin(benchmark):
    found = records.recorded("detection", benchmark=benchmark)
    asked = {(r.experiment.variant, r.experiment.category, r.experiment.split) for r in found}
    categories = {category for _, category, _ in asked}
    if benchmark != "mvtec_features":
        assert categories == set(benchmarks.get(benchmark).categories)
    methods, splits = SHOWN[benchmark]
    assert set(itertools.product(methods, categories, splits)) <= asked
    for record in found:
        e = record.experiment
        assert e.benchmark == benchmark
        assert e.profile == "study"
        assert len(record.provenance.code) == 64
        assert sum(record.facts["counts"].values()) > 0
        assert all(n > 1 for n in record.facts["fitted_on"])
        assert record.facts["duplicates"] >= 0
        assert detection.interval(record).low <= detection.interval(record).value
        if e.variant in POOLED and e.split in ("random", "matched"):
            assert ("minus grouped" in detection.groups(record)) == (benchmark != "mvtec_features")
        if e.variant in PATCHES and benchmark in ("magnetic_tile", "crackforest"):
            assert detection.interval(record, "pixel_auroc", "pixel").value > 0.5
        assert ("JPEG" in record.note) == (benchmark == "cifar10"), "the copy at hand was compressed"


def test_a_profile_study_or_benchmark_that_was_never_recorded_says_so():
    with pytest.raises(StoreError, match="'detection' on moon"):
        records.recorded("detection", benchmark="moon")
    for study, profile in (("detection", "full"), ("luck", "study")):
        with pytest.raises(StoreError, match=f"study '{study}' at the profile '{profile}': `make study` makes them"):
            records.recorded(study, profile)
        with pytest.raises(StoreError, match="make study"):
            records.frame(study, profile)


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "detection").mkdir()
    for text in (b'{"key":', b"\xff\xfe", b'{"key": "x"}'):
        (tmp_path / "detection" / "broken.json").write_bytes(text)
        with pytest.raises(StoreError, match=r"broken\.json is no whole record"):
            records.load(tmp_path)
    assert records.load(tmp_path, "few_shot") == []
    with pytest.raises(StoreError, match="no folder of records"):
        records.load(tmp_path / "nope")
