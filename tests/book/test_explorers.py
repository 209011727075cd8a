"""Figures to play with: what they say is what the data say, by hand, by key, from disk, and without scripts."""

import json
import re

import pandas as pd
import pytest
from tests.book.conftest import EXECUTED

from anomaly_transfer.pages.explorers import MIME

PAGE, LABEL = "notebooks/own_images.html", "fig-own-scores"


def behind(chapter, label):
    """The data behind a figure, from the executed chapter."""
    cells = json.loads((EXECUTED / f"{chapter}.ipynb").read_text())["cells"]
    (cell,) = (c for c in cells if c["metadata"].get("mystnb", {}).get("figure", {}).get("name") == label)
    return pd.DataFrame(cell["outputs"][0]["data"][MIME]["data"]["values"])


def opened(tab, address, label):
    """The figure, made live by coming into view."""
    tab.goto(address)
    tab.locator(f"#{label}").scroll_into_view_if_needed()
    tab.wait_for_selector(f"#{label}.live .explorer svg", timeout=15_000)
    return tab.locator(f"#{label}")


@pytest.fixture(scope="module")
def data(site):
    return behind("own_images", LABEL)


@pytest.fixture(params=["served", "from disk"])
def figure(request, site, served, browser):
    tab = browser.new_page()
    yield opened(tab, f"{served if request.param == 'served' else site.as_uri()}/{PAGE}", LABEL)
    tab.close()


def slider(figure, name):
    return figure.get_by_role("slider", name=name)


def told(figure):
    text = figure.locator("svg text", has_text=re.compile("^found")).text_content()
    return [int(number) for number in re.findall(r"\d+", text)]


def counted(data, threshold, price):
    above = data["score"] > threshold
    found, missed = (above & data["anomalous"]).sum(), (~above & data["anomalous"]).sum()
    alarms, passed = (above & ~data["anomalous"]).sum(), (~above & ~data["anomalous"]).sum()
    return [found, missed, alarms, passed, price * missed + alarms]


def test_moving_the_threshold_counts_again(figure, data):
    handle = slider(figure, "Threshold")
    seen = []
    for key in ["", *["PageDown"] * 2, "Home", *["ArrowRight"] * 3, "End"]:
        if key:
            handle.press(key)
        figure.page.wait_for_timeout(150)
        now = told(figure)
        assert now == counted(data, float(handle.input_value()), 10), key
        seen.append(tuple(now))
    assert len(set(seen)) > 2
    # All flagged, and none.
    assert (counted(data, -1e9, 10)[1], counted(data, 1e9, 10)[0]) == (0, 0)
    assert told(figure)[0] == 0


def test_dragging_it_with_the_mouse_does_the_same(figure, data):
    handle = slider(figure, "Threshold")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    before, y = told(figure), box["y"] + box["height"] / 2
    figure.page.mouse.move(box["x"] + 5, y)
    figure.page.mouse.down()
    figure.page.mouse.move(box["x"] + 0.8 * box["width"], y, steps=5)
    figure.page.mouse.up()
    figure.page.wait_for_timeout(200)
    assert told(figure) == counted(data, float(handle.input_value()), 10) != before


def test_the_price_of_a_miss_changes_the_cost_alone(figure, data):
    before, handle = told(figure), slider(figure, "A miss costs")
    for _ in range(5):
        handle.press("ArrowRight")
    figure.page.wait_for_timeout(200)
    now = told(figure)
    assert now[:4] == before[:4]
    assert now[4] == before[4] + 5 * before[1]


def test_choosing_a_picture_shows_it_with_its_score(figure, data):
    handle = slider(figure, "Picture")
    for key, row in (("Home", data.iloc[0]), ("End", data.iloc[-1]), ("ArrowLeft", data.iloc[-2])):
        handle.press(key)
        figure.page.wait_for_timeout(200)
        assert figure.locator("svg image").get_attribute("href") == row["picture"]
        text = figure.locator("svg text", has_text=re.compile(r"^\w+: ")).text_content()
        assert text == f"{row['class']}: {row['score']:.3f}"


