"""One registry of studies, and how an experiment of any study is asked for, computed once and kept."""

import importlib
import pkgutil
import subprocess
import sys

import pandas as pd
import pytest

from anomaly_transfer import studies
from anomaly_transfer.code_used import Code
from anomaly_transfer.studies import base, detection, plan, records
from anomaly_transfer.studies.records import Experiment


def test_every_module_with_a_study_is_one_by_its_name():
    found = {}
    for module in pkgutil.iter_modules(studies.__path__):
        study = getattr(importlib.import_module(f"{studies.__name__}.{module.name}"), "STUDY", None)
        if study is not None:
            found[module.name] = study
    assert studies.names() == sorted(found)
    for name, study in found.items():
        assert study.name == name
        assert studies.get(name) is study
        assert study.request.__module__ == f"{studies.__name__}.{name}", "its code is found from there"


@pytest.mark.parametrize("name", studies.names())
def test_a_study_runs_by_itself_unless_told_otherwise(name):
    study = studies.get(name)
    study.check(study.default)
    assert len(set(study.variants)) == len(study.variants)
    assert importlib.import_module(f"{studies.__name__}.{name}").run == study.run
    with pytest.raises(ValueError, match="no variant 'luck'; choose from"):
        study.check("luck")


def test_an_unknown_study_lists_the_others():
    for name in ("luck", "records", ""):
        with pytest.raises(ValueError, match=f"no study '{name}'; choose from .*few_shot"):
            studies.get(name)


def test_names_do_not_wait_for_torch():
    code = "import sys; from anomaly_transfer import studies; assert studies.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [name for name in studies.names() if not studies.get(name).by_split])
def test_a_study_with_a_division_of_its_own_takes_no_split(name, store):
    study = studies.get(name)
    with pytest.raises(ValueError, match=f"'{name}' has a division of its own, and no split 'grouped'"):
        study.run("elpv", "mono", study.default, 0, "smoke", store, "grouped")


def test_without_a_split_the_recommended_one_is_meant(store):
    asked = [
        detection.STUDY.asked(detection.STUDY.experiment("elpv", "mono", "gaussian", 0, "smoke", split), store)
        for split in ("", "grouped", "random")
    ]
    assert [request.experiment.split for request in asked] == ["grouped", "grouped", "random"]
    assert asked[0].key == asked[1].key != asked[2].key


@pytest.mark.parametrize("name", studies.names())
def test_what_is_planned_is_what_is_recorded(name, store):
    """The experiment of a request is the one that was asked for, so that its record has the planned name."""
    study = studies.get(name)
    if study.package:
        pytest.importorskip(study.package)
    planned = plan.experiments("smoke", study=name)
    if not planned:
        pytest.skip("its data are not at hand")
    asked = study.asked(planned[-1], store)
    assert asked.experiment == planned[-1]
    assert asked.study is study


@pytest.fixture
def made(store, monkeypatch):
    """Make an experiment whose rows are given; how often each was computed is counted."""
    times = []

    def make(rows=None, scores=None, **changes):
        experiment = Experiment(
            study="few_shot", variant="imagenet", benchmark="elpv", category="mono", seed=0, profile="smoke"
        )

        def compute():
            times.append(1)
            frame = pd.DataFrame({"value": [0.123456789, None]}) if rows is None else rows
            return base.Result(frame, {"images": 3}, scores)

        asked = {"study": studies.get("few_shot"), "experiment": experiment, "settings": {"draws": 2}}
        return base.Request(**(asked | {"data": "d", "weights": "w", "compute": compute, "note": "n"} | changes))

    make.times = times
    return make


def test_a_result_is_computed_once_and_what_is_returned_is_what_is_kept(made, store):
    first, again = base.record_of(made(), store), base.record_of(made(), store)
    assert first == again
    assert len(made.times) == 1
    assert first.rows == [[0.12346], [None]]
    assert (first.axis, first.note, first.facts, first.settings) == ("start", "n", {"images": 3}, {"draws": 2})
    assert (first.provenance.data, first.provenance.weights) == ("d", "w")
    assert list(first.provenance.seconds) == ["all"]


@pytest.mark.parametrize("what", ["data", "weights", "settings", "experiment", "code"])
def test_a_result_is_computed_again_when_what_it_depends_on_changes(made, store, monkeypatch, what):
    first = base.record_of(made(), store)
    if what == "code":
        monkeypatch.setattr(base, "code_of", lambda *places: Code({}, {}))
        other = made()
    else:
        changed = {"settings": {"draws": 3}, "experiment": first.experiment.model_copy(update={"seed": 1})}
        other = made(**{what: changed.get(what, "other")})
    assert base.record_of(other, store).key != first.key
    assert len(made.times) == 2


def test_a_note_is_no_part_of_the_key(made):
    assert made().key == made(note="another").key


def test_scores_are_kept_beside_the_record_and_not_in_it(made, store, tmp_path):
    scores = pd.DataFrame({"id": ["a", "b"], "score": [0.1, 0.2]})
    found = base.record_of(made(scores=scores), store)
    pd.testing.assert_frame_equal(base.scores(found, store), scores)
    records.export([found], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == [f"{found.experiment.slug}.json"]


def test_several_are_run_in_the_order_in_which_they_were_asked_for(store):
    asked = detection.matrix(["neighbours@head", "gaussian@head"], "elpv", "smoke", ["mono"], ["random", "grouped"])
    found = detection.run_all(asked, store)
    assert [record.experiment for record in found] == asked
    assert studies.run(asked[1], store) == found[1]
