"""The floor plan: it is written down once, in the package's docstring, and imports keep to it."""

import ast
import re

import pytest

import anomaly_transfer
from anomaly_transfer import fingerprint
from anomaly_transfer.pages import floor_plan

#: Packages in the way of the data; what stands beside them is used by all.
ORDER = ["", *floor_plan.floors()]
MODULES = floor_plan.modules()
IMPORTS = floor_plan.imports()


def test_every_package_has_its_place_in_the_plan():
    assert {path.parent.name for path in floor_plan.ROOT.glob("*/__init__.py")} == set(ORDER) - {""}
    beside = {path.stem for path in floor_plan.ROOT.glob("*.py")} - {"__init__"}
    assert beside == set(re.findall(r"``(\w+)``", anomaly_transfer.__doc__.split("Beside them")[1]))


@pytest.mark.parametrize("module", MODULES.index)
def test_no_import_goes_against_the_way(module):
    found = IMPORTS[IMPORTS["module"] == module]
    later = found[found["below"].map(ORDER.index) > found["floor"].map(ORDER.index)]
    assert later.empty, f"{module} imports what comes after it: {', '.join(later['imported'])}"


def test_no_circle():
    """Of imports that are carried out when a module is imported; those within functions wait."""

    def at_once(module):
        tree = ast.parse(fingerprint.module_source(module))
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        return fingerprint.imported_modules(ast.unparse(tree), module, packages=False) & set(MODULES.index) - {module}

    done, path = set(), []

    def visit(module):
        assert module not in path, f"a circle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            path.append(module)
            for name in sorted(at_once(module)):
                visit(name)
            done.add(path.pop())

    for module in MODULES.index:
        visit(module)


def test_the_picture_has_every_floor_and_every_module():
    (axes,) = floor_plan.draw().axes
    told = " ".join(text.get_text() for text in axes.texts)
    assert set(ORDER) - {""} <= set(re.findall(r"\w+", told))
    assert {name.rpartition(".")[2] for name in MODULES.index[MODULES != ""] if name.count(".") > 1} <= set(
        re.findall(r"\w+", told)
    )
    drawn = IMPORTS[(IMPORTS["floor"] != IMPORTS["below"]) & (IMPORTS["below"] != "") & (IMPORTS["floor"] != "")]
    assert len(axes.patches) == len(drawn[["floor", "below"]].drop_duplicates())
