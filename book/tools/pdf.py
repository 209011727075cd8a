"""Print the built book into one file: python book/tools/pdf.py FOLDER FILE (BOOK_PROFILE names the executed chapters).

Sphinx puts all pages into one, in which numbers and references go on working; Chromium prints that, with an outline.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from build import build
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
#: Code that the site folds away is left out; a chapter begins on a page of its own, a claim does not.
STYLE = """
details.hide, .headerlink, .prev-next-area { display: none !important; }
section[id^="document-"], span[id^="document-"] + section { break-before: page; }
section[id*="claims/"], span[id*="claims/"] + section { break-before: auto; }
figure, table, .cell_output img, .cell_input, div.highlight, .gallery a { break-inside: avoid; }
h1, h2, h3, h4 { break-after: avoid; }
.cell_output table td, .cell_output table th { white-space: normal !important; }
.cell_output, .pst-scrollable-table-container { overflow: visible !important; }
pre { white-space: pre-wrap !important; overflow-wrap: anywhere; }
figure img { width: auto; max-height: 310mm; }
summary { break-after: avoid; }
td, th { padding: 0.15rem 0.6rem !important; }
.contents { break-before: page; }
"""
#: Millimetres of an A4 page, and how much smaller than on a screen the book is printed.
WIDTH, MARGIN, SCALE = 210, 16, 0.7
#: A table that is wider than the page is made smaller.
FIT = """
() => {
  for (const table of document.querySelectorAll('article table')) {
    const room = table.parentElement.clientWidth;
    if (table.offsetWidth > room) table.style.zoom = room / table.offsetWidth;
  }
}
"""
BROKEN = "() => [...document.images].filter((image) => !image.naturalWidth).map((image) => image.src.slice(0, 200))"
#: A list of the chapters, behind the first page.
CONTENTS = """
() => {
  const list = document.createElement('ul');
  for (const start of document.querySelectorAll('span[id^="document-"]')) {
    if (/claims|exercises/.test(start.id)) continue;
    const link = document.createElement('a');
    link.textContent = start.nextElementSibling.querySelector('h1, h2, h3').innerText.replace('#', '');
    link.href = '#' + start.id;
    list.append(document.createElement('li'));
    list.lastChild.append(link);
  }
  const page = document.createElement('div');
  page.className = 'contents';
  page.innerHTML = '<h2>Contents</h2>';
  page.append(list);
  document.querySelector('span[id^="document-"]').before(page);
}
"""
FOOTER = '<div style="width: 100%; font-size: 8px; text-align: center;"><span class="pageNumber"></span></div>'


def print_book(folder: Path, file: Path) -> None:
    """Build the page of all pages into ``folder``, and print it to ``file``."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        raise SystemExit("No Chromium was found that could print the book: apt-get install chromium")
    if code := build(folder, "singlehtml"):
        raise SystemExit(code)
    # Sphinx writes the page into the folder of the first page, with addresses as from the folder above.
    page = next(folder.rglob("singlehtml/book/index.html"))
    page = page.rename(page.parents[1] / "print.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        # As wide as the text of a page, so that what is measured is what is printed.
        tab = browser.new_page(viewport={"width": round((WIDTH - 2 * MARGIN) / 25.4 * 96 / SCALE), "height": 1300})
        tab.emulate_media(media="print")
        tab.goto(page.as_uri(), wait_until="load", timeout=300_000)
        # Pictures load when they come into view.
        tab.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
        tab.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => null)))")
        tab.evaluate("document.querySelectorAll('details:not(.hide)').forEach((part) => { part.open = true; })")
        if broken := tab.evaluate(BROKEN):
            raise SystemExit(f"These pictures are not there: {', '.join(broken)}")
        tab.add_style_tag(content=STYLE)
        tab.evaluate(CONTENTS)
        tab.evaluate(FIT)
        file.parent.mkdir(parents=True, exist_ok=True)
        margin = {"top": "18mm", "bottom": "18mm", "left": f"{MARGIN}mm", "right": f"{MARGIN}mm"}
        tab.pdf(
            path=file,
            format="A4",
            scale=SCALE,
            margin=margin,
            outline=True,
            tagged=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
        )
        browser.close()


if __name__ == "__main__":
    print_book(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
