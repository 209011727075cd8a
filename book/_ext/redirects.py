"""A page at each old address, which leads to where its content is now: from disk too, and without scripts."""

from __future__ import annotations

from html import escape
from pathlib import Path

import yaml
from sphinx.application import Sphinx

LIST = Path(__file__).parents[1] / "redirects.yml"
#: The script keeps what stands behind # in the address; where there are none, the reader lands at the top of the page.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="canonical" href="{address}">
<script>location.replace("{address}" + location.hash);</script>
<noscript><meta http-equiv="refresh" content="0; url={address}"></noscript>
</head>
<body><p>This page has moved: <a href="{address}">{title}</a></p></body>
</html>
"""


def moved() -> dict[str, str]:
    """The present page of each old one."""
    return yaml.safe_load(LIST.read_text(encoding="utf-8"))


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the pages, over those that an earlier build left there."""
    if exception is not None or app.builder.name != "html":
        return
    for old, new in moved().items():
        file = Path(app.builder.get_outfilename(old))
        file.parent.mkdir(parents=True, exist_ok=True)
        address, title = app.builder.get_relative_uri(old, new), escape(app.env.titles[new].astext())
        file.write_text(PAGE.format(address=address, title=title), encoding="utf-8")


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
