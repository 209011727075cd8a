"""The chapters in the order of the book, which the table of contents alone has: a file's name says its topic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

CONTENTS = "_toc.yml"


def chapters(root: Path) -> list[str]:
    """Names of the chapters, in order.

    Parameters
    ----------
    root : Path
        The book's folder, in which ``_toc.yml`` lies.

    Returns
    -------
    list of str
        ``NAME`` for each ``notebooks/NAME``; exercises, a folder further down, are no chapters.
    """
    pages = map(PurePosixPath, _files(yaml.safe_load((root / CONTENTS).read_text(encoding="utf-8"))))
    return [page.name for page in pages if page.parent == PurePosixPath("notebooks")]


def _files(entry: Any) -> Iterator[str]:
    """The files in an entry of the table of contents, and below it."""
    match entry:
        case dict():
            if "file" in entry:
                yield entry["file"]
            yield from _files(list(entry.values()))
        case list():
            for part in entry:
                yield from _files(part)
