"""Show the executed copy of each chapter, and the page of execution times.

The table of contents lists ``notebooks/NAME``, so that links to Colab and downloads lead to the committed notebook.
When Sphinx reads it, its text is replaced by ``_executed/PROFILE/NAME.ipynb``, which papermill wrote.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from anomaly_transfer import fingerprint
from anomaly_transfer.pages import contents, executions
from anomaly_transfer.pages.explorers import MIME

logger = logging.getLogger(__name__)

BUNDLE = "executed-notebooks.zip"


def executed_path(app: Sphinx, docname: str) -> Path:
    """Where the executed copy of a chapter is; ``$BOOK_PROFILE`` names the profile."""
    return Path(app.srcdir) / "_executed" / os.environ.get("BOOK_PROFILE", "laptop") / f"{Path(docname).name}.ipynb"


def is_chapter(docname: str) -> bool:
    """Whether a page is a chapter; the exercises, a folder further down, are shown as they are."""
    return docname.startswith("notebooks/") and docname.count("/") == 1


def chapters(env: BuildEnvironment) -> list[str]:
    """All chapters, in order."""
    return [f"notebooks/{name}" for name in contents.chapters(Path(env.srcdir))]


def show_executed(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the text of a chapter by its executed copy; without one, warn (an error under -W)."""
    if not is_chapter(docname):
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
    found = executions.measured(path)
    took = f"{found['seconds']} s on {found['machine']}, profile `{found['profile']}`"
    if found["memory_mb"]:
        took += f", at most {found['memory_mb']} MB"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = OPENING.sub(rf"\1\n\n*Took here:* {took}.\2", "".join(cell["source"]))
    return json.dumps(notebook)


def note_glued(app: Sphinx, docname: str, source: list[str]) -> None:
    """A page that shows numbers of a chapter is rebuilt when that chapter is."""
    for chapter in chapters(app.env):
        if chapter != docname and re.search(rf"\b{Path(chapter).name}\.ipynb::", source[0]):
            app.env.note_dependency(str(executed_path(app, chapter)))


class Executions(SphinxDirective):
    """A table of the chapters: seconds, peak memory and date of the execution shown, and the versions used."""

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown and parse it."""
        lines = ["| Chapter | Seconds | Peak memory (MB) | Executed (UTC) |", "|---|--:|--:|---|"]
        versions: dict[str, str] = {}
        self.env.note_dependency(contents.CONTENTS)
        for docname in chapters(self.env):
            path = executed_path(self.env.app, docname)
            self.env.note_dependency(str(path))
            if not path.is_file():
                continue
            found = executions.measured(path)
            memory = found["memory_mb"] or "–"
            lines.append(f"| {{doc}}`/{docname}` | {found['seconds']} | {memory} | {found['date']} |")
            metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
            versions = metadata.get("anomaly_transfer", versions)
        lines += ["", f"<a href='../_static/{BUNDLE}'>All executed notebooks in one file</a>"]
        content = StringList([*lines, "", *[f"- {name}: {value}" for name, value in versions.items()]], "executions")
        holder = nodes.container()
        self.state.nested_parse(content, 0, holder)
        return holder.children


def bundle(app: Sphinx, exception: Exception | None) -> None:
    """All executed chapters in one file, to take along."""
    paths = [executed_path(app, docname) for docname in chapters(app.env)]
    if exception is None and app.builder.name == "html":
        with ZipFile(Path(app.outdir) / "_static" / BUNDLE, "w", ZIP_DEFLATED) as file:
            for path in filter(Path.is_file, paths):
                file.write(path, f"executed/{path.name}")


def setup(app: Sphinx) -> dict:
    """Register everything with Sphinx."""
    # Sphinx does not see that an extension changed; a value that did makes it read and write all pages anew.
    app.add_config_value("extensions_hash", fingerprint.tree_hash(Path(__file__).parent), "env")
    app.connect("source-read", show_executed)
    app.connect("source-read", note_glued)
    app.connect("build-finished", bundle)
    app.add_directive("executions", Executions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
