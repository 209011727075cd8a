"""The published pages: links, pictures, nothing from the web, no errors in a browser, at both widths."""

import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit
from zipfile import ZipFile

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from tests.book.conftest import EXECUTED, ROOT, SITE

from anomaly_transfer import benchmarks
from anomaly_transfer.claims import ledger
from anomaly_transfer.pages import contents

PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_static" not in path.parts)
CHAPTERS = contents.chapters(ROOT)
#: Old addresses, and the page to which each leads.
MOVED = yaml.safe_load((ROOT / "book" / "redirects.yml").read_text(encoding="utf-8"))
CONTENT = [
    page for page in PAGES if page.startswith(("book/", "notebooks/")) and page.removesuffix(".html") not in MOVED
]


#: Claims' pages come from one template: one each with many cases, with one, and with none is looked at in a browser.
#: So do the exercises.
BROWSED = [
    page
    for page in CONTENT
    if ("/claims/" not in page or Path(page).stem in ("P2d-stand-ins", "P3b-mnist", "P2c-detection"))
    and ("/exercises/" not in page or Path(page).stem in ("data", "side_by_side"))
]


@cache
def soup(page):
    return BeautifulSoup((SITE / page).read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path):
    """What a fragment may name on a page."""
    return set(re.findall(r'\b(?:id|name)="([^"]*)"', path.read_text(encoding="utf-8")))


