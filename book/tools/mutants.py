"""Change one module in one place, test, and again: python book/tools/mutants.py MODULE [SAMPLE] [--again].

A *mutant* is a module with one operator, comparison, constant or call changed, by Cosmic Ray's operators. It is caught
if a test of the module fails; what survives shows a test that is missing, or a change that changes nothing. Nothing is
written to the sources: each mutant lives in a process of its own, forked after all other packages were imported.

MODULE is a path below lib/anomaly_transfer, such as detectors/gaussian. Its tests are its doctests and those of
``[tool.mutants]`` in pyproject.toml, else those of the file, or the folder, of the same name below tests. Survivors
that change nothing are listed, with the reason, in tests/mutants.yml. With --again, only what survived the last run is
tested anew.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.machinery
import json
import os
import random
import re
import signal
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import parso
import pytest
import yaml
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "anomaly_transfer"
#: Where the results of the last run are kept.
KEPT = ROOT / "_mutants"
EQUIVALENT = ROOT / "tests" / "mutants.yml"
SEED = 0
ENOUGH = 0.9

_ARITHMETIC, _BITS, _ORDER = "Add|Sub|Mul|Div|FloorDiv|Mod|Pow", "BitOr|BitAnd|BitXor", "Eq|NotEq|Lt|LtE|Gt|GtE"
#: Replacements of like by like: ``a + b`` by ``a | b`` fails at once and says nothing of the tests.
LIKE = re.compile(
    rf"ReplaceBinaryOperator_(({_ARITHMETIC})_({_ARITHMETIC})|({_BITS})_({_BITS}))"
    rf"|ReplaceComparisonOperator_(({_ORDER})_({_ORDER})|(Is|IsNot)_(Is|IsNot))"
    r"|Replace(Unary|True|False|And|Or|Break|Continue)\w+|AddNot|NumberReplacer|ZeroIterationForLoop|RemoveDecorator"
)
PAIRS = (
    ("min", "max"), ("minimum", "maximum"), ("fmin", "fmax"), ("argmin", "argmax"), ("idxmin", "idxmax"),
    ("sum", "mean"), ("any", "all"), ("zeros", "ones"), ("intersect1d", "union1d"), ("floor", "ceil"),
    ("cov", "corrcoef"), ("abs", "float"), ("sqrt", "square"), ("lower", "upper"), ("mean", "median"),
)  # fmt: skip

OTHER = dict(PAIRS) | {b: a for a, b in PAIRS}


class CallReplacer(Operator):
    """Calls one function instead of another that takes the same."""

    def mutation_positions(self, node):
        called = getattr(node, "type", "") == "name" and node.get_next_leaf().value == "("
        if called and node.value in OTHER and node.parent.type not in ("funcdef", "classdef"):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        return parso.python.tree.Name(OTHER[node.value], node.start_pos, node.prefix)

    @classmethod
    def examples(cls):
        return ()


def operators() -> list[Operator]:
    """What changes code, each in one way."""
    known = OperatorProvider()
    return [known[name]() for name in known if LIKE.fullmatch(name)] + [CallReplacer()]


def mutants(source: str, sample: int) -> Iterator[str]:
    """Changed sources: places are drawn first, so that a plus, with many replacements, counts no more than a name."""
    places = defaultdict(list)
    nodes = list(ast_nodes(get_ast(source)))
    for operator in operators():
        occurrences = enumerate(place for node in nodes for place in operator.mutation_positions(node))
        for occurrence, (start, _) in occurrences:
            places[start].append((operator, occurrence))
    draw = random.Random(SEED)
    order = sorted(places)
    draw.shuffle(order)
    meant, number = meaning(source), 0
    for place in order:
        operator, occurrence = draw.choice(places[place])
        mutant = mutate_code(source, operator, occurrence)
        if meaning(mutant) not in (None, meant):
            yield mutant
            number += 1
        if number == sample:
            return


def meaning(source: str) -> str | None:
    """The syntax tree without what does nothing: annotations, and ``strict``, a guard against mistakes of our own.

    None if there is no tree.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if hasattr(node, field):
                setattr(node, field, ast.Constant(0))
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "strict"]
    return ast.dump(tree)


