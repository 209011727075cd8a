"""The first mention of each glossary term on a page leads to its definition, and shows it when pointed at.

The chapters need no markup for it, so that a notebook opened alone reads as plain text.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

GLOSSARY = "book/glossary"
#: Everyday words too: most of their mentions mean something else.
EVERYDAY = {"run", "record", "job", "grade", "control", "group", "case", "miss", "head", "claim", "verdict"}
#: Where a term is left as it is.
APART = (nodes.reference, nodes.literal, nodes.title, nodes.caption, nodes.math, addnodes.glossary)


def definitions(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Anchor and definition of each term."""
    found = {}
    for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        term = next(iter(item.findall(nodes.term)))
        meaning = next(iter(item.findall(nodes.definition))).astext()
        if term.astext() not in EVERYDAY:
            found[term.astext()] = (term["ids"][0], " ".join(meaning.split()))
    return found


def link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Make links of the first mentions."""
    if docname in (GLOSSARY, "book/bibliography") or app.builder.format != "html":
        return
    left = definitions(app)
    for text in list(doctree.findall(nodes.Text)):
        above = list(_ancestors(text))
        if not any(isinstance(node, nodes.paragraph) for node in above) or any(isinstance(n, APART) for n in above):
            continue
        parts, rest = [], text.astext()
        while left and (match := _pattern(left).search(rest)):
            term = match["term"]
            anchor, meaning = left.pop(term if term in left else term[0].lower() + term[1:])
            address = f"{app.builder.get_relative_uri(docname, GLOSSARY)}#{anchor}"
            mention = nodes.reference("", match[0], refuri=address, reftitle=meaning, internal=True, classes=["term"])
            parts += [nodes.Text(rest[: match.start()]), mention]
            rest = rest[match.end() :]
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(rest)])


def _ancestors(node: nodes.Node):
    while node.parent is not None:
        node = node.parent
        yield node


def _pattern(terms) -> re.Pattern:
    """Any of the terms as whole words, also in the plural or at the head of a sentence; longer ones first."""
    both = {*terms, *(term[0].upper() + term[1:] for term in terms)}
    words = "|".join(map(re.escape, sorted(both, key=len, reverse=True)))
    return re.compile(rf"(?<![\w-])(?P<term>{words})s?(?![\w-])")


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.connect("doctree-resolved", link)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
