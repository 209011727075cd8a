"""Chapters are called by their topics; the table of contents alone has their order, and old addresses lead on."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from anomaly_transfer.pages import contents

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = contents.chapters(ROOT)
MOVED = yaml.safe_load((ROOT / "book" / "redirects.yml").read_text(encoding="utf-8"))
#: What the book was published with.
NUMBERED = [
    "00_preface", "01_data", "02_frozen", "03_benchmarks", "04_measures", "05_hypothesis", "06_source",
    "07_prediction", "08_gaussian", "09_finetuning", "10_ablation", "11_localisation", "12_oneclass", "13_deep",
    "14_labels", "15_cracks", "16_side", "17_verdicts", "18_practice", "19_limits", "20_own",
]  # fmt: skip

TOY = """
# %% [markdown]
# # A chapter for this test

# %% tags=["parameters"]
profile = "laptop"
"""


def test_the_contents_list_every_chapter_and_its_exercises():
    listed = re.findall(r"file: notebooks/([\w/]+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    there = {path.relative_to(NOTEBOOKS).with_suffix("").as_posix() for path in NOTEBOOKS.rglob("*.py")}
    assert sorted(listed) == sorted(there)
    assert [name for name in listed if "/" not in name] == CHAPTERS
    assert [name for name in listed if "/" in name] == [f"exercises/{name}" for name in CHAPTERS if name != "preface"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_called_by_its_topic(chapter):
    assert re.fullmatch("[a-z_]+", chapter), "no number, and nothing that differs by case alone"
    # It is executed in its own folder, where Python looks for modules first.
    assert importlib.util.find_spec(chapter) is None, "a module of this name would be shadowed"


def test_every_old_address_leads_to_a_page_of_the_book():
    old = {f"notebooks/{name}" for name in NUMBERED}
    assert old <= set(MOVED)
    assert len({MOVED[name] for name in old}) == len(old), "each leads to a chapter of its own"
    for name in old - {"notebooks/00_preface"}:
        below = name.replace("/", "/exercises/")
        assert MOVED[below] == MOVED[name].replace("/", "/exercises/")
    listed = set(re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8")))
    assert set(MOVED.values()) <= listed
    assert not set(MOVED) & listed, "a page of the book would be written over"


def git(folder, *words):
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.split()


def test_a_chapter_in_the_middle_renames_nothing(tmp_path):
    for name in ("lib", "notebooks", "book", "results"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", "_toc.yml", "_config.yml", "Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "--all")
    (tmp_path / "notebooks" / "toy.py").write_text(TOY.lstrip())
    toc, before = tmp_path / "_toc.yml", "      - file: notebooks/gaussian\n"
    toc.write_text(toc.read_text().replace(before, f"      - file: notebooks/toy\n{before}"))
    env = {"PYTHONPATH": str(tmp_path / "lib")}

    def run(*words):
        found = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=os.environ | env, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout + found.stderr

    assert run("book/tools/pairs.py") == "toy.ipynb: written\n"
    run("book/tools/pairs.py", "--check")
    assert git(tmp_path, "diff", "--name-only") == ["_toc.yml"]
    assert git(tmp_path, "ls-files", "--others", "--exclude-standard") == ["notebooks/toy.ipynb", "notebooks/toy.py"]
    place = CHAPTERS.index("gaussian")
    wanted = [*CHAPTERS[:place], "toy", *CHAPTERS[place:]]
    assert contents.chapters(tmp_path) == wanted
    planned = run("-m", "snakemake", "--dry-run", "--cores", "1", "--config", "profile=smoke")
    (stamps,) = re.findall(r"rule site:\n    input: (.*)", planned)
    assert re.findall(r"stamps/(\w+)", stamps) == wanted
