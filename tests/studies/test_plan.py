import csv

import pytest
import yaml
from tests.book.conftest import ROOT
from typer.testing import CliRunner

from anomaly_transfer import benchmarks, detectors, studies
from anomaly_transfer.app.cli import app
from anomaly_transfer.code_used import Code
from anomaly_transfer.studies import base, plan, records


def test_every_recorded_run_is_in_the_plan():
    planned = {experiment.name for experiment in plan.experiments("study", everywhere=True)}
    found = records.load(ROOT / "results" / "study")
    assert {record.experiment.study for record in found} == set(studies.names())
    assert {record.experiment.name for record in found} <= planned


def test_experiments_have_names_of_their_own_and_run_what_exists():
    found = plan.experiments("full", everywhere=True)
    assert len({e.name for e in found}) == len(found)
    assert {e.study for e in found} == set(studies.names())
    for e in found:
        known, study = benchmarks.get(e.benchmark), studies.get(e.study)
        assert e.category in known.categories
        assert "/" not in e.slug
        assert e.split in (known.splits if study.by_split else [""])
        # Detectors of another package are known where it is installed.
        if not e.variant.startswith("anomalib"):
            study.check(e.variant)
            if e.study == "detection":
                detectors.make(e.variant)


def planned(monkeypatch, text):
    """Make these entries the plan."""
    found = [plan.Entry(**entry) for entry in yaml.safe_load(text)]
    monkeypatch.setattr(plan, "entries", lambda: found)


def test_what_two_entries_name_is_planned_once(monkeypatch):
    planned(
        monkeypatch,
        """
- {study: detection, variants: [gaussian], data: [elpv/mono], splits: [random]}
- {study: detection, variants: [gaussian], data: [elpv]}
- {study: detection, variants: [gaussian], data: [elpv/poly], splits: all}
""",
    )
    assert [(e.category, e.split) for e in plan.experiments("smoke")] == [
        ("mono", "random"),
        ("mono", "grouped"),
        ("poly", "grouped"),
        ("poly", "random"),
        ("poly", "matched"),
    ]


def test_a_study_with_a_division_of_its_own_is_planned_once_whatever_the_splits(monkeypatch):
    planned(monkeypatch, "- {study: few_shot, variants: [imagenet], data: [elpv/mono], splits: all}")
    assert [(e.category, e.split) for e in plan.experiments("smoke")] == [("mono", "")]


def test_a_study_of_another_package_is_planned_where_it_is_installed(monkeypatch):
    planned(
        monkeypatch,
        """
- {study: anomalib_comparison, variants: [combined], data: [surfaces/brick]}
- {study: comparison, variants: [combined], data: [surfaces/brick]}
""",
    )
    asked = []
    for installed in (True, False):
        monkeypatch.setattr(plan, "find_spec", lambda name, there=installed: asked.append(name) or there or None)
        assert len(plan.experiments("smoke", everywhere=True)) == 2
        assert [e.study for e in plan.experiments("smoke")] == ["anomalib_comparison"] * installed + ["comparison"]
    assert set(asked) == {"anomalib"}


def test_seeds_are_those_of_the_profile():
    asked = {"study": "finetuning", "benchmark": "surfaces", "variant": "mahalanobis"}
    assert [e.seed for e in plan.experiments("study", **asked)] == [0, 1, 2, 3, 4]
    assert [e.seed for e in plan.experiments("smoke", **asked)] == [0]


def test_what_is_not_at_hand_is_left_out():
    here, all_of_them = plan.experiments("study"), plan.experiments("study", everywhere=True)
    assert set(here) < set(all_of_them)
    assert {e.benchmark for e in here} == {"elpv", "surfaces"}  # no data folder: see conftest


