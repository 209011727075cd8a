import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly_transfer.pages import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def test_intervals_draw_each_value_where_it_is():
    frame = pd.DataFrame(
        {
            "method": ["a", "b", "a", "b"],
            "split": ["x", "x", "y", "y"],
            "value": [0.6, 0.7, 0.8, 0.9],
            "low": [0.5, 0.6, 0.7, 0.8],
            "high": [0.7, 0.8, 0.9, 1.0],
        }
    )
    figure = plots.intervals(frame, row="method", hue="split")
    axis = figure.axes[0]
    drawn = sorted(x for line in axis.lines[:-1] for x in line.get_xdata())
    assert np.allclose(drawn, [0.6, 0.7, 0.8, 0.9])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert axis.yaxis_inverted()


def test_more_than_three_panels_stand_in_two_columns_each_with_its_own_values():
    names = list("abcde")
    frame = pd.DataFrame({"method": "m", "where": names, "value": np.arange(5) / 10})
    frame = frame.assign(low=frame["value"], high=frame["value"])
    figure = plots.intervals(frame, row="method", column="where")
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == names
    assert [axis.lines[0].get_xdata()[0] for axis in shown] == frame["value"].to_list()
    assert {axis.get_subplotspec().colspan.start for axis in shown} == {0, 1}


def test_stacked_pictures_keep_their_order_and_pixels():
    shades = [Image.new("RGB", (6, 5), (80 * n, 0, 0)) for n in range(3)]
    tall = np.asarray(plots.stacked(shades))
    assert tall.shape == (3 * 5 + 2 * 4, 6, 3)
    assert list(tall[2::9, 0, 0]) == [0, 80, 160]
    assert (tall[5:9] == 255).all()


def test_overlay_uses_the_common_scale():
    image = Image.new("L", (20, 10), 128)
    cold, hot = (np.asarray(plots.overlay(image, np.full((8, 8), v), 0.0, 1.0)) for v in (0.0, 1.0))
    # Twice as wide as it is high, and as many pixels as scores, twice.
    assert cold.shape == (6, 2 * 11 + 4, 3)
    assert np.array_equal(cold[:, :11], hot[:, :11])
    assert hot[:, 15:].mean() > cold[:, 15:].mean() + 50


def test_the_heat_is_where_the_scores_are_in_pictures_of_any_shape():
    scores = np.zeros((64, 64))
    scores[48:, :16] = 1.0
    found = np.asarray(plots.overlay(Image.new("L", (400, 100), 0), scores, 0.0, 1.0)).astype(int)
    assert found.shape == (32, 2 * 128 + 4, 3)
    heat = found[:, 132:].sum(axis=2)
    assert heat[24:, :32].mean() > heat.mean() + 200
    assert plots.overlay(Image.new("L", (5000, 1)), scores, 0.0, 1.0).height == 1


def test_a_heat_map_of_constant_scores_is_drawn():
    assert plots.heat(np.ones((4, 4))).size == (4, 4)


def test_sheets_take_rows_of_different_lengths():
    image = Image.new("L", (8, 8))
    figure = plots.image_sheet({"one": [image], "three": [image] * 3}, mark=["three"])
    assert sum(bool(axis.images) for axis in figure.axes) == 4


def test_histograms_name_each_class_with_its_count():
    table = pd.DataFrame({"score": np.arange(6.0), "anomaly_class": ["hole"] * 2 + ["normal"] * 4})
    labels = [text.get_text() for text in plots.score_histogram(table, 3.0).axes[0].get_legend().get_texts()]
    assert labels == ["threshold", "normal (4)", "hole (2)"] or labels == ["normal (4)", "hole (2)", "threshold"]


def test_names_of_classes_are_no_formulas_and_many_of_them_cover_no_bars():
    names = ["normal", "$\\frac{1$", *(f"a long name of a defect, the {k}th" for k in range(8))]
    table = pd.DataFrame({"score": np.arange(20.0), "anomaly_class": names * 2})
    figure = plots.score_histogram(table, 3.0)
    figure.canvas.draw()
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())
    bare = plots.score_histogram(table, 3.0, names=False)
    assert not bare.legends
    assert bare.axes[0].get_legend() is None
    assert len(set(plots.class_colours(table["anomaly_class"]).values())) == 10


