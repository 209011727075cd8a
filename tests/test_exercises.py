"""The exercises: what a student gets fails its check, so does a mistake that looks right, and the solution passes."""

import json
from pathlib import Path

import jupytext
import pytest

from anomaly_transfer.pages import contents

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
CHAPTERS = [name for name in contents.chapters(ROOT) if name != "preface"]
ROLES = {"exercise", "mistake", "solution", "check"}


def exercises(chapter):
    """For each exercise its cells by role; what stands in no role is run before, and shared."""
    cells = jupytext.read(NOTEBOOKS / "exercises" / f"{chapter}.py", fmt="py:percent").cells
    parts, shared = {}, []
    for cell in cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type != "code" or "remove-cell" in tags:
            continue
        if not tags & ROLES:
            shared.append(cell.source)
            continue
        (role,) = tags
        assert role not in parts, f"{role} twice"
        parts[role] = cell.source
        if role == "check":
            assert set(parts) == ROLES
            yield shared, parts
            parts, shared = {}, []
    assert not parts, "an exercise without a check"
    assert not shared


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_an_exercise_fails_until_it_is_solved(chapter):
    found = list(exercises(chapter))
    assert len(found) >= 3
    names = {}
    for shared, parts in found:
        for source in shared:
            exec(source, names)
        exec(parts["exercise"], names)
        with pytest.raises(NotImplementedError, match="your turn"):
            exec(parts["check"], names)
        exec(parts["mistake"], names)
        assert parts["mistake"].startswith("# "), "a mistake says why it is one"
        with pytest.raises(AssertionError):
            exec(parts["check"], names)
        exec(parts["solution"], names)
        exec(parts["check"], names)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_student_sees_the_solution_only_folded(chapter):
    notebook = json.loads((NOTEBOOKS / "exercises" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    install = next(cell for cell in jupytext.read(NOTEBOOKS / f"{chapter}.py").cells if cell.cell_type == "code").source
    imported = any("anomaly_transfer" in source for source in code if source != install)
    assert (code[0] == install) == imported, "the package is installed where it is needed, and nowhere else"
    folded = ["".join(cell["source"]) for cell in notebook["cells"] if "<details>" in "".join(cell["source"])]
    for (_, parts), text in zip(exercises(chapter), folded, strict=True):
        assert parts["exercise"] in code
        assert parts["check"] in code
        for role in ("solution", "mistake"):
            assert parts[role] not in code
            assert parts[role] in text
