import csv

import pytest
import yaml
from tests.book.conftest import ROOT
from typer.testing import CliRunner

from anomaly_transfer import benchmarks, detectors
from anomaly_transfer.app.cli import app
from anomaly_transfer.studies import base, plan, records


def test_every_recorded_run_is_in_the_plan():
    planned = {(j.study, j.benchmark, j.category, j.variant, j.seed): j for j in plan.jobs("study", everywhere=True)}
    for record in records.recorded("study"):
        e = record.experiment
        assert e.split in planned["run", e.benchmark, e.category, e.method, e.seed].splits, e.slug
    for study in plan.MODULES:
        for table in base.recorded("study", study) if study != "run" else ():
            c = table.coordinates
            which = c["variant"] if "variant" in c else c["start"]
            assert (study, c["benchmark"], c["category"], which, c["seed"]) in planned, table.slug


def test_jobs_have_names_of_their_own_and_run_what_exists():
    found = plan.jobs("full", everywhere=True)
    assert len({job.name for job in found}) == len(found)
    for job in found:
        assert job.category in benchmarks.get(job.benchmark).categories
        assert "/" not in job.name
        if job.study == "run" and not job.variant.startswith("anomalib"):
            detectors.make(job.variant)
            assert set(job.splits) <= set(benchmarks.get(job.benchmark).splits)
        else:
            assert job.splits == ()


def test_two_entries_of_one_job_add_their_splits(monkeypatch):
    text = """
- {study: run, variants: [gaussian], data: [elpv/mono], splits: [random]}
- {study: run, variants: [gaussian], data: [elpv]}
"""
    monkeypatch.setattr(plan, "entries", lambda: [plan.Entry(**entry) for entry in yaml.safe_load(text)])
    assert [(j.category, j.splits) for j in plan.jobs("smoke")] == [
        ("mono", ("random", "grouped")),
        ("poly", ("grouped",)),
    ]


def test_seeds_are_those_of_the_profile():
    found = plan.jobs("study", study="tuned", benchmark="surfaces", variant="mahalanobis")
    assert [job.seed for job in found] == [0, 1, 2, 3, 4]
    assert [job.seed for job in plan.jobs("smoke", study="tuned", benchmark="surfaces", variant="mahalanobis")] == [0]


def test_what_is_not_at_hand_is_left_out():
    here, all_of_them = plan.jobs("study"), plan.jobs("study", everywhere=True)
    assert set(here) < set(all_of_them)
    assert {job.benchmark for job in here} == {"elpv", "surfaces"}  # no data folder: see conftest


def test_memory_is_what_was_measured_at_the_profile_full():
    (job,) = plan.jobs("full", study="tuned", benchmark="surfaces", variant="diagonal")[:1]
    with (ROOT / "results" / "memory.csv").open(newline="") as file:
        peaks = {row["case"]: int(row["peak_mb"]) for row in csv.DictReader(file)}
    assert peaks["tuned step"] < job.memory_mb() < 1.3 * peaks["tuned step"]
    (decided,) = plan.jobs("full", study="cracks", benchmark="concrete_cracks", variant="head-all", everywhere=True)[:1]
    assert decided.memory_mb() > max(peaks["cracks head-all"], peaks["tuned step"])
    for study in plan.MODULES:
        assert plan.jobs("full", study=study, everywhere=True)[0].memory_mb() > 1000 or study == "peers"
    assert job.model_copy(update={"profile": "study"}).memory_mb() == plan.MEMORY_MB


def test_a_job_is_a_command_that_runs(tmp_path):
    (job,) = plan.jobs("smoke", study="run", benchmark="surfaces", variant="gaussian")[:1]
    result = CliRunner().invoke(app, job.words(str(tmp_path)))
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "smoke").iterdir()] == [
        "gaussian__surfaces__brick__grouped__0__smoke.json"
    ]


def test_a_table_is_a_command_too(tmp_path):
    (job,) = plan.jobs("smoke", study="labelled", benchmark="surfaces", variant="imagenet")
    result = CliRunner().invoke(app, job.words(str(tmp_path)))
    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "tables" / "smoke").iterdir()
    assert path.name == "labelled__surfaces__brick__imagenet__0__smoke.json"


def test_a_job_is_stale_when_its_sizes_or_splits_change():
    job = plan.jobs("smoke", study="run", benchmark="surfaces")[0]
    assert job.fingerprint() == job.model_copy().fingerprint()
    assert job.fingerprint() != job.model_copy(update={"profile": "laptop"}).fingerprint()
    assert job.fingerprint() != job.model_copy(update={"splits": ("random",)}).fingerprint()


def test_a_wrong_plan_says_where(monkeypatch):
    with pytest.raises(ValueError, match=r"variants"):
        plan.Entry(study="run", data=["elpv"])
    with pytest.raises(ValueError, match="study"):
        plan.Entry(study="magic", variants=["gaussian"], data=["elpv"])
    entry = plan.Entry(study="run", variants=["gaussian"], data=["elpv/copper"])
    monkeypatch.setattr(plan, "entries", lambda: [entry])
    with pytest.raises(ValueError, match="elpv has no category 'copper'"):
        plan.jobs("smoke")


def test_the_workflow_plans_the_jobs():
    """Snakemake reads the plan: a dry run of two jobs."""
    import subprocess
    import sys

    words = ["-s", "results/Snakefile", "--dry-run", "--cores", "1", "--config", "profile=smoke", "study=labelled"]
    command = [sys.executable, "-m", "snakemake", *words, "benchmark=elpv", "results=/nowhere"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    out = result.stdout + result.stderr
    for start in ("random", "imagenet", "random+normal"):
        assert f"labelled__elpv__mono__{start}__0" in out
