"""The tools that make the book: pairs of notebooks, execution of chapters, the repository's address."""

import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("source", sorted((ROOT / "notebooks").rglob("*.py")), ids=lambda path: path.stem)
def test_each_notebook_is_derived_from_its_source_byte_for_byte(source):
    assert source.with_suffix(".ipynb").read_text(encoding="utf-8") == tool("pairs").derive(source)


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_is_well_made(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert notebook.cells[0].source.startswith("# "), "a notebook begins with its title"
    assert "find_spec" in code[0].source, "the first code cell is the Colab cell"
    assert "parameters" in code[1].metadata.get("tags", []), "the second code cell has the parameters"
    for cell in code:
        assert len(cell.source.splitlines()) <= 30, f"longer than a screen: {cell.source[:60]}"
        figure = cell.metadata.get("mystnb", {})
        if re.search(r"^figure\b.*=", cell.source, re.MULTILINE):
            assert figure["image"]["alt"]
            assert figure["figure"]["caption"]
            assert re.fullmatch(r"fig-[a-z-]+", figure["figure"]["name"])
    headings = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if source.stem != "preface":
        for part in ("**Question.**", "## What we learnt", "## Exercises", "What would surprise you"):
            assert part in headings, part


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """The check of typed numbers on a book of one chapter; what it prints is in the second function's hands."""
    checker = tool("typed_numbers")
    monkeypatch.setattr(checker, "ROOT", tmp_path)
    monkeypatch.setattr(checker, "ALLOWED", tmp_path / "typed_numbers.yml")
    for folder in ("notebooks", "book"):
        (tmp_path / folder).mkdir()
    (tmp_path / "README.md").write_text("# A book\n")
    (tmp_path / "book" / "claims.yml").write_text("[]")

    def check(chapter, allowed="[]"):
        (tmp_path / "notebooks" / "a.py").write_text(chapter)
        (tmp_path / "typed_numbers.yml").write_text(allowed)
        return checker.main()

    return check


@pytest.mark.parametrize(
    "chapter",
    [
        "# %% [markdown]\n# The Gaussian reaches 0.93 on bricks.\n",
        "# %% [markdown]\n# It finds 41 % more.\n",
        "# %% [markdown]\n# It is three times as fast.\n",
        '# %%\nMarkdown(f"With labels it is {x:.2f}, without them 0.81 only.")\n',
        '# %% mystnb={"figure": {"caption": "Scores: the AUROC is 0.93."}}\nx = 1\n',
    ],
)
def test_a_typed_result_is_found(typed, capsys, chapter):
    assert typed(chapter) == 1
    assert "notebooks/a.py: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "chapter",
    [
        "# %% [markdown]\n# The paper reports 0.93 {cite:p}`somebody`.\n",
        "# %% [markdown]\n# Set `x = 0.93` and $y < 0.5$; see [this](0.93.html).\n",
        '# %%\nrate = 0.93\nname = "0.93"\nMarkdown(f"With labels it is {x:.2f} in all.")\n',
    ],
)
def test_what_is_cited_or_computed_is_no_typed_result(typed, chapter):
    assert typed(chapter) == 0


def test_a_number_is_allowed_with_a_reason_and_only_where_it_is_needed(typed, capsys):
    chapter = "# %% [markdown]\n# Intervals hold 95 % of draws.\n"
    assert typed(chapter, "[{where: notebooks/a, text: 95 % of draws, reason: their level}]") == 0
    assert typed(chapter, "[{where: notebooks/a, text: 95 % of draws, reason: ''}]") == 1
    assert typed(chapter, "[{where: book/a, text: 95 % of draws, reason: their level}]") == 2
    assert "nothing needs book/a" in capsys.readouterr().out


def test_a_claim_names_its_threshold_and_what_it_quotes_but_no_result(typed, tmp_path, capsys):
    claim = """
- title: Better by 0.01 and by 41 %
  threshold: -0.01
  quotation: it improves by 41%
  limits: {limits}
"""
    (tmp_path / "book" / "claims.yml").write_text(claim.format(limits="one network"))
    assert typed("# %% [markdown]\n# Nothing.\n") == 0
    (tmp_path / "book" / "claims.yml").write_text(claim.format(limits="on bricks it was 0.014 better"))
    assert typed("# %% [markdown]\n# Nothing.\n") == 1
    assert "0.014" in capsys.readouterr().out


def test_stubs_and_readme_follow_the_verdicts(tmp_path, monkeypatch, capsys):
    verdicts = tool("verdicts")
    monkeypatch.setattr(verdicts, "ROOT", tmp_path)
    monkeypatch.setattr(verdicts, "PAGES", tmp_path / "claims")
    monkeypatch.setattr(verdicts, "README", tmp_path / "README.md")
    monkeypatch.setattr(verdicts, "FIGURE", tmp_path / "verdicts.svg")
    (tmp_path / "README.md").write_text(f"# Before\n{verdicts.BEGIN}\nold\n{verdicts.END}\nafter\n")
    assert verdicts.main(check=True) > 30
    assert verdicts.main(check=False) == 0
    assert verdicts.main(check=True) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\nafter\n")
    assert "| P1a-images |" in text
    assert (tmp_path / "verdicts.svg").stat().st_size > 1000
    (tmp_path / "claims" / "P9z-old.md").write_text("# Old\n")
    capsys.readouterr()
    assert verdicts.main(check=True) == 1
    assert "claims/P9z-old.md" in capsys.readouterr().out


