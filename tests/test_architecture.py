"""The floor plan: it is written down once, in the package's docstring, and imports keep to it."""

import ast
import re
from pathlib import Path

import pytest

import anomaly_transfer
from anomaly_transfer import fingerprint

ROOT = Path(anomaly_transfer.__file__).parent
#: Packages from the ground up; what lies beside them is below all.
ORDER = re.findall(r"^``(\w+)``$", anomaly_transfer.__doc__, re.MULTILINE)
MODULES = sorted(
    ".".join(["anomaly_transfer", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)
#: The face of the package hands on names of all floors, when they are asked for.
FACE = "anomaly_transfer"


def floor(module):
    name = module.split(".")[1] if "." in module else ""
    return ORDER.index(name) if name in ORDER else -1


def test_every_package_has_its_place_in_the_plan():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(ORDER)
    beside = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    said = anomaly_transfer.__doc__.split("Beside them")[1]
    assert beside == set(re.findall(r"``(\w+)``", said))


@pytest.mark.parametrize("module", [name for name in MODULES if name != FACE])
def test_no_import_goes_up(module):
    imported = fingerprint.imported_modules(fingerprint.module_source(module), module) - {FACE}
    up = sorted(name for name in imported if floor(name) > floor(module))
    assert not up, f"{module} imports what lies above it: {', '.join(up)}"


def test_no_circle():
    """Of imports that are carried out when a module is imported; those within functions wait."""

    def at_once(module):
        tree = ast.parse(fingerprint.module_source(module))
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        return fingerprint.imported_modules(ast.unparse(tree), module, packages=False) - {FACE, module}

    done, path = set(), []

    def visit(module):
        assert module not in path, f"a circle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            path.append(module)
            for name in sorted(at_once(module)):
                visit(name)
            done.add(path.pop())

    for module in MODULES:
        visit(module)