def test_equal_figures_are_equal_files(tmp_path):
    plots.use_style()
    frame = pd.DataFrame({"level": ["a", "b"], "category": "m", "value": [0.5, 0.6], "low": 0.4, "high": 0.7})
    for name in ("one", "two"):
        plots.level_profile(frame, "level", "category").savefig(tmp_path / name, format="png")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_curves_draw_a_line_each_with_its_band():
    frame = pd.DataFrame({"n": [8, 16, 32] * 2, "who": list("aaabbb"), "value": np.linspace(0, 1, 6)})
    figure = plots.curves(frame, "n", "who", "share", "images", chance=0.5, log=True)
    axis = figure.axes[0]
    assert [list(line.get_ydata()) for line in axis.lines[:2]] == [[0, 0.2, 0.4], pytest.approx([0.6, 0.8, 1.0])]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["8", "16", "32"]
    assert not axis.collections
    banded = plots.curves(frame.assign(low=0.0, high=1.0), "n", "who", "share", "images")
    assert len(banded.axes[0].collections) == 2


def test_correlation_table_shows_each_number_and_leaves_gaps():
    table = pd.DataFrame({"a": [0.5, np.nan], "b": [-1.0, 0.25]}, index=["x", "y"])
    figure = plots.correlation_table(table)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.50", "-1.00", "0.25"]


def test_a_grid_of_curves_has_a_panel_each():
    rows = [
        {"k": k, "start": start, "where": where, "value": k / 20 + bonus, "low": 0.0, "high": 1.0}
        for where in "abcde"
        for start, bonus in (("one", 0.0), ("two", 0.1))
        for k in (1, 2, 5)
    ]
    figure = plots.curve_grid(pd.DataFrame(rows), "k", "start", "where", "AUROC", "images", 0.5)
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == list("abcde")
    lines = panels[3].get_lines()
    assert lines[1].get_ydata().tolist() == pytest.approx([0.15, 0.2, 0.35])
    assert figure.legends
    different = plots.curve_grid(pd.DataFrame(rows), "k", "start", "where", "", "images", own_scales=True)
    assert not different.axes[0].get_shared_y_axes().joined(different.axes[0], different.axes[1])
    assert panels[0].get_shared_y_axes().joined(panels[0], panels[1])


def test_cases_of_a_claim_stand_at_their_values_in_the_colour_of_their_state():
    frame = pd.DataFrame({"case": ["a", "b", "c"], "value": [0.9, 0.4, 0.5], "state": ["met", "missed", "open"]})
    frame = frame.assign(low=frame["value"] - 0.1, high=[1.0, 0.5, np.nan])
    axis = plots.claim_cases(frame, [0.45], "effect").axes[0]
    for container, state, value, place in zip(
        axis.containers, ("met", "open", "missed"), (0.9, 0.5, 0.4), (0, 2, 1), strict=True
    ):
        line = container.lines[0]
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (value, place)
        assert line.get_color() == plots.STATES[state][0]
    assert axis.lines[-1].get_xdata()[0] == 0.45


def test_the_board_fills_each_bar_to_its_shares():
    shares = pd.DataFrame(
        {"met": [0.5, 0.0], "open": [0.25, 0.0], "missed": [0.25, 0.0], "verdict": ["partly", "none"]}
    )
    shares.index = ["first claim", "second claim"]
    axis = plots.claim_board(shares, ["P1", "P2"]).axes[0]
    bars = [(bar.get_x(), bar.get_width()) for container in axis.containers for bar in container]
    assert bars == [(0, 0.5), (0, 0), (0.5, 0.25), (0, 0), (0.75, 0.25), (0, 0)]
    (right,) = axis.child_axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["partly", "none"]


def test_named_points_stand_where_they_are():
    frame = pd.DataFrame({"ms": [0.1, 10.0], "AUROC": [0.7, 0.9], "name": ["fast", "slow"]})
    axis = plots.trade(frame, "ms", "AUROC", "name").axes[0]
    assert {text.get_text(): text.xy for text in axis.texts} == {"fast": (0.1, 0.7), "slow": (10.0, 0.9)}
    assert axis.get_xscale() == "log"


def test_detectors_that_cannot_be_told_apart_are_joined():
    ranks = pd.Series({"a": 1.0, "b": 1.2, "c": 3.8})
    p_values = pd.DataFrame(0.01, index=list("abc"), columns=list("abc"))
    p_values.loc["a", "b"] = p_values.loc["b", "a"] = 0.9
    axis = plots.critical_difference(ranks, p_values).axes[0]
    bars = [line.get_xdata() for line in axis.lines if len(set(line.get_ydata())) == 1 and np.ptp(line.get_xdata()) > 0]
    assert any(np.allclose(sorted(x), [1.0, 1.2]) for x in bars)
    assert not any(np.ptp(x) > 1 for x in bars)
