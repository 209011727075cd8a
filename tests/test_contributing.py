"""What CONTRIBUTING says one has to touch is enough: a detector, a study and a benchmark are added to a copy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly_transfer import settings

PACKAGE = Path(settings.__file__).parent

DETECTOR = '''
"""A detector for this test: the length of an image's features."""

import numpy as np

from anomaly_transfer.detectors.base import Detector


class LengthDetector(Detector):
    """How long the features of the last level are."""

    kind = "pooled"

    def _fit(self, features):
        return {"mean": features[self.levels_[-1]].mean(axis=0)}

    def _anomaly_score(self, features):
        return np.linalg.norm(features[self.levels_[-1]] - self.state_["mean"], axis=1)


METHODS = {"length": LengthDetector}
'''

STUDY = '''
"""A study for this test: how many normal images there are."""

import pandas as pd

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.studies import base
from anomaly_transfer.studies.base import Study


def request(asked, store):
    """Count."""
    sizes = profiles.get(asked.profile)
    whole = benchmarks.get(asked.benchmark).load(asked.category, sizes.limit)

    def compute():
        kinds = whole.annotations.open()["anomaly_class"]
        return pd.DataFrame({"normal": [int((kinds == NORMAL).sum())]})

    return base.request(STUDY, asked, ("images_per_category",), whole, sizes, compute)


STUDY = Study("counting", request, ("plainly",), "plainly")
run = STUDY.run
'''

BENCHMARK = '''
"""A benchmark for this test: bricks by another name."""

from anomaly_transfer.benchmarks.surfaces import Surfaces


class Walls(Surfaces):
    """The same pictures."""

    name = "walls"
    title = "Walls"


BENCHMARK = Walls()
'''

#: What is written down of the plan: the new study on one data set.
PLAN = """
- study: counting
  variants: [plainly]
  data: [surfaces/brick]
- study: detection
  variants: [length]
  data: [surfaces/brick]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy with the three additions, and nothing else touched."""
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(PACKAGE, root / "lib" / "anomaly_transfer", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "results").mkdir()
    (root / "results" / "plan.yml").write_text(PLAN)
    package = root / "lib" / "anomaly_transfer"
    (package / "detectors" / "length.py").write_text(DETECTOR.lstrip())
    (package / "studies" / "counting.py").write_text(STUDY.lstrip())
    (package / "benchmarks" / "walls.py").write_text(BENCHMARK.lstrip())
    return root


@pytest.fixture
def run(repository, tmp_path):
    def command(*words):
        env = {**os.environ, "PYTHONPATH": str(repository / "lib"), "ANOMALY_TRANSFER_STORE": str(tmp_path / "store")}
        words = [sys.executable, "-m", "anomaly_transfer.app.cli", *map(str, words)]
        found = subprocess.run(words, env=env, cwd=repository, capture_output=True, text=True, timeout=300)
        assert found.returncode == 0, found.stderr
        return found.stdout

    return command


def test_a_study_appears_everywhere(run, repository, tmp_path):
    assert "counting" in run("studies")
    folder = repository / "results" / "smoke"
    run(
        "record", "counting", "--benchmark", "surfaces", "--category", "brick", "--profile", "smoke", "--export", folder
    )
    assert [path.name for path in (folder / "counting").iterdir()] == ["plainly__surfaces__brick__0.json"]
    assert "counting/plainly__surfaces__brick__0: 1 rows" in run("records", "list", folder)
    assert "1 current, 1 missing" in run("records", "status", "--profile", "smoke")
    assert "1 same" in run("records", "diff", folder, folder)


def test_a_detector_appears_everywhere(run, repository):
    told = run("record", "detection", "--variant", "length", "--benchmark", "surfaces", "--category", "brick",
               "--profile", "smoke")  # fmt: skip
    assert told.startswith("detection/length__surfaces__brick__grouped__0: AUROC ")


def test_a_benchmark_appears_everywhere(run):
    assert "walls" in run("benchmarks")
    told = run("record", "detection", "--variant", "length", "--benchmark", "walls", "--category", "brick",
               "--profile", "smoke")  # fmt: skip
    assert told.startswith("detection/length__walls__brick__grouped__0: AUROC ")
