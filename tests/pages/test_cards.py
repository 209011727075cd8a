from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from tests import layouts

from anomaly_transfer import benchmarks, similarity
from anomaly_transfer.pages import cards


def text_of(html):
    return " ".join(BeautifulSoup(html.data, "html.parser").get_text(" ").split())


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_benchmark_has_a_card_with_and_without_its_data(name, tmp_path):
    known = benchmarks.get(name)
    assert "How to get it" in text_of(cards.card(known))
    if name in layouts.BUILDERS:
        layouts.BUILDERS[name](tmp_path / "data")
    page = BeautifulSoup(cards.card(known, 60).data, "html.parser")
    assert page.summary.b.get_text() == known.title
    assert len(page.select("img")) == known.pictures
    assert all(len(image["alt"]) > 40 for image in page.select("img"))
    assert "at hand" in page.thead.get_text()
    assert "`" not in page.get_text(), "commands stand as code"


def test_counts_stand_beside_the_published_ones(tmp_path):
    elpv = benchmarks.get("elpv")
    table = cards.counts(elpv, elpv.load("mono"))
    assert (table["at hand"] == table["published"]).all()
    layouts.mvtec_ad(tmp_path / "data")
    mvtec = benchmarks.get("mvtec_ad")
    table = cards.counts(mvtec, mvtec.load("bottle"))
    assert table.loc["normal"].tolist() == [20, 229]
    assert table.loc["all anomalies"].tolist() == [6, 63]
    assert table.loc["hole", "published"] == ""


def test_a_sheet_has_a_row_of_each_kind_and_keeps_shapes():
    surfaces = benchmarks.get("surfaces").load("brick", 60)
    picture = cards.sheet(surfaces)
    assert picture.height == 7 * (cards.SIDE + 2) - 2
    assert picture.width == cards.ROW * (cards.SIDE + 2) - 2


def test_the_overview_has_a_row_for_each():
    found = [benchmarks.get(name) for name in benchmarks.names()]
    table = cards.overview(found)
    assert len(table) == len(found)
    assert table.loc["MNIST handwritten digits", "at hand"] == "-"
    assert table.loc["ELPV solar cells", "at hand"] == "2 of 2"


def test_every_measure_has_a_row_an_equation_and_a_source_in_the_bibliography():
    found = similarity.measures().values()
    assert list(cards.measures(found).index) == [measure.title for measure in found]
    assert cards.equations(found).count("$") == 2 * len(found)
    library = (Path(__file__).parents[2] / "book/references.bib").read_text(encoding="utf-8")
    assert not [measure.source for measure in found if f"{{{measure.source}," not in library]
