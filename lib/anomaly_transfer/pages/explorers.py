"""Figures to play with: a plain picture, and the same data as a Vega-Lite specification that the site makes live.

A notebook shows the picture; the built book replaces it in place where scripts run, without loading anything from the
web (``book/_ext/explorers.py``).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure
from PIL import Image

from anomaly_transfer import similarity as measures
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.pages import plots
from anomaly_transfer.studies import finetuning, linear_probe
from anomaly_transfer.training import loop

MIME = "application/vnd.vegalite.v5+json"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
#: Height of a picture in an explorer and of several stacked, pixels, and their JPEG quality: an explorer stays below
#: 300 kB.
HEIGHT, TALL, QUALITY = 96, 216, 60
CONFIG = {"view": {"stroke": None}, "background": "white"}
LEGEND = {"orient": "top", "title": None, "columns": 1, "labelLimit": 0, "symbolOpacity": 1}


class Explorer:
    """A figure and its live form, as one output of a cell.

    Parameters
    ----------
    figure : Figure
        What print, a bare notebook and readers without scripts see.
    specification : dict
        Vega-Lite, version 5.
    """

    def __init__(self, figure: Figure, specification: dict[str, Any]):
        self.specification = specification
        self._picture = print_figure(figure, fmt="png", bbox_inches="tight")
        plots.close(figure)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {
            "image/png": base64.b64encode(self._picture).decode(),
            "text/plain": self.specification["description"],
            MIME: self.specification,
        }


def scores(table: pd.DataFrame, pictures: Sequence[Image.Image], threshold: float, price: int = 10) -> Explorer:
    """Scores by class, a threshold to move, what it finds, misses and costs, and the picture behind each score.

    Parameters
    ----------
    table : DataFrame
        One row an image: ``id``, ``score`` and ``anomaly_class``.
    pictures : sequence of PIL image
        What is shown of each row: the image with its heat map.
    threshold : float
        Where it stands at first.
    price : int
        What a miss costs at first, in false alarms.
    """
    rows = [
        {
            "number": number,
            "id": row["id"],
            "class": row["anomaly_class"],
            "anomalous": row["anomaly_class"] != NORMAL,
            "score": round(row["score"], 4),
            "picture": _embedded(pictures[index]),
        }
        for number, (index, row) in enumerate(table.reset_index(drop=True).sort_values("score").iterrows())
    ]
    classes = sorted(table["anomaly_class"].unique(), key=lambda name: (name != NORMAL, name))
    low, high = table["score"].min(), table["score"].max()
    colour = {"field": "class", "type": "nominal", "scale": {"domain": classes, "range": plots.PALETTE[: len(classes)]}}
    line = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "strokeDash": [4, 3], "size": 2, "aria": False},
        "encoding": {"x": {"datum": {"expr": "threshold"}, "type": "quantitative"}},
    }
    step = (high - low) / 200
    scale = {"domain": [low - step, high + step], "nice": False}
    histogram = {
        "mark": {"type": "bar", "opacity": 0.8, "clip": True},
        "encoding": {
            "x": {"field": "score", "type": "quantitative", "bin": {"maxbins": 30}, "scale": scale, "axis": None},
            "y": {"aggregate": "count", "type": "quantitative", "title": "images"},
            "color": colour | {"legend": {"orient": "top", "title": None}},
        },
    }
    points = {
        "params": [
            {
                "name": "picked",
                "select": {"type": "point", "fields": ["number"], "nearest": True},
                "value": [{"number": len(rows) - 1}],
                "bind": {"number": _slider("Picture, by score", 0, len(rows) - 1, 1)},
            }
        ],
        "mark": {"type": "point", "filled": True, "size": 60},
        "encoding": {
            "x": {"field": "score", "type": "quantitative", "scale": scale, "title": "anomaly score"},
            "y": {"field": "class", "type": "nominal", "sort": classes, "title": None},
            "color": colour,
            "size": {"condition": {"param": "picked", "empty": False, "value": 260}, "value": 60},
            "tooltip": [{"field": "id"}, {"field": "score", "format": ".3f"}],
        },
    }
    counted = {
        "found": "datum.anomalous && datum.score > threshold",
        "missed": "datum.anomalous && datum.score <= threshold",
        "alarms": "!datum.anomalous && datum.score > threshold",
        "passed": "!datum.anomalous && datum.score <= threshold",
    }
    told = (
        "['found ' + datum.found + ', missed ' + datum.missed, 'false alarms ' + datum.alarms + ', rightly passed ' "
        "+ datum.passed, 'cost ' + (price * datum.missed + datum.alarms)]"
    )
    text = _words(
        50,
        *({"calculate": f"{condition} ? 1 : 0", "as": name} for name, condition in counted.items()),
        {"aggregate": [{"op": "sum", "field": name, "as": name} for name in counted]},
        {"calculate": told, "as": "told"},
    )
    width, height = pictures[0].size
    picture = {
        "transform": [{"filter": {"param": "picked", "empty": False}}],
        "height": HEIGHT + 24,
        "layer": [
            _picture("The chosen picture, beside itself with its heat map", HEIGHT * width / height, HEIGHT),
            {
                "transform": [{"calculate": "datum.class + ': ' + format(datum.score, '.3f')", "as": "told"}],
                "mark": {"type": "text", "align": "left", "baseline": "top", "x": 0, "y": HEIGHT + 8, "fontSize": 13},
                "encoding": {"text": {"field": "told"}},
            },
        ],
    }
    return Explorer(
        plots.score_histogram(table, threshold),
        {
            "$schema": SCHEMA,
            "description": "Anomaly scores by class, with a threshold to move and the picture behind each score",
            "data": {"values": rows},
            "params": [
                {
                    "name": "threshold",
                    "value": round(threshold, 4),
                    "bind": _slider("Threshold", low - step, high + step, step),
                },
                {"name": "price", "value": price, "bind": _slider("A miss costs, in false alarms", 1, 100, 1)},
            ],
            "vconcat": [
                {"height": 150, "layer": [histogram, line]},
                {"height": 22 * len(classes), "layer": [points, line]},
                text,
                picture,
            ],
            "config": CONFIG,
        },
    )


#: What the comparisons of a similarity explorer are called, in the order of the scale.
NEAREST, ANOMALY = "normal, normal", "anomaly, normal"
FROM_RIVAL, FARTHEST = "anomaly, rival", "normal, rival"


def similarity(found: pd.DataFrame, rivals: Sequence[str], case: str, view: str) -> Explorer:
    """The distances of which nearness is made, for every recorded anomaly class, measure, level and rival.

    Parameters
    ----------
    found : DataFrame
        Rows of the study ``normal_similarity`` on whole images, one network.
    rivals : sequence of str
        Names of rivals that the tables know; the first is shown first.
    case, view : str
        What is shown first: ``BENCHMARK CATEGORY: CLASS`` and ``MEASURE, LEVEL``, the measure by its title.

    Raises
    ------
    ValueError
        If ``found`` has no such case or view.
    """
    found = found.assign(
        case=found["benchmark"] + " " + found["category"] + ": " + found["anomaly_class"],
        view=found["measure"].map(_named) + ", " + found["level"],
    )
    first = found[(found["case"] == case) & (found["view"] == view)]
    if len(first) != 1:
        raise ValueError(f"{len(first)} rows are of {case!r} and {view!r}; there must be one.")
    rows = []
    for _, row in found.iterrows():
        kept = {"case": row["case"], "view": row["view"], "n": row["ceiling"], "a": row["anomaly"], "p": row["p_value"]}
        for number, name in enumerate(rivals):
            kept |= {f"r{number}": row[name], f"s{number}": row[f"scale of {name}"]}
            kept |= {f"{word[0]}{number}": row[f"{word} against {name}"] for word in ("value", "low", "high")}
        rows.append({key: _short(value) for key, value in kept.items()})
    order = [NEAREST, ANOMALY, FROM_RIVAL, FARTHEST]
    fields = dict(zip(order, ("datum.n", "datum.a", "datum['r' + rival]", "datum['s' + rival]"), strict=True))
    chosen: list[dict[str, Any]] = [{"filter": "datum.case == anomalies && datum.view == seen"}]
    told = (
        "isValid(datum['l' + rival]) ? ['nearness ' + format(datum['v' + rival], '.2f') + ' [' + "
        "format(datum['l' + rival], '.2f') + ', ' + format(datum['h' + rival], '.2f') + ']', "
        "'1: as near as fresh normal images', '0: no nearer than to the rival', datum.tested] "
        ": ['no nearness: by this measure', 'normal is not clearly nearer', 'to normal than to the rival', "
        "datum.tested]"
    )
    tested = "isValid(datum.p) ? 'no difference from normal: p = ' + format(datum.p, '.3f') : ''"
    distances = first.iloc[0][["ceiling", "anomaly", rivals[0], f"scale of {rivals[0]}"]].astype(float)
    return Explorer(
        plots.ladder(distances.set_axis(order), f"value of the measure ({view})"),
        {
            "$schema": SCHEMA,
            "description": "Distances between normal images, an anomaly class and a rival, by measure and level",
            "data": {"values": rows},
            "params": [
                {"name": "anomalies", "value": case, "bind": _choice("Anomalies", list(found["case"].unique()))},
                {"name": "seen", "value": view, "bind": _choice("Measure, level", list(found["view"].unique()))},
                {
                    "name": "rival",
                    "value": 0,
                    "bind": _choice("Rival", list(range(len(rivals)))) | {"labels": list(rivals)},
                },
            ],
            "vconcat": [
                {
                    "height": 120,
                    "transform": [
                        *chosen,
                        *({"calculate": field, "as": name} for name, field in fields.items()),
                        {"fold": order, "as": ["pair", "distance"]},
                    ],
                    "mark": {"type": "point", "filled": True, "size": 120, "opacity": 1},
                    "encoding": {
                        "x": {
                            "field": "distance",
                            "type": "quantitative",
                            "scale": {"zero": False},
                            "title": "value of the measure",
                        },
                        "y": {"field": "pair", "type": "nominal", "sort": order, "title": None},
                        "color": {
                            "field": "pair",
                            "type": "nominal",
                            "scale": {"domain": order, "range": plots.LADDER},
                            "legend": None,
                        },
                        "tooltip": {"field": "distance", "format": ".4f"},
                    },
                },
                _words(64, *chosen, {"calculate": tested, "as": "tested"}, {"calculate": told, "as": "told"}),
            ],
            "config": CONFIG,
        },
    )


def forgetting(curves: pd.DataFrame, pictures: Mapping[str, Sequence[Image.Image]], run: str) -> Explorer:
    """A fine-tuning, epoch by epoch: objective, held-out distance, validation, test, and heat maps.

    Parameters
    ----------
    curves : DataFrame
        ``run``, ``measure`` (a key of ``finetuning.CURVES``), ``epoch`` from 0 on, and ``value``.
    pictures : mapping of str to sequence of PIL image
        For each run what is shown of every epoch, from epoch 0 on.
    run : str
        What is shown first.

    Raises
    ------
    ValueError
        If a run has not one picture for each of its epochs, or there is no such run.
    """
    if run not in set(curves["run"]):
        raise ValueError(f"There is no run {run!r} among {', '.join(map(repr, pictures))}.")
    for name, part in curves.groupby("run"):
        if len(pictures.get(str(name), ())) != part["epoch"].nunique():
            raise ValueError(f"{name!r} needs one picture for each of its {part['epoch'].nunique()} epochs.")
    frozen = curves[curves["epoch"] == 0].set_index(["run", "measure"])["value"]
    before = frozen.reindex(pd.MultiIndex.from_frame(curves[["run", "measure"]])).to_numpy()
    is_distance = curves["measure"].isin([loop.LOSS, loop.HELD_OUT])
    curves = curves.assign(
        change=(curves["value"] / before).where(is_distance, curves["value"] - before),
        measure=curves["measure"].map(finetuning.CURVES),
    )
    rows = _rows(curves[["run", "measure", "epoch", "value", "change"]])
    chosen = {"filter": "datum.run == shown"}
    here = {"filter": "datum.epoch == epoch"}
    line = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "strokeDash": [4, 3], "size": 2, "aria": False},
        "encoding": {"x": {"datum": {"expr": "epoch"}, "type": "quantitative"}},
    }
    names = list(finetuning.CURVES.values())
    longest = int(curves["epoch"].max())

    def panel(measures: list[str], title: str) -> dict[str, Any]:
        lines = {
            "transform": [chosen, {"filter": {"field": "measure", "oneOf": measures}}],
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {
                    "field": "epoch",
                    "type": "quantitative",
                    "axis": {"values": list(range(longest + 1)), "format": "d"},
                },
                "y": {"field": "change", "type": "quantitative", "scale": {"zero": False}, "title": title},
                "color": {
                    "field": "measure",
                    "type": "nominal",
                    "scale": {"domain": names, "range": plots.PALETTE[:4]},
                    "legend": LEGEND | {"values": measures},
                },
                "tooltip": [{"field": "measure"}, {"field": "epoch"}, {"field": "value", "format": ".4f"}],
            },
        }
        return {"height": 110, "layer": [lines, line]}

    forms = dict(zip(names, (".4~g", ".4~g", ".3f", ".3f"), strict=True))
    told = [f"'{name}: ' + format(datum['{name}'], '{form}')" for name, form in forms.items()]
    shots = [
        {"run": name, "epoch": epoch, "picture": _embedded(picture, TALL)}
        for name, epochs in pictures.items()
        for epoch, picture in enumerate(epochs)
    ]
    width, height = pictures[run][0].size
    shown = curves[curves["run"] == run].assign(value=lambda rows: rows["change"])
    panels = {
        name: names[2 * number : 2 * number + 2] for number, name in enumerate(("distance / frozen", "AUROC - frozen"))
    }
    shown["panel"] = shown["measure"].map({name: panel for panel, members in panels.items() for name in members})
    return Explorer(
        plots.curve_grid(shown, "epoch", "measure", "panel", "", "epoch", own_scales=True),
        {
            "$schema": SCHEMA,
            "description": "A fine-tuning epoch by epoch: objective, validation, test AUROC and heat maps",
            "data": {"values": rows},
            "params": [
                {"name": "shown", "value": run, "bind": _choice("Run", list(pictures))},
                {"name": "epoch", "value": 0, "bind": _slider("Epoch", 0, longest, 1)},
            ],
            "resolve": {"legend": {"color": "independent"}},
            "vconcat": [
                *(panel(members, title) for title, members in panels.items()),
                _words(
                    72,
                    chosen,
                    here,
                    {"pivot": "measure", "value": "value", "groupby": ["epoch"]},
                    {"calculate": f"[{', '.join(told)}]", "as": "told"},
                ),
                {
                    "data": {"values": shots},
                    "transform": [chosen, here],
                    "height": TALL,
                    **_picture(
                        "Test images, each beside itself with its heat map in the chosen epoch",
                        TALL * width / height,
                        TALL,
                    ),
                },
            ],
            "config": CONFIG,
        },
    )


def labels(lines: pd.DataFrame, case: str) -> Explorer:
    """What labels buy and what transfer buys, by the number of labelled anomalies.

    Parameters
    ----------
    lines : DataFrame
        Rows of ``linear_probe.along_shots`` with ``case`` (what they are of) and ``method`` (``linear_probe.SEEN`` or
        ``linear_probe.UNSEEN``), one division each.
    case : str
        What is shown first.

    Raises
    ------
    ValueError
        If there is no such case.
    """
    if case not in set(lines["case"]):
        raise ValueError(f"There is no case {case!r} among {', '.join(map(repr, dict.fromkeys(lines['case'])))}.")
    steps = list(dict.fromkeys(lines.sort_values("k", key=lambda k: k.replace(linear_probe.ALL, np.inf))["labels"]))
    features = {linear_probe.WITHOUT: "random", linear_probe.WITH: "transferred"}
    lines = lines.reset_index(drop=True)
    lines["line"] = lines["start"].map(features) + ", " + lines["method"]
    lines["step"] = lines["labels"].map(steps.index)
    names = list(dict.fromkeys(lines["line"]))
    lines["none"] = lines.sort_values("step", kind="stable").groupby(["case", "line"])["value"].transform("first")
    rows = _rows(lines[["case", "line", "step", "labels", "value", "low", "high", "none"]])
    chosen = {"filter": "datum.case == shown"}
    colour = {
        "field": "line",
        "type": "nominal",
        "scale": {"domain": names, "range": plots.PALETTE[: len(names)]},
        "legend": LEGEND,
    }
    x = {"field": "labels", "type": "ordinal", "sort": steps, "title": "labelled anomalies", "axis": {"labelAngle": 0}}
    value = {"field": "value", "type": "quantitative", "scale": {"zero": False}, "title": "AUROC"}
    of = {start: f"datum.line == '{name}, {linear_probe.SEEN}'" for start, name in features.items()}
    counted = {
        "without": f"{of[linear_probe.WITHOUT]} ? datum.value",
        "transfer": f"{of[linear_probe.WITH]} ? datum.none",
        "both": f"{of[linear_probe.WITH]} ? datum.value",
    }
    told = (
        "['with ' + datum.labels + ' labelled anomalies (types seen):', "
        "'labels alone: ' + format(datum.without, '.3f'), 'transfer alone: ' + format(datum.transfer, '.3f'), "
        "'both: ' + format(datum.both, '.3f'), "
        "'transfer minus labels: ' + format(datum.transfer - datum.without, '+.3f')]"
    )
    return Explorer(
        plots.level_profile(lines[lines["case"] == case], "labels", "line", xlabel="labelled anomalies"),
        {
            "$schema": SCHEMA,
            "description": "AUROC by the number of labelled anomalies, with and without transferred features",
            "data": {"values": rows},
            "params": [
                {"name": "shown", "value": case, "bind": _choice("Data", list(dict.fromkeys(lines["case"])))},
                {
                    "name": "known",
                    "value": 0,
                    "bind": _slider("Step along the axis", 0, len(steps) - 1, 1),
                },
            ],
            "vconcat": [
                {
                    "height": 180,
                    "transform": [chosen],
                    "layer": [
                        {
                            "mark": {"type": "area", "opacity": 0.15},
                            "encoding": {
                                "x": x,
                                "y": value | {"field": "low"},
                                "y2": {"field": "high"},
                                "color": colour,
                            },
                        },
                        {"mark": {"type": "line", "point": True}, "encoding": {"x": x, "y": value, "color": colour}},
                        {
                            "transform": [{"filter": "datum.step == known"}],
                            "mark": {"type": "rule", "strokeDash": [4, 3], "size": 2, "aria": False},
                            "encoding": {"x": x},
                        },
                    ],
                },
                _words(
                    88,
                    chosen,
                    {"filter": "datum.step == known"},
                    *({"calculate": f"{condition} : null", "as": name} for name, condition in counted.items()),
                    {
                        "aggregate": [{"op": "max", "field": name, "as": name} for name in counted],
                        "groupby": ["labels"],
                    },
                    {"calculate": told, "as": "told"},
                ),
            ],
            "config": CONFIG,
        },
    )


def _named(measure: str) -> str:
    """The title of a measure, marked if larger values of it are nearer."""
    known = measures.get(measure)
    return known.title + ("" if known.farther else " (a likeness)")


def _words(height: int, *transform: dict[str, Any]) -> dict[str, Any]:
    """Lines of text: the field ``told`` that the transform ends with. Short ones, for a narrow screen."""
    return {
        "height": height,
        "transform": list(transform),
        "mark": {"type": "text", "align": "left", "baseline": "top", "fontSize": 13, "x": 0, "y": 0},
        "encoding": {"text": {"field": "told"}},
    }


def _picture(description: str, width: float, height: float) -> dict[str, Any]:
    """The picture of the field ``picture``, from the upper left corner on."""
    place = {"align": "left", "baseline": "top", "x": 0, "y": 0}
    return {
        "mark": {"type": "image", "description": description, "width": width, "height": height, **place},
        "encoding": {"url": {"field": "picture"}},
    }


def _choice(name: str, options: Sequence[Any]) -> dict[str, Any]:
    """A list to choose from."""
    return {"input": "select", "name": name, "options": options}


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, their numbers short."""
    return [{key: _short(value) for key, value in row.items()} for row in frame.to_dict("records")]


def _short(value: Any) -> Any:
    """A number to four digits, nothing for NaN, a word as it is."""
    if isinstance(value, str):
        return value
    return None if pd.isna(value) else float(f"{value:.4g}")


def _slider(name: str, low: float, high: float, step: float) -> dict[str, Any]:
    """A range that a hand or the arrow keys move."""
    return {"input": "range", "name": name, "min": round(low, 4), "max": round(high, 4), "step": round(step, 4)}


def _embedded(picture: Image.Image, height: int = HEIGHT) -> str:
    """A small JPEG as a data address."""
    buffer = io.BytesIO()
    width = round(height * picture.width / picture.height)
    picture.convert("RGB").resize((width, height)).save(buffer, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
