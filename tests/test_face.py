"""The face of the package: light to import, known to static analysers, and the same as the command line."""

import ast
import re
import shutil
import statistics
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import anomaly_transfer as at
from anomaly_transfer.app import cli, example

PAGE = Path(__file__).parents[1] / "book" / "api.md"
SECONDS = "import time; begun = time.perf_counter(); import anomaly_transfer; print(time.perf_counter() - begun)"


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_face_imports_nothing_heavy():
    heavy = {"torch", "pandas", "numpy", "sklearn", "scipy", "PIL", "matplotlib", "typer"}
    loaded = python("import sys, anomaly_transfer; anomaly_transfer.__all__; print(*sys.modules)").split()
    assert not heavy & set(loaded)


@pytest.mark.speed
def test_the_face_is_imported_at_once():
    assert statistics.median(float(python(SECONDS)) for _ in range(5)) < 0.3


@pytest.mark.parametrize("name", at.__all__)
def test_every_name_is_handed_on(name):
    assert getattr(at, name).__name__ == name
    assert getattr(at, name).__doc__
    assert name in dir(at)
    assert f":: anomaly_transfer.{name}\n" in PAGE.read_text(encoding="utf-8"), "it has its place on the page"


def test_an_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        _ = at.fitt


def test_static_analysers_know_the_names_that_are_handed_on():
    (told,) = (node for node in ast.parse(Path(at.__file__).read_text()).body if isinstance(node, ast.If))
    imports = {alias.asname: f"{node.module}:{alias.name}" for node in told.body for alias in node.names}
    assert imports == {name: f"anomaly_transfer.{at._HOMES[name]}:{name}" for name in at.__all__}


def test_the_ten_lines_of_the_page_do_what_the_command_line_does(tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 10
    monkeypatch.chdir(tmp_path)
    example.write(Path("wall"))
    # A few of its pictures are sooner done.
    shutil.rmtree("wall/ground_truth")
    for folder in (tmp_path / "wall").glob("t*/*"):
        for path in sorted(folder.iterdir())[12 if folder.parent.name == "train" else 2 :]:
            path.unlink()
    found = {}
    exec(compile(code, PAGE, "exec"), found)
    for words in (["fit", "wall", "--out", "same"], ["score", "same", "wall/test/crack"]):
        monkeypatch.setattr(sys, "argv", ["anomaly-transfer", *words])
        with suppress(SystemExit):
            cli.entry()
    table = pd.read_csv("scores.csv")
    assert np.allclose(found["scores"], table["score"])
    assert np.array_equal(found["alarms"], table["anomalous"])
    assert found["maps"].shape == (2, 224, 224)
    assert at.load("same").threshold == at.load("model").threshold
    assert found["report"]["counts"] == {"normal": 2} | dict.fromkeys(example.DEFECTS, 2)
    assert (tmp_path / "report" / "report.html").is_file()
