import itertools
import json
from types import SimpleNamespace

import pytest

from anomaly_transfer import benchmarks, provenance
from anomaly_transfer.errors import StoreError
from anomaly_transfer.studies import detection, records
from anomaly_transfer.studies.records import Experiment


@pytest.fixture
def record(store):
    experiment = Experiment(
        method="neighbours@head", benchmark="elpv", category="mono", split="grouped", seed=0, profile="smoke"
    )
    return detection.run(experiment, store)


def test_a_record_survives_writing_and_reading(record, store):
    assert records.read(store.path("records", record.key)) == record


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
    monkeypatch.setattr(records.sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=300 * 2**20 // unit))
    assert provenance.peak_memory_mb() == 300


def test_a_damaged_record_is_a_clear_error(record, store):
    path = store.path("records", record.key) / records.RECORD
    path.write_text(path.read_text()[:100])
    with pytest.raises(StoreError, match="remove the folder"):
        records.read(path.parent)


def test_fields_that_nobody_knows_are_refused(record, tmp_path):
    content = json.loads(record.model_dump_json()) | {"auc": 1.0}
    (tmp_path / records.RECORD).write_text(json.dumps(content))
    with pytest.raises(StoreError, match="auc"):
        records.read(tmp_path)


def test_a_folder_of_records_is_read_in_order(record, tmp_path):
    other = record.model_copy(update={"experiment": record.experiment.model_copy(update={"category": "a"})})
    assert detection.export([record, other], tmp_path / "out") == 2
    found = records.load_folder(tmp_path / "out")
    assert [r.experiment.category for r in found] == ["a", "mono"]


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
    found = records.recorded("study", benchmark)
    asked = {(r.experiment.method, r.experiment.category, r.experiment.split) for r in found}
    categories = {category for _, category, _ in asked}
    if benchmark != "mvtec_features":
        assert categories == set(benchmarks.get(benchmark).categories)
    methods, splits = SHOWN[benchmark]
    assert set(itertools.product(methods, categories, splits)) <= asked
    for record in found:
        assert record.experiment.profile == "study"
        assert len(record.provenance.code) == 64
        assert record.metrics["target"]["auroc"].low <= record.metrics["target"]["auroc"].value
        if record.experiment.method in POOLED and record.experiment.split in ("random", "matched"):
            assert ("minus grouped" in record.metrics) == (benchmark != "mvtec_features")
        if record.experiment.method in PATCHES and benchmark in ("magnetic_tile", "crackforest"):
            assert record.metrics["pixel"]["pixel_auroc"].value > 0.5
        assert ("JPEG" in record.note) == (benchmark == "cifar10"), "the copy at hand was compressed"


def test_a_profile_or_benchmark_that_was_never_recorded_says_so():
    with pytest.raises(StoreError, match="on moon"):
        records.recorded("study", "moon")
    with pytest.raises(StoreError, match="make study"):
        records.recorded("full")


def test_a_damaged_record_is_named(tmp_path):
    for text in (b'{"key":', b"\xff\xfe", b'{"key": "x"}'):
        (tmp_path / "broken.json").write_bytes(text)
        with pytest.raises(StoreError, match=r"broken\.json is no whole record"):
            records.load_folder(tmp_path)
    with pytest.raises(StoreError, match="no folder of records"):
        records.load_folder(tmp_path / "nope")
