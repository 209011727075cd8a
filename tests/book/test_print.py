"""The book on paper, from what `make preview` executed."""

import re
import shutil
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader
from tests.book.conftest import AS_BUILT, ROOT

TOOLS = ROOT / "book" / "tools"


#: Prints a page whose picture is missing, as if Sphinx had built it.
BROKEN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import pdf

def build(folder, builder):
    (folder / builder / "book").mkdir(parents=True)
    (folder / builder / "book" / "index.html").write_text('<img src="_images/gone.png">')

pdf.build = build
pdf.print_book(Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.fixture
def chromium():
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no Chromium is installed: apt-get install chromium")


def run(*words):
    # In processes of their own: one can hold one Playwright only.
    env = AS_BUILT | {"BOOK_PROFILE": "smoke"}
    return subprocess.run([sys.executable, *map(str, words)], env=env, capture_output=True, text=True, check=False)


def test_the_whole_book_is_printed(site, chromium, tmp_path):
    result = run(TOOLS / "pdf.py", tmp_path / "site", tmp_path / "book.pdf")
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    printed = PdfReader(tmp_path / "book.pdf")
    text = "\n".join(page.extract_text() for page in printed.pages)
    for page in ("nearness", "own_images"):
        caption = BeautifulSoup((site / "notebooks" / f"{page}.html").read_text(), "html.parser").find("figcaption")
        assert caption.select_one(".caption-number").get_text().strip() in text
    assert len(printed.outline) > 1, "no chapters to jump to"
    links = [
        link.get_object()
        for page in printed.pages
        for link in page.get("/Annots") or []
        if "/Dest" in link.get_object()
    ]
    assert len(links) > 500
    assert {link["/Dest"] for link in links} <= set(printed.named_destinations), "a reference leads nowhere"


def test_a_missing_picture_is_told(chromium, tmp_path):
    result = run("-c", BROKEN, TOOLS, tmp_path / "site", tmp_path / "book.pdf")
    assert result.returncode != 0
    assert re.search("These pictures are not there: .*gone.png", result.stderr)
    assert not (tmp_path / "book.pdf").exists()
