"""The floor plan of this package, read from its docstring and its imports, and drawn."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

import anomaly_transfer
from anomaly_transfer.fingerprint import imported_modules, module_source
from anomaly_transfer.pages import plots

ROOT = Path(anomaly_transfer.__file__).parent


def floors() -> dict[str, str]:
    """The packages with what they hold, in the way of the data, as the package's docstring says it."""
    entries = re.findall(r"^``(\w+)``\n((?:    .*\n)+)", anomaly_transfer.__doc__ or "", re.MULTILINE)
    return {name: " ".join(line.strip() for line in text.splitlines()) for name, text in entries}


def modules() -> pd.Series:
    """The floor of each module (its package, or the empty text for one that stands beside them), indexed by module."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(["anomaly_transfer", *parts]).removesuffix(".__init__")
        found[name] = parts[0] if len(parts) > 1 else ""
    return pd.Series(found, name="floor").drop("anomaly_transfer")


def imports() -> pd.DataFrame:
    """Which module imports which, wherever in it: ``module``, ``imported``, and the floor of each."""
    floor = modules()
    rows = [
        (name, other)
        for name in floor.index
        for other in sorted(imported_modules(module_source(name), name, packages=False) & set(floor.index) - {name})
    ]
    found = pd.DataFrame(rows, columns=["module", "imported"])
    return found.assign(floor=found["module"].map(floor), below=found["imported"].map(floor))


def rooms() -> pd.Series:
    """The first line of each module's docstring, indexed by module; without packages that define nothing."""
    found = {}
    for name in modules().index:
        tree = ast.parse(module_source(name))
        if len(tree.body) > 1:
            found[name] = (ast.get_docstring(tree) or "").split("\n")[0]
    return pd.Series(found, name="holds")


def draw() -> Figure:
    """The floors one above the other, the first on top, with what they import: thicker where more modules do."""
    plots.use_style()
    names, floor = list(floors()), modules()
    counts = imports().groupby(["floor", "below"]).size()
    figure, axes = plt.subplots(figsize=(8.0, 0.62 * len(names) + 0.4), layout="constrained")
    for row, name in enumerate(names):
        inside = [module.rpartition(".")[2] for module in floor.index[floor == name] if module.count(".") > 1]
        axes.text(0.0, row, name, ha="right", va="center", weight="bold")
        axes.text(0.04, row, "\n".join(_wrapped(inside, 64)), ha="left", va="center", size="x-small")
        for other, count in counts.get(name, pd.Series(dtype=int)).items():
            if other in names and other != name:
                arrow = FancyArrowPatch(
                    (-0.42, row),
                    (-0.42, names.index(str(other))),
                    connectionstyle="arc3,rad=-0.35",
                    arrowstyle="-|>",
                    mutation_scale=7,
                    linewidth=0.4 + 0.05 * count,
                    color="0.45",
                )
                axes.add_patch(arrow)
    axes.set(xlim=(-1.0, 1.6), ylim=(len(names) - 0.5, -0.5))
    axes.axis("off")
    return figure


def _wrapped(words: list[str], width: int) -> list[str]:
    """Words in lines of at most so many letters."""
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + word
    return lines
