"""Make figures live that a chapter gave a Vega-Lite specification, with the plain picture as what stays in print.

The specifications of a page are written as a script beside it, since a page that is opened from disk may load scripts
and nothing else. ``explorers.js`` loads them when a figure comes near, and puts it in the place of the picture.
"""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from anomaly_transfer.pages.explorers import MIME
from executed import executed_path, is_chapter


def specifications(path: Path) -> dict[str, dict]:
    """Specification of each explorer of an executed chapter, by the label of its figure."""
    found = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                found[cell["metadata"]["mystnb"]["figure"]["name"]] = output["data"][MIME]
    return found


def add_scripts(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Give a page with explorers its scripts."""
    path = executed_path(app, pagename)
    if not is_chapter(pagename) or not path.is_file():
        return
    if found := specifications(path):
        file = Path(app.outdir) / "_static" / "explorers" / f"{path.stem}.js"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"window.explorers = {json.dumps(found)};\n", encoding="utf-8")
        names = {"data-chapter": path.stem, "data-figures": " ".join(found)}
        app.add_js_file("explorers.js", loading_method="defer", **names)


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.connect("html-page-context", add_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
