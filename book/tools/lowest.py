"""Print the lowest version that pyproject.toml allows of each direct dependency: python book/tools/lowest.py EXTRA ...

One ``NAME==VERSION`` a line, as constraints for pip. `make lowest` tests with them, so that no bound is a wish.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def lowest(project: dict, extras: list[str]) -> dict[str, str]:
    """Name and lowest version of each dependency of a package, and of some of its extras.

    Parameters
    ----------
    project : dict
        The table ``project`` of a pyproject.toml.
    extras : list of str
        An extra that names others of the same package brings theirs.

    Raises
    ------
    ValueError
        If a dependency has no lower bound.
    """
    found = {}
    waiting = [*project["dependencies"], f"{project['name']}[{','.join(extras)}]"]
    for requirement in waiting:
        if own := re.fullmatch(rf"{project['name']}\[(.*)\]", requirement):
            waiting += [
                line for extra in own[1].split(",") if extra for line in project["optional-dependencies"][extra]
            ]
        elif bounded := re.match(r"([\w.-]+)>=([\w.]+)", requirement):
            found[bounded[1]] = bounded[2]
        else:
            raise ValueError(f"{requirement!r} has no lower bound.")
    return found


if __name__ == "__main__":
    versions = lowest(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"], sys.argv[1:])
    print(*(f"{name}=={version}" for name, version in versions.items()), sep="\n")
