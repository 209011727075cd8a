"""What every page needs beyond the theme: light pictures that load when seen, and names for what has none."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

IMAGE = re.compile(r'<img (?P<rest>[^>]*src="[^"]*_images/(?P<name>[^"/]+)"[^>]*>)')
#: A picture inside the HTML of an output, as of a data card.
EMBEDDED = re.compile(r'<img src="data:image/(?P<kind>\w+);base64,(?P<data>[^"]+)"')
#: Bytes above which a picture, mostly of photographs then, is shown in a lighter format.
HEAVY = 100_000
TOGGLE = '<summary><span class="toctree-toggle" role="presentation">'


def improve(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Change what the templates are about to write."""
    # Thebe's inline script fails on pages without its library, which is not loaded here.
    context["script_files"] = [file for file in context.get("script_files", []) if "thebe" not in str(file).lower()]
    if contents := context.get("generate_toctree_html"):
        context["generate_toctree_html"] = lambda *args, **kwargs: _named(contents(*args, **kwargs))
    if "body" in context:
        sources = {name: Path(app.srcdir) / source for source, name in app.builder.images.items()}
        folder = Path(app.outdir) / "_images"
        context["body"] = IMAGE.sub(lambda match: _lazy(match, sources, folder), context["body"])
        context["body"] = EMBEDDED.sub(lambda match: _apart(match, folder, app.builder.imgpath), context["body"])
        # The roles of docutils for citations: a list may hold nothing but its items, and the other one is withdrawn.
        context["body"] = context["body"].replace('role="list" class="citation-list"', 'class="citation-list"')
        context["body"] = context["body"].replace(' role="doc-biblioentry"', "")
        # A long formula scrolls on a narrow screen: so it must be reached by keys.
        context["body"] = context["body"].replace('<div class="math"', '<div class="math" tabindex="0"')


def _named(contents) -> str:
    """The tree of contents as text; what opens a branch of it gets a name."""
    return str(contents or "").replace(TOGGLE, TOGGLE.replace(">", ' aria-label="Sections">', 1))


def _lazy(match: re.Match, sources: dict[str, Path], folder: Path) -> str:
    rest, name = match["rest"], match["name"]
    size = ""
    if name in sources and sources[name].suffix == ".png":
        if "width=" not in rest:
            # So that nothing moves when the picture arrives.
            with Image.open(sources[name]) as picture:
                size = 'width="{}" height="{}" '.format(*picture.size)
        if sources[name].stat().st_size > HEAVY:
            rest = rest.replace(name, _lighter(sources[name], folder / f"{Path(name).stem}.webp"))
    return f'<img loading="lazy" {size}{rest}'


def _apart(match: re.Match, folder: Path, address: str) -> str:
    """An embedded picture as a file, which a page does not load before it is seen (cards are folded)."""
    picture = base64.b64decode(match["data"])
    name = f"{hashlib.sha256(picture).hexdigest()[:32]}.{match['kind']}"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(picture)
    return f'<img loading="lazy" src="{address}/{name}"'


def _lighter(picture: Path, file: Path) -> str:
    """The picture in a format for photographs; returns its name."""
    file.parent.mkdir(exist_ok=True)
    with Image.open(picture) as image:
        image.convert("RGB").save(file, quality=90)
    return file.name


def setup(app: Sphinx) -> dict:
    """Register with Sphinx, behind the theme."""
    app.connect("html-page-context", improve, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
