"""Show the executed copy of each chapter, and the page of execution times.

The table of contents lists ``notebooks/NAME``, so that links to Colab and downloads lead to the committed notebook.
When Sphinx reads it, its text is replaced by ``_executed/PROFILE/NAME.ipynb``, which papermill wrote.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from anomaly_transfer.explorers import MIME

logger = logging.getLogger(__name__)

UNKNOWN = "–"


def executed_path(app: Sphinx, docname: str) -> Path:
    """Where the executed copy of a chapter is; ``$BOOK_PROFILE`` names the profile."""
    return Path(app.srcdir) / "_executed" / os.environ.get("BOOK_PROFILE", "laptop") / f"{Path(docname).name}.ipynb"


def show_executed(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the text of a chapter by its executed copy; without one, warn (an error under -W)."""
    if not docname.startswith("notebooks/"):
        return
    path = executed_path(app, docname)
    app.env.note_dependency(str(path))
    if path.is_file():
        source[0] = with_measured(without_dropped(path.read_text(encoding="utf-8")), path)
    else:
        logger.warning("%s has not been executed: %s is missing (make book)", docname, path, location=docname)


#: Papermill's cell of parameters (the page names the profile in other ways), and the captions as cells.
DROPPED = {"injected-parameters", "caption"}


def without_dropped(text: str) -> str:
    """Leave out the cells that are for readers of the bare notebook, and what only ``explorers`` reads."""
    notebook = json.loads(text)
    notebook["cells"] = [cell for cell in notebook["cells"] if not DROPPED & set(cell["metadata"].get("tags", []))]
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(MIME, None)
    return json.dumps(notebook)


#: The box at the head of a chapter, up to the line that closes it.
OPENING = re.compile(r"(```\{admonition\} Before you start\n.*?)(\n```)", re.DOTALL)


def with_measured(text: str, path: Path) -> str:
    """Say in the box at the head of a chapter what its execution took."""
    notebook = json.loads(text)
    metadata = notebook["metadata"]
    profile = metadata["papermill"]["parameters"]["profile"]
    took = f"{metadata['papermill']['duration']:.0f} s on {metadata['machine']}, profile `{profile}`"
    memory = _peak_memory(path)
    if memory != UNKNOWN:
        took += f", at most {memory} MB"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = OPENING.sub(rf"\1\n\n*Took here:* {took}.\2", "".join(cell["source"]))
    return json.dumps(notebook)


def note_glued(app: Sphinx, docname: str, source: list[str]) -> None:
    """A page that shows numbers of a chapter is rebuilt when that chapter is."""
    for chapter in sorted(name for name in app.env.found_docs if name.startswith("notebooks/")):
        if chapter != docname and f"{Path(chapter).name}.ipynb::" in source[0]:
            app.env.note_dependency(str(executed_path(app, chapter)))


class Executions(SphinxDirective):
    """A table of the chapters: seconds, peak memory and date of the execution shown, and the versions used."""

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown and parse it."""
        chapters = sorted(name for name in self.env.found_docs if name.startswith("notebooks/"))
        lines = ["| Chapter | Seconds | Peak memory (MB) | Executed (UTC) |", "|---|--:|--:|---|"]
        versions: dict[str, str] = {}
        for docname in chapters:
            path = executed_path(self.env.app, docname)
            self.env.note_dependency(str(path))
            if not path.is_file():
                continue
            metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
            run = metadata["papermill"]
            memory = _peak_memory(path)
            lines.append(f"| {{doc}}`/{docname}` | {run['duration']:.0f} | {memory} | {run['start_time'][:19]} |")
            versions = metadata.get("anomaly_transfer", versions)
        content = StringList([*lines, "", *[f"- {name}: {value}" for name, value in versions.items()]], "executions")
        holder = nodes.container()
        self.state.nested_parse(content, 0, holder)
        return holder.children


def _peak_memory(path: Path) -> str:
    """From Snakemake's measurement beside the executed copy, where there is one."""
    table = path.parent / "benchmarks" / f"{path.stem}.tsv"
    if not table.is_file():
        return UNKNOWN
    header, values = (line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()[:2])
    value = dict(zip(header, values, strict=False)).get("max_rss", "-")
    return f"{float(value):.0f}" if value not in ("-", "NA") else UNKNOWN


def drop_thebe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Thebe's inline script fails on pages without its library, which is not loaded here."""
    context["script_files"] = [file for file in context.get("script_files", []) if "thebe" not in str(file).lower()]


def setup(app: Sphinx) -> dict:
    """Register everything with Sphinx."""
    app.connect("source-read", show_executed)
    app.connect("source-read", note_glued)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.add_directive("executions", Executions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