def tests_of(module: str) -> list[str]:
    """What pytest is given for a module: its doctests first."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutants"]
    folder, _, name = module.rpartition("/")
    own = f"tests/{folder}/test_{name}.py".replace("//", "/")
    usual = [own if (ROOT / own).is_file() else f"tests/{folder}"]
    return [f"lib/{PACKAGE}/{module}.py", *table.get(module, usual)]


class Changed:
    """An import hook that gives one module another source."""

    def __init__(self, name: str, source: str):
        self.name, self.source = name, source

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader.get_code = lambda _: compile(self.source, spec.origin, "exec", dont_inherit=True)
        return spec


def run_and_exit(name: str, source: str, tests: list[str], after: Callable[[], None] = lambda: None) -> None:
    """Run tests on a changed source, in this process, and end it: with 0 if none fails."""
    os.setsid()
    os.chdir(ROOT)
    sys.meta_path.insert(0, Changed(name, source))
    with open(os.devnull, "r+") as null:
        for stream in (0, 1, 2):
            os.dup2(null.fileno(), stream)
    code = 1
    try:
        # Before pytest, which would import the file itself.
        importlib.import_module(name)
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
        after()
    finally:
        os._exit(int(code))


def survives(name: str, source: str, tests: list[str], limit: float, after: Callable[[], None] = lambda: None) -> bool:
    """Whether all tests pass, within so many seconds."""
    child = os.fork()
    if not child:
        run_and_exit(name, source, tests, after)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def changed(before: str, after: str) -> dict[str, str]:
    """The lines in which two sources differ, as they are listed in EQUIVALENT."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    told = {name: [line[2:].strip() for line in lines if line[0] == sign] for name, sign in (("was", "-"), ("is", "+"))}
    return {name: " ".join(parts) for name, parts in told.items()}


def line_of(before: str, after: str) -> int:
    """The number of the first line in which two sources differ."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    return next(number for number, (a, b) in enumerate(pairs, start=1) if a != b)


def main(module: str, sample: int, again: bool) -> int:
    """Test a sample of mutants; 1 if too many survive."""
    path = ROOT / "lib" / PACKAGE / f"{module}.py"
    source, name = path.read_text(encoding="utf-8"), f"{PACKAGE}.{module.replace('/', '.')}"
    tests, kept = tests_of(module), KEPT / f"{module.replace('/', '-')}.json"
    sys.path[:0] = [str(ROOT), str(ROOT / "lib")]
    KEPT.mkdir(exist_ok=True)

    imported = KEPT / "imported.json"
    start = time.monotonic()
    if not survives(name, source, tests, 3600, lambda: imported.write_text(json.dumps(sorted(sys.modules)))):
        print(f"{module}: {' '.join(tests)} fail without any change.")
        return 1
    took = time.monotonic() - start
    print(f"{module}: {' '.join(tests)} take {took:.0f} s", flush=True)
    for third in json.loads(imported.read_text()):
        if third.split(".")[0] not in (PACKAGE, "tests", "lib", "conftest", "__main__"):
            try:
                importlib.import_module(third)
            except Exception:  # a module that is made on the way, or wants another first: it is not needed here
                continue
    known = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")).get(module, [])
    equivalent = {(entry["was"], entry["is"]) for entry in known}
    before = json.loads(kept.read_text()) if again else {}
    found = {}
    for mutant in mutants(source, sample):
        change = changed(source, mutant)
        label = f"{line_of(source, mutant)}: {change['was']}  ->  {change['is']}"
        if (change["was"], change["is"]) in equivalent:
            found[label] = "equivalent"
        elif before.get(label) == "caught" or not survives(name, mutant, tests, 10 + 3 * took):
            found[label] = "caught"
        else:
            found[label] = "survived"
            print(f"survived  {module}.py:{label}", flush=True)
        kept.write_text(json.dumps(found, indent=1))
    count = {state: list(found.values()).count(state) for state in ("caught", "survived", "equivalent")}
    share = count["caught"] / max(1, count["caught"] + count["survived"])
    print(f"{module}: " + ", ".join(f"{n} {state}" for state, n in count.items()) + f": {share:.0%} caught")
    return int(share < ENOUGH)


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if argument != "--again"]
    if not given:
        sys.exit(__doc__)
    sys.exit(main(given[0].removesuffix(".py"), int(given[1]) if len(given) > 1 else 60, "--again" in sys.argv))
