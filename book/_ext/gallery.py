"""All figures of the chapters on one page, small, each a link to its place in the text."""

from __future__ import annotations

from html import escape
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from executed import executed_path

#: Width of a small picture, pixels: twice that of its place on the page.
WIDTH = 440


class Gallery(nodes.General, nodes.Element):
    """Where the figures will stand; filled when all chapters have been read."""


class GalleryDirective(SphinxDirective):
    """``{gallery}``: the page is made anew when a chapter is."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder."""
        for docname in _chapters(self.env):
            self.env.note_dependency(str(executed_path(self.env.app, docname)))
        return [Gallery()]


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace each placeholder by a heading and the figures of each chapter."""
    for place in list(doctree.findall(Gallery)):
        sections = []
        for chapter in _chapters(app.env) if app.builder.format == "html" else []:
            figures = list(app.env.get_doctree(chapter).findall(nodes.figure))
            cards = [_card(app, docname, chapter, figure) for figure in figures if figure["ids"]]
            if cards:
                title = app.env.titles[chapter].astext()
                section = nodes.section(ids=[nodes.make_id(f"gallery {chapter}")])
                section += [
                    nodes.title("", title),
                    nodes.raw("", f'<div class="gallery">{"".join(cards)}</div>', format="html"),
                ]
                sections.append(section)
        place.replace_self(sections)


def _chapters(env) -> list[str]:
    return sorted(name for name in env.found_docs if name.startswith("notebooks/"))


def _card(app: Sphinx, page: str, chapter: str, figure: nodes.figure) -> str:
    """A small picture with the first sentence of its caption."""
    label = figure["ids"][0]
    image = next(iter(figure.findall(nodes.image)))
    number = ".".join(map(str, app.env.toc_fignumbers[chapter]["figure"][label]))
    caption = next(iter(figure.findall(nodes.caption))).astext().split(". ")[0].rstrip(".")
    folder = Path(app.outdir) / "_images"
    folder.mkdir(exist_ok=True)
    name = f"gallery-{label}.webp"
    with Image.open(Path(app.srcdir) / image["uri"]) as picture:
        small = picture.convert("RGB")
        small.thumbnail((WIDTH, WIDTH))
        small.save(folder / name, quality=75)
    target = app.builder.get_relative_uri(page, chapter)
    up = "../" * page.count("/")
    return (
        f'<a href="{target}#{label}"><img loading="lazy" src="{up}_images/{name}" alt="{escape(image.get("alt", ""))}">'
        f"<span>Fig. {number} {escape(caption)}</span></a>"
    )


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.add_node(Gallery)
    app.add_directive("gallery", GalleryDirective)
    app.connect("doctree-resolved", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