def test_memory_is_what_was_measured_at_the_profile_full():
    one = plan.experiments("full", study="finetuning", benchmark="surfaces", variant="diagonal")[0]
    with (ROOT / "results" / "memory.csv").open(newline="") as file:
        peaks = {row["case"]: int(row["peak_mb"]) for row in csv.DictReader(file)}
    assert set(studies.get("finetuning").memory) == {"tuned"}
    assert peaks["tuned step"] < plan.memory_mb(one) < 1.3 * peaks["tuned step"]
    asked = {"study": "decisions", "benchmark": "concrete_cracks", "variant": "head-all", "everywhere": True}
    decided = plan.experiments("full", **asked)[0]
    assert plan.memory_mb(decided) > max(peaks["cracks head-all"], peaks["tuned step"])
    asked = {"study": "detection", "benchmark": "concrete_cracks", "variant": "combined", "everywhere": True}
    (combined,) = plan.experiments("full", **asked)
    assert plan.memory_mb(combined) > peaks["run combined"]
    for study in studies.names():
        assert plan.memory_mb(plan.experiments("full", study=study, everywhere=True)[0]) > 1000
    assert plan.memory_mb(one.model_copy(update={"profile": "study"})) == plan.MEMORY_MB


def test_every_case_that_stands_for_a_study_was_measured():
    with (ROOT / "results" / "memory.csv").open(newline="") as file:
        cases = {row["case"].split()[0] for row in csv.DictReader(file)}
    for study in studies.names():
        assert studies.get(study).memory
        assert set(studies.get(study).memory) <= cases, study


@pytest.mark.parametrize(
    ("study", "variant", "name"),
    [
        ("detection", "gaussian", "detection/gaussian__surfaces__brick__grouped__0"),
        ("linear_probe", "imagenet", "linear_probe/imagenet__surfaces__brick__0"),
    ],
)
def test_an_experiment_is_a_command_that_runs(tmp_path, study, variant, name):
    one = plan.experiments("smoke", study=study, benchmark="surfaces", variant=variant)[0]
    assert one.name == name
    result = CliRunner().invoke(app, plan.words(one, str(tmp_path / "results")))
    assert result.exit_code == 0, result.output
    (found,) = records.load(tmp_path / "results" / "smoke")
    assert [path.relative_to(tmp_path / "results").as_posix() for path in (tmp_path / "results").rglob("*.json")] == [
        f"smoke/{name}.json"
    ]
    assert found.experiment == one


def test_an_experiment_is_stale_when_its_sizes_code_or_coordinates_change(monkeypatch):
    one = plan.experiments("smoke", study="detection", benchmark="surfaces")[0]
    before = plan.content(one)
    assert before == plan.content(one.model_copy())
    assert before != plan.content(one.model_copy(update={"profile": "laptop"}))
    assert before != plan.content(one.model_copy(update={"split": "random"}))
    assert before != plan.content(one.model_copy(update={"variant": "svm"}))
    monkeypatch.setattr(base, "code_of", lambda *places: Code({}, {}))
    assert before != plan.content(one)


def test_a_wrong_plan_says_where(monkeypatch):
    with pytest.raises(ValueError, match=r"variants"):
        plan.Entry(study="detection", data=["elpv"])
    for study in ("magic", "records"):
        with pytest.raises(ValueError, match=f"There is no study '{study}'"):
            plan.Entry(study=study, variants=["gaussian"], data=["elpv"])
    planned(monkeypatch, "- {study: detection, variants: [gaussian], data: [elpv/copper]}")
    with pytest.raises(ValueError, match="elpv has no category 'copper'"):
        plan.experiments("smoke")


def test_the_workflow_plans_the_experiments():
    """Snakemake reads the plan: a dry run of two jobs."""
    import subprocess
    import sys

    words = ["-s", "results/Snakefile", "--dry-run", "--cores", "1", "--config", "profile=smoke", "study=linear_probe"]
    command = [sys.executable, "-m", "snakemake", *words, "benchmark=elpv", "results=/nowhere"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    out = result.stdout + result.stderr
    for start in ("random", "imagenet", "random+normal"):
        assert f"linear_probe__{start}__elpv__mono__0" in out