def test_without_scripts_and_in_print_the_picture_stays(served, browser):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{served}/{PAGE}")
    assert tab.locator(f"#{LABEL} img").is_visible()
    context.close()
    tab = browser.new_page()
    opened(tab, f"{served}/{PAGE}", LABEL)
    assert not tab.locator(f"#{LABEL} img").first.is_visible()
    tab.emulate_media(media="print")
    assert tab.locator(f"#{LABEL} img").first.is_visible()
    assert not tab.locator(f"#{LABEL} .explorer").is_visible()
    tab.close()


def test_a_chosen_comparison_is_the_recorded_one(served, browser):
    rows = behind("nearness", "fig-similarity")
    tab = browser.new_page()
    figure = opened(tab, f"{served}/notebooks/nearness.html", "fig-similarity")
    scaled, unscaled = rows[rows["l1"].notna()], rows[rows["l1"].isna()]
    for row in (scaled.iloc[0], scaled.iloc[-1], unscaled.iloc[0]):
        chosen = {"Anomalies": row["case"], "Measure, level": row["view"], "Rival": "materials"}
        for name, option in chosen.items():
            figure.get_by_role("combobox", name=name).select_option(label=option)
        tab.wait_for_timeout(200)
        text = figure.locator("svg text", has_text=re.compile("^(no )?nearness")).text_content().replace("\u2212", "-")
        if pd.isna(row["l1"]):
            assert text.startswith("no nearness")
        else:
            assert text.startswith(f"nearness {row['v1']:.2f} [{row['l1']:.2f}, {row['h1']:.2f}]")
        points = figure.locator("svg [aria-roledescription=point]").all()
        values = [re.search(r"value of the measure: ([-\d.]+)", p.get_attribute("aria-label")) for p in points]
        assert [float(v[1]) for v in values] == pytest.approx([row["n"], row["a"], row["r1"], row["s1"]], rel=1e-3)
    tab.close()


def values_told(figure):
    """The numbers in the lines of text below a figure, by what stands before them."""
    lines = figure.locator("svg text tspan").all_text_contents()
    told = [line.replace("\u2212", "-").rpartition(": ") for line in lines if ": " in line]
    return {name: float(value) for name, _, value in told}


def test_an_epoch_tells_what_was_measured_in_it(served, browser):
    rows = behind("finetuning", "fig-epochs")
    tab = browser.new_page()
    figure = opened(tab, f"{served}/notebooks/finetuning.html", "fig-epochs")
    slider = figure.get_by_role("slider", name="Epoch")
    for run in rows["run"].unique():
        pictures = set()
        figure.get_by_role("combobox", name="Run").select_option(label=run)
        slider.focus()
        slider.press("Home")
        for epoch in sorted(rows["epoch"].unique()):
            tab.wait_for_timeout(200)
            there = rows[(rows["run"] == run) & (rows["epoch"] == epoch)]
            assert values_told(figure) == pytest.approx(
                dict(zip(there["measure"], there["value"], strict=True)), abs=6e-4
            )
            pictures.add(figure.locator("svg image").last.get_attribute("href"))
            slider.press("ArrowRight")
        assert len(pictures) == rows["epoch"].nunique()
    tab.close()


def test_a_number_of_labels_tells_both_ways(served, browser):
    rows = behind("labels", "fig-labels-slider")
    tab = browser.new_page()
    figure = opened(tab, f"{served}/notebooks/labels.html", "fig-labels-slider")
    slider = figure.get_by_role("slider", name="Step along the axis")
    for case in rows["case"].unique()[:3]:
        figure.get_by_role("combobox", name="Data").select_option(label=case)
        slider.focus()
        slider.press("Home")
        at = rows[rows["case"] == case].set_index(["line", "step"])["value"]
        for step in range(int(rows["step"].max()) + 1):
            tab.wait_for_timeout(200)
            alone, transfer = at["random, types seen", step], at["transferred, types seen", 0]
            assert values_told(figure) == pytest.approx(
                {
                    "labels alone": alone,
                    "transfer alone": transfer,
                    "both": at["transferred, types seen", step],
                    "transfer minus labels": transfer - alone,
                },
                abs=6e-4,
            )
            slider.press("ArrowRight")
    tab.close()


@pytest.mark.parametrize("chapter", ["nearness", "finetuning", "labels", "own_images"])
def test_an_explorer_is_small(site, chapter):
    assert (site / "_static" / "explorers" / f"{chapter}.js").stat().st_size < 300_000