def test_every_page_of_the_contents_was_built(site):
    assert {f"notebooks/{name}.html" for name in CHAPTERS} <= set(PAGES)
    assert {"index.html", "search.html", "genindex.html", "book/index.html", "book/glossary.html"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(site, page):
    folder = (SITE / page).parent
    for tag in soup(page).find_all(["a", "link", "script", "img"]):
        target = tag.get("href") or tag.get("src") or ""
        parts = urlsplit(target)
        if parts.scheme or target.startswith(("//", "data:")) or not (parts.path or parts.fragment):
            continue
        path = (folder / unquote(parts.path)).resolve() if parts.path else SITE / page
        if path.is_dir():
            path = path / "index.html"
        assert path.exists(), f"{page} links to {target}"
        if parts.fragment and path.suffix == ".html":
            assert unquote(parts.fragment) in anchors(path), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_loaded_from_the_web(site, page):
    for tag in soup(page).find_all(["script", "img", "link", "iframe"]):
        target = tag.get("src") or (tag.get("href") if tag.name == "link" else "") or ""
        if tag.name == "link" and not {"stylesheet", "preload", "icon"} & set(tag.get("rel", [])):
            continue
        assert not urlsplit(target).netloc, f"{page} loads {target}"


@pytest.mark.parametrize("page", CONTENT)
def test_every_picture_says_what_it_shows(site, page):
    for image in soup(page).select("article img, .bd-article img"):
        alt = image.get("alt", "")
        assert len(alt) > 20, f"{page}: {image.get('src')} has alt text {alt!r}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_figures_are_numbered_and_cells_credit_their_source(site, chapter):
    figures = soup(f"notebooks/{chapter}.html").select("figure")
    assert figures
    for figure in figures:
        assert figure.select_one(".caption-number").get_text(strip=True).startswith("Fig.")
        caption = figure.select_one(".caption-text").get_text()
        assert "ELPV" in caption or "(Data: " in caption, f"the data go unnamed: {caption}"
        if "Cells:" in caption:
            assert "CC BY-NC-SA 4.0" in caption


def test_every_benchmark_has_its_card(site):
    page = soup("notebooks/benchmarks.html")
    cards = {card.summary.b.get_text(): card for card in page.select(".data-card")}
    assert set(cards) == {benchmarks.get(name).title for name in benchmarks.names()}
    for name in benchmarks.names():
        known, card = benchmarks.get(name), cards[benchmarks.get(name).title]
        text = " ".join(card.get_text(" ").split())
        for said in (known.licence, known.groups, *known.traps):
            assert " ".join(said.split()) in text
        if known.available() and known.pictures:
            assert known.title in card.img["alt"]
            assert known.licence in text


@pytest.mark.parametrize("claim", ledger.claims(), ids=lambda claim: claim.id)
def test_every_claim_has_its_page(site, claim):
    page, finding = soup(f"book/claims/{claim.id}.html"), ledger.recorded()[claim.id]
    text = " ".join(page.select_one("article").get_text(" ").split())
    for said in (claim.title, f"Verdict: {finding.verdict}.", claim.refuted_by, claim.quotation):
        assert " ".join(said.split()) in text.replace("“", '"').replace("”", '"').replace("’", "'")
    assert len(page.select("article figure img")) == bool(finding.cases)
    assert len(page.select("article tbody tr")) == len(finding.cases)
    board = soup("notebooks/verdicts.html")
    assert board.find("a", href=f"../book/claims/{claim.id}.html")


def test_the_landing_page_tells_every_claim_with_its_effect(site):
    for name, row in ledger.board(ledger.claims(), ledger.recorded()).iterrows():
        link = soup("book/index.html").select_one(f'td a[href="claims/{name}.html"]')
        told = link.find_parent("tr").get_text(" ", strip=True)
        assert row["claim"] in told
        assert row["verdict"] in told
        assert row["effect"] in told.replace("\u2212", "-")


def test_every_chapter_opens_on_colab_and_downloads(site):
    config = (ROOT / "_config.yml").read_text()
    slug = next(line for line in config.splitlines() if "github.com" in line).split("github.com/")[1]
    for chapter in CHAPTERS:
        links = [tag["href"] for tag in soup(f"notebooks/{chapter}.html").find_all("a", href=True)]
        colab = f"https://colab.research.google.com/github/{slug}/blob/main/notebooks/{chapter}.ipynb"
        assert colab in links
        assert any(link.endswith(f"/{chapter}.ipynb") and "_sources" in link for link in links)


@pytest.mark.parametrize("chapter", CHAPTERS[1:])
def test_a_chapter_says_what_it_took(site, chapter):
    box = soup(f"notebooks/{chapter}.html").find(class_="admonition")
    took = re.search(r"Took here: (\d+) s on \d+ cores, \d+ GiB, profile smoke, at most \d+ MB", box.get_text())
    recorded = json.loads((EXECUTED / f"{chapter}.ipynb").read_text())["metadata"]["papermill"]["duration"]
    assert int(took[1]) == round(recorded)


def test_the_gallery_has_every_figure_once(site):
    figures = [
        f"../notebooks/{chapter}.html#{figure['id']}"
        for chapter in CHAPTERS
        for figure in soup(f"notebooks/{chapter}.html").find_all("figure", id=True)
    ]
    cards = soup("book/gallery.html").select(".gallery a")
    assert [card["href"] for card in cards] == figures
    for card in cards:
        picture = (SITE / "book" / card.img["src"]).resolve()
        assert picture.stat().st_size < 60_000, picture
        assert card.img["alt"]


def test_glued_numbers_stand_on_the_landing_page(site):
    text = soup("book/index.html").get_text(" ", strip=True)
    cells = json.loads((EXECUTED / "data.ipynb").read_text())["cells"]
    glued = {
        output["metadata"]["scrapbook"]["name"]: output["data"]["application/papermill.record/text/plain"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "scrapbook" in output.get("metadata", {})
    }
    for key in ("matched-mono", "grouped-mono", "blind-mono"):
        assert f"{float(glued[key]):.2f}" in text, key


def test_the_page_of_executions_lists_every_chapter(site):
    page = soup("book/executions.html")
    rows = [row.get_text(" ", strip=True) for row in page.select("article table tr")]
    assert len(rows) == len(CHAPTERS) + 1
    assert "torch: " in page.get_text()


def test_all_executed_notebooks_come_in_one_file(site):
    link = soup("book/executions.html").find("a", string=re.compile("All executed notebooks"))
    with ZipFile(site / "book" / link["href"]) as file:
        assert file.namelist() == [f"executed/{chapter}.ipynb" for chapter in CHAPTERS]
        for name in file.namelist():
            assert file.read(name) == (EXECUTED / Path(name).name).read_bytes()


def test_the_first_mention_of_a_term_shows_its_meaning(site):
    page = soup("notebooks/frozen_features.html")
    links = page.select("article a.term")
    terms = [link.get_text() for link in links]
    assert "AUROC" in terms
    assert len(terms) == len(set(map(str.lower, terms)))
    for link in links:
        entry = soup("book/glossary.html").find(id=link["href"].split("#")[1])
        assert entry.get_text().lower().startswith(link.get_text().lower().removesuffix("s"))
        assert " ".join(entry.find_next("dd").get_text().split()) == link["title"]


def test_figures_of_a_chapter_are_numbered_without_gaps(site):
    numbers = defaultdict(list)
    for page in PAGES:
        for caption in soup(page).select("article figcaption .caption-number"):
            if found := re.search(r"Fig\. (\d+)\.(\d+)", caption.get_text()):
                numbers[int(found[1])].append(int(found[2]))
    assert len(numbers) >= 20
    for chapter, found in numbers.items():
        assert sorted(found) == list(range(1, len(found) + 1)), f"chapter {chapter}"


def test_pictures_of_data_cards_load_when_seen(site):
    pictures = soup("notebooks/benchmarks.html").select(".data-card img")
    assert pictures
    for picture in pictures:
        assert picture["loading"] == "lazy"
        assert (site / "notebooks" / picture["src"]).is_file()


def test_a_citation_shows_what_it_cites(site):
    titles = [
        link.get("title", "") for link in soup("notebooks/frozen_features.html").select("article a[href*=bibliography]")
    ]
    assert any("EfficientNet" in title for title in titles)


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
@pytest.mark.parametrize("page", BROWSED)
def test_in_a_browser(served, browser, page, width, scheme):
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    problems = []
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    tab.on("request", lambda r: None if r.url.startswith((served, "data:")) else problems.append(f"outside: {r.url}"))
    tab.goto(f"{served}/{page}", wait_until="load")
    tab.wait_for_timeout(300)
    assert problems == []
    overflow = tab.evaluate("document.scrollingElement.scrollWidth - window.innerWidth")
    assert overflow <= 1, f"{page} is {overflow} px too wide at {width} px"
    stretched = tab.evaluate(
        """() => [...document.querySelectorAll('.bd-article img')]
            .filter((i) => i.naturalWidth && i.clientWidth && getComputedStyle(i).objectFit === 'fill')
            .filter((i) => {
                const pad = 2 * parseFloat(getComputedStyle(i).paddingTop);
                const shape = (i.clientHeight - pad) / (i.clientWidth - pad);
                return Math.abs((shape * i.naturalWidth) / i.naturalHeight - 1) > 0.03;
            })
            .map((i) => i.src)"""
    )
    assert stretched == []
    found = Axe().run(tab).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
    tab.close()


@pytest.mark.parametrize("page", BROWSED)
def test_a_page_is_light_and_soon_there(served, browser, page):
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    tab.goto(f"{served}/{page}", wait_until="networkidle")
    interactive = tab.evaluate("performance.getEntriesByType('navigation')[0].domInteractive")
    size = tab.evaluate(
        """['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))
            .reduce((sum, entry) => sum + entry.decodedBodySize, 0)"""
    )
    assert 0.2e6 < size <= 1.5e6, f"{size / 1e6:.2f} MB"
    assert interactive <= 2000, f"{interactive:.0f} ms"
    tab.close()


@pytest.mark.parametrize("old", MOVED)
def test_an_old_address_leads_to_the_page_without_scripts(site, old):
    page, there = soup(f"{old}.html"), Path(f"{MOVED[old]}.html")
    assert page.find("link", rel="canonical")["href"] == there.name
    assert page.find("meta", {"http-equiv": "refresh"})["content"] == f"0; url={there.name}"
    assert (site / old).parent / there.name == site / there
    assert page.title.get_text() == page.a.get_text() == soup(there.as_posix()).h1.find(string=True)


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("start", ["served", "from disk"])
def test_an_old_address_is_followed_in_a_browser(site, served, browser, start, scripts):
    context = browser.new_context(java_script_enabled=scripts)
    tab, base = context.new_page(), served if start == "served" else site.as_uri()
    tab.goto(f"{base}/notebooks/09_finetuning.html#fig-epochs")
    # Without scripts the reader lands at the top of the page.
    tab.wait_for_url(f"{base}/notebooks/finetuning.html{'#fig-epochs' if scripts else ''}")
    assert tab.locator("h1").first.inner_text().startswith("Fine-tuning without forgetting")
    context.close()


def test_search_finds_a_term_in_a_notebook(served, browser):
    tab = browser.new_page()
    tab.goto(f"{served}/search.html?q=Mahalanobis")
    tab.wait_for_selector("#search-results li", timeout=10_000)
    assert "Frozen representations" in tab.locator("#search-results").inner_text()
    tab.close()


def test_dark_mode_is_readable(served, browser):
    tab = browser.new_page(color_scheme="dark")
    tab.goto(f"{served}/notebooks/data.html")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    ground = tab.evaluate("getComputedStyle(document.querySelector('.bd-article img')).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    tab.close()
