"""Change the repository's public address everywhere: python book/tools/repository.py https://github.com/NAME/REPO."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def address(root: Path = ROOT) -> str:
    """The address in pyproject.toml, the one place where it is written by hand."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def slug(url: str) -> str:
    """NAME/REPO of an address.

    >>> slug("https://github.com/someone/a-book")
    'someone/a-book'
    """
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", url.removesuffix(".git").rstrip("/"))
    if not match:
        raise SystemExit(f"{url!r} is not of the form https://github.com/NAME/REPO")
    return match[1]


def pages(url: str) -> str:
    """Where GitHub Pages publishes the book.

    >>> pages("https://github.com/someone/a-book")
    'https://someone.github.io/a-book'
    """
    owner, name = slug(url).split("/")
    return f"https://{owner.lower()}.github.io/{name}"


def change(new: str, root: Path = ROOT) -> list[str]:
    """Replace the old address, its NAME/REPO and its Pages address in every tracked text file; returns the files."""
    old = address(root)
    replacements = [(pages(old), pages(new)), (slug(old), slug(new))]
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    changed = []
    for name in filter(None, tracked.split("\0")):
        path = root / name
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        updated = text
        for before, after in replacements:
            updated = updated.replace(before, after)
        if updated != text:
            path.write_text(updated, encoding="utf-8")
            changed.append(name)
    return changed


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: make repository URL=https://github.com/NAME/REPO")
    print("\n".join(change(sys.argv[1])))
    print("Now run `make notebooks`: the cell ids of the .ipynb files follow their content.")
