import importlib.util
import json
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

from anomaly_transfer import profiles
from anomaly_transfer.pages import contents, executions

ROOT = Path(__file__).parents[2]
CHAPTERS = contents.chapters(ROOT)


@pytest.fixture
def keep():
    spec = importlib.util.spec_from_file_location("kept", ROOT / "book" / "tools" / "executions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.keep


def executed(folder, chapter, profile, seconds, memory):
    (folder / "benchmarks").mkdir(parents=True, exist_ok=True)
    run = {"parameters": {"profile": profile}, "duration": seconds, "start_time": "2026-11-20T10:00:00.0"}
    metadata = {"papermill": run, "machine": "2 cores, 15 GiB"}
    (folder / f"{chapter}.ipynb").write_text(json.dumps({"cells": [], "metadata": metadata}))
    if memory:
        (folder / "benchmarks" / f"{chapter}.tsv").write_text(f"s\tmax_rss\tmax_vms\n1.0\t{memory}\t9\n")


def test_what_was_measured_is_read(tmp_path):
    executed(tmp_path, "data", "smoke", 12.6, "1499.7")
    found = executions.measured(tmp_path / "data.ipynb")
    assert tuple(found) == executions.COLUMNS
    assert (found["seconds"], found["memory_mb"], found["date"]) == (13, 1500, "2026-11-20")
    for memory in ("-", "NA", None):
        (tmp_path / "benchmarks" / "data.tsv").unlink(missing_ok=True)
        executed(tmp_path, "data", "smoke", 12.6, memory)
        assert executions.measured(tmp_path / "data.ipynb")["memory_mb"] is None


def test_a_profile_is_kept_beside_the_others(tmp_path, keep):
    (tmp_path / "_toc.yml").write_text(
        "chapters: [{file: notebooks/preface}, {file: notebooks/data}, {file: notebooks/benchmarks}]"
    )
    for chapter in ("data", "benchmarks", "preface", "of_old"):
        executed(tmp_path / "_executed" / "smoke", chapter, "smoke", 10.0, "1000")
    executed(tmp_path / "_executed" / "laptop", "data", "laptop", 90.0, "2000")
    (tmp_path / "results").mkdir()
    keep("smoke", tmp_path)
    keep("laptop", tmp_path)
    (tmp_path / "_executed" / "smoke" / "benchmarks.ipynb").unlink()
    keep("smoke", tmp_path)
    rows = pd.read_csv(tmp_path / "results" / "executions.csv")
    told = list(zip(rows["profile"], rows["chapter"], strict=True))
    assert told == [("laptop", "data"), ("smoke", "preface"), ("smoke", "data")], "in the order of the book"
    with pytest.raises(SystemExit, match="make book PROFILE=study"):
        keep("study", tmp_path)


def test_a_notebook_tells_what_it_takes():
    rows = executions.recorded().set_index(["profile", "chapter"])
    for chapter in CHAPTERS:
        row = rows.loc["laptop", chapter]
        told = executions.announce(chapter, "laptop").data
        assert f"took {row['seconds']} s and {row['memory_mb'] / 1000:.1f} GB on {row['machine']}" in told
    told = executions.announce("finetuning", "full").data
    assert "`full` was not measured (with `smoke`" in told or "`full` was not measured (with `laptop`" in told
    with pytest.raises(ValueError, match="profile"):
        executions.announce("finetuning", "huge")


def test_every_chapter_has_been_measured_and_fits_into_eight_gigabytes():
    rows = executions.recorded()
    for profile in ("smoke", "laptop"):
        part = rows[rows["profile"] == profile]
        assert list(part["chapter"]) == CHAPTERS
        assert part["memory_mb"].max() < 8000
    assert set(rows["profile"]) <= set(profiles.names())


def test_a_parameter_that_no_chapter_has_is_refused(tmp_path):
    """As papermill gives it: it only warns, and the chapter would run with its own."""
    cells = [
        nbformat.v4.new_code_cell('profile = "laptop"', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "from anomaly_transfer.pages import executions\nexecutions.announce('data', profile)"
        ),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "chapter.ipynb")

    def run(**parameters):
        return papermill.execute_notebook(
            tmp_path / "chapter.ipynb", tmp_path / "out.ipynb", parameters=parameters, progress_bar=False
        )

    assert "smoke" in str(run(profile="smoke").cells[-1].outputs)
    with pytest.raises(papermill.PapermillExecutionError, match="no parameter 'profil'; it has: profile"):
        run(profil="smoke")
