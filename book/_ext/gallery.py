"""Figures of the chapters on another page, each a link to its place in the text: all of them small, or one large."""

from __future__ import annotations

from html import escape
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from anomaly_transfer.pages import contents
from executed import chapters, executed_path

logger = logging.getLogger(__name__)

#: Width of a small and of a large picture, pixels: twice that of its place on the page.
SMALL, LARGE = 440, 1400


class Gallery(nodes.General, nodes.Element):
    """Where the figures will stand; filled when all chapters have been read."""


class GalleryDirective(SphinxDirective):
    """``{gallery}`` shows all figures, ``{gallery} fig-x`` that one.

    The page is made anew when a chapter is, and when chapters change places.
    """

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder."""
        self.env.note_dependency(contents.CONTENTS)
        for docname in chapters(self.env):
            self.env.note_dependency(str(executed_path(self.env.app, docname)))
        return [Gallery(label=self.arguments[0] if self.arguments else None)]


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace each placeholder by its figure, or by a heading and the figures of each chapter."""
    for place in list(doctree.findall(Gallery)):
        wanted, found = place["label"], []
        for chapter in chapters(app.env):
            figures = [figure for figure in app.env.get_doctree(chapter).findall(nodes.figure) if figure["ids"]]
            if wanted:
                cards = [_card(app, docname, chapter, one, LARGE) for one in figures if wanted in one["ids"]]
                found += [_html(f'<div class="gallery large">{card}</div>') for card in cards]
            elif figures:
                cards = [_card(app, docname, chapter, one, SMALL) for one in figures]
                section = nodes.section(ids=[nodes.make_id(f"gallery {chapter}")])
                title = app.env.titles[chapter].astext()
                section += [nodes.title("", title), _html(f'<div class="gallery">{"".join(cards)}</div>')]
                found.append(section)
        if wanted and len(found) != 1:
            logger.warning("%d figures are called %s", len(found), wanted, location=docname)
        place.replace_self(found)


def _html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def _card(app: Sphinx, page: str, chapter: str, figure: nodes.figure, width: int) -> str:
    """A picture with the first sentence of its caption."""
    label = figure["ids"][0]
    image = next(iter(figure.findall(nodes.image)))
    number = ".".join(map(str, app.env.toc_fignumbers[chapter]["figure"][label]))
    caption = next(iter(figure.findall(nodes.caption))).astext().split(". ")[0].rstrip(".")
    folder = Path(app.outdir) / "_images"
    folder.mkdir(exist_ok=True)
    name = f"gallery-{label}-{width}.webp"
    with Image.open(Path(app.srcdir) / image["uri"]) as picture:
        small = picture.convert("RGB")
        small.thumbnail((width, width))
        small.save(folder / name, quality=75)
    alone = app.builder.name == "singlehtml"
    target = "" if alone else app.builder.get_relative_uri(page, chapter)
    up = "" if alone else "../" * page.count("/")
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
