"""What reruns and what does not, tried on a copy of the project as `make preview` left it."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.book.conftest import AS_BUILT, EXECUTED, ROOT, SITE


def left_out(folder, names):
    """What the copy does not need: environment, caches, and what other profiles built."""
    caches = shutil.ignore_patterns(".venv", ".git", "_store", ".*_cache", "__pycache__", "log", "locks")(folder, names)
    if Path(folder).name in ("_site", "_executed"):
        return caches | {name for name in names if not name.startswith("smoke")}
    return caches


@pytest.fixture
def copy(tmp_path):
    if not (SITE / "index.html").is_file() or not list(EXECUTED.glob("*.ipynb")):
        pytest.skip("nothing was built: make preview")
    # copy2 keeps times, as a moved checkout would; the copy's own package goes first on the path.
    return Path(shutil.copytree(ROOT, tmp_path / "project", ignore=left_out))


def snakemake(folder, *words):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--rerun-triggers", "params", *words]
    command += ["--config", "profile=smoke"]
    env = AS_BUILT | {"PYTHONPATH": str(folder / "lib"), "ANOMALY_TRANSFER_STORE": str(ROOT / "_store")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def planned(folder):
    """Chapters that would be executed, and whether the site would be built."""
    result = snakemake(folder, "--dry-run")
    assert result.returncode == 0, result.stdout + result.stderr
    text = result.stdout + result.stderr
    return set(re.findall(r"wildcards: chapter=(\w+)", text)), "rule site:" in text


def test_nothing_to_do_is_quick(copy):
    started = time.perf_counter()
    assert planned(copy) == (set(), False)
    # 2 s on a quiet machine; twice the promised 3 s here, since a loaded one is slower.
    assert time.perf_counter() - started < 6


def test_touched_files_and_comments_rerun_nothing(copy):
    for path in [*copy.glob("notebooks/*"), *copy.glob("lib/**/*.py"), *copy.glob("book/*.md")]:
        path.touch()
    for path in copy.glob("lib/anomaly_transfer/**/*.py"):
        path.write_text(path.read_text() + "\n# A remark.\n")
    assert planned(copy) == (set(), False)


def test_changed_code_reruns_what_uses_it(copy):
    path = copy / "lib" / "anomaly_transfer" / "detectors" / "nearest_neighbors.py"
    path.write_text(path.read_text().replace("k: int = 2", "k: int = 3"))
    chapters, site = planned(copy)
    assert {"data", "frozen_features"} <= chapters
    assert "preface" not in chapters
    assert site


def test_a_changed_notebook_reruns_itself_alone(copy):
    path = copy / "notebooks" / "data.ipynb"
    path.write_text(path.read_text().replace("**Question.**", "**The question.**", 1))
    assert planned(copy) == ({"data"}, True)


@pytest.mark.parametrize("page", ["book/glossary.md", "book/parts/ground.md", "notebooks/exercises/data.ipynb"])
def test_a_changed_page_rebuilds_the_site_alone(copy, page):
    path = copy / page
    path.write_text(path.read_text().replace(" the ", " one ", 1))
    assert planned(copy) == (set(), True)


def test_a_changed_size_reruns_every_chapter(copy):
    path = copy / "lib" / "anomaly_transfer" / "profiles.toml"
    path.write_text(path.read_text().replace("bootstrap = 100\n", "bootstrap = 101\n"))
    chapters, _ = planned(copy)
    assert len(chapters) == len(list(EXECUTED.glob("*.ipynb")))


def test_a_failed_chapter_keeps_the_last_good_one(copy):
    notebook = copy / "notebooks" / "preface.ipynb"
    executed = copy / "_executed" / "smoke" / "preface.ipynb"
    good = executed.read_bytes()
    notebook.write_text(notebook.read_text().replace("plots.use_style()", "raise RuntimeError('broken on purpose')", 1))
    result = snakemake(copy)
    assert result.returncode != 0
    assert "broken on purpose" in result.stdout + result.stderr
    assert executed.read_bytes() == good
    assert (copy / "_site" / "smoke" / "_build" / "html" / "index.html").is_file()
    assert planned(copy) == ({"preface"}, True), "the failed chapter is still stale"


def test_a_deleted_result_is_made_again(copy):
    (copy / "_executed" / "smoke" / "data.ipynb").unlink()
    assert planned(copy) == ({"data"}, True)