def test_an_edit_of_the_source_is_noticed(tmp_path, monkeypatch):
    pairs = tool("pairs")
    monkeypatch.setattr(pairs, "NOTEBOOKS", tmp_path)
    (tmp_path / "a.py").write_text("# %%\nx = 1\n")
    assert pairs.main(check=True) == 1
    assert pairs.main(check=False) == 0
    assert pairs.main(check=True) == 0
    (tmp_path / "a.py").write_text("# %%\nx = 2\n")
    assert pairs.main(check=True) == 1
    (tmp_path / "a.py").unlink()
    assert pairs.main(check=True) == 1, "a notebook without a source"


def test_a_cell_head_that_cannot_be_read_is_said(tmp_path):
    source = tmp_path / "x.py"
    source.write_text('# %% mystnb={"figure": {"name": "a"}\nfirst = 1\n')
    with pytest.raises(SystemExit, match=r"x\.py: the head of a cell .* 'first = 1'"):
        tool("pairs").derive(source)


def test_a_notebook_without_a_profile_parameter_is_refused(tmp_path, monkeypatch):
    execute = tool("execute")
    monkeypatch.setattr(execute, "NOTEBOOKS", tmp_path)
    nbformat.write(
        nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}),
        tmp_path / "a.ipynb",
    )
    with pytest.raises(SystemExit, match="no parameter `profile`"):
        execute.execute("a", "smoke", tmp_path / "out.ipynb")


def tracked():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not names:
        pytest.skip("not a git checkout")
    return names


def test_the_address_is_changed_everywhere_by_one_command(tmp_path):
    repository = tool("repository")
    for name in tracked():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run("git init -q . && git add -A", shell=True, cwd=tmp_path, check=True)
    old = repository.slug(repository.address())
    changed = repository.change("https://github.com/Somebody/another-book", tmp_path)
    assert {"pyproject.toml", "_config.yml", "README.md", "CITATION.cff", "notebooks/data.py"} <= set(changed)
    for name in tracked():
        text = (tmp_path / name).read_bytes().decode("utf-8", errors="ignore")
        assert old not in text, name
    config = yaml.safe_load((tmp_path / "_config.yml").read_text())
    assert config["repository"]["url"] == "https://github.com/Somebody/another-book"
    assert "https://somebody.github.io/another-book" in (tmp_path / "README.md").read_text()


def test_every_derived_address_agrees_with_the_one_place():
    repository = tool("repository")
    url = repository.address()
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"] == url
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == url
    for source in NOTEBOOKS:
        assert f"git+{url}" in source.read_text(), source.name
    for name in tracked():
        text = (ROOT / name).read_bytes().decode("utf-8", errors="ignore")
        for found in re.findall(r"github\.com/([\w.-]+/what-normal-knows)", text):
            assert found == repository.slug(url), name


def test_a_malformed_address_is_refused():
    with pytest.raises(SystemExit, match="not of the form"):
        tool("repository").slug("git@somewhere:book")


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == project["version"]


def test_pins_stand_in_the_constraints_only():
    """Lower bounds in the metadata (Colab brings its own torch); every dependency pinned for a reproduced run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    lines = [line for line in lines if not line.startswith("anomaly-transfer")]
    pins = {
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    for line in lines:
        assert "==" not in line
        assert ">=" in line
        assert re.sub(r"[-_.]+", "-", re.split(r"[<>=\[]", line)[0]).lower() in pins, line


def test_no_result_is_committed_in_a_notebook_or_a_cache():
    assert not [name for name in tracked() if name.startswith(("_executed", "_site", "_store", ".venv"))]
    for name in tracked():
        if name.endswith(".ipynb"):
            cells = json.loads((ROOT / name).read_text())["cells"]
            assert not any(cell.get("outputs") for cell in cells)


def test_the_lowest_versions_are_those_of_the_bounds_with_all_that_an_extra_names():
    project = {
        "name": "us",
        "dependencies": ["numpy>=2.0"],
        "optional-dependencies": {
            "data": ["pooch>=1.8.1,<2"],
            "book": ["us[data]", "papermill>=2.6"],
            "peers": ["pyod>=3.6"],
        },
    }
    found = tool("lowest").lowest(project, ["book"])
    assert found == {"numpy": "2.0", "papermill": "2.6", "pooch": "1.8.1"}
    with pytest.raises(ValueError, match="'scipy' has no lower bound"):
        tool("lowest").lowest(project | {"dependencies": ["scipy"]}, [])


def test_every_dependency_has_a_lower_bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = tool("lowest").lowest(project, list(project["optional-dependencies"]))
    assert {"torch", "anomalib", "snakemake", "pytest"} <= set(found)


@pytest.mark.parametrize("end", ["lowest", "newest"])
def test_both_ends_of_the_bounds_have_a_job_and_a_target(end):
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]
    assert end in jobs["bounds"]["strategy"]["matrix"]["versions"]
    # With all that is there already: the environment too is, where `make` runs this test in it.
    planned = subprocess.run(["make", "-nB", end], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"-c _bounds/{end}.txt -e" in planned
    assert "pytest -n 2 --dist loadfile" in planned
    assert f"execute.py frozen_features smoke _bounds/{end}/frozen_features.ipynb" in planned
