"""Derive notebooks/**/NAME.ipynb from the NAME.py beside it, byte for byte; with --check only compare.

The .py file (py:percent) is the one that is edited. The .ipynb is committed because Colab opens it from the
repository; it holds no outputs, and equal sources give equal bytes. Exercises have their solutions in the .py file, in
cells tagged as ``FOLDED`` says; the .ipynb shows them folded, below the check.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

#: What a student is to see later: the tag of a cell, and the line to click on.
FOLDED = {"solution": "Solution", "mistake": "A mistake that looks right"}


def derive(source: Path) -> str:
    """The text of the notebook that belongs to a .py file."""
    notebook = jupytext.read(source, fmt="py:percent")
    cells = []
    for number, cell in enumerate(folded(notebook.cells)):
        if "incorrectly_encoded_metadata" in cell.metadata:
            raise SystemExit(
                f"{source.name}: the head of a cell cannot be read: {cell.source.splitlines()[0]!r} follows it."
            )
        identity = hashlib.sha256(f"{number}\n{cell.source}".encode()).hexdigest()[:12]
        entry = {
            "cell_type": cell.cell_type,
            "id": identity,
            "metadata": dict(cell.metadata),
            "source": cell.source.splitlines(keepends=True),
        }
        if cell.cell_type == "code":
            entry |= {"execution_count": None, "outputs": []}
        cells.append(entry)
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
        if caption:
            cells.append(caption_cell(caption, identity))
    document = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def folded(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    """The cells, with those tagged as ``FOLDED`` in a text below the next check."""
    later: dict[str, str] = {}
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if role := FOLDED.keys() & set(tags):
            later[role.pop()] = cell.source
            continue
        yield cell
        if "check" in tags:
            parts = (
                f"<details>\n<summary>{summary}</summary>\n\n```python\n{later.pop(role)}\n```\n\n</details>"
                for role, summary in FOLDED.items()
            )
            yield new_markdown_cell("\n\n".join(parts))


def caption_cell(caption: str, identity: str) -> dict:
    """The caption as a cell, for readers of the bare notebook; the site, which shows captions itself, drops it."""
    return {
        "cell_type": "markdown",
        "id": f"{identity}-c",
        "metadata": {"tags": ["caption"]},
        "source": [f"*Figure: {caption}*"],
    }


def main(check: bool) -> int:
    """Write the notebooks that differ, or with ``check`` name them; returns how many."""
    stale = []
    for source in sorted(NOTEBOOKS.rglob("*.py")):
        target, text = source.with_suffix(".ipynb"), derive(source)
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            stale.append(target.name)
            if not check:
                target.write_text(text, encoding="utf-8")
    orphans = [path.name for path in NOTEBOOKS.rglob("*.ipynb") if not path.with_suffix(".py").is_file()]
    for name in stale:
        print(f"{name}: {'differs from its source: run `make notebooks`' if check else 'written'}")
    for name in orphans:
        print(f"{name}: has no .py source")
    return (len(stale) if check else 0) + len(orphans)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]) > 0)
