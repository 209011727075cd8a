"""Figures to play with: a plain picture, and the same data as a Vega-Lite specification that the site makes live.

A notebook shows the picture; the built book replaces it in place where scripts run, without loading anything from the
web (``book/_ext/explorers.py``).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import pandas as pd
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure
from PIL import Image

from anomaly_transfer import plots
from anomaly_transfer import similarity as measures
from anomaly_transfer.labels import NORMAL

MIME = "application/vnd.vegalite.v5+json"
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
#: Height of a picture in an explorer, pixels, and its JPEG quality: an explorer stays below 300 kB.
HEIGHT, QUALITY = 96, 60


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
        "mark": {"type": "rule", "strokeDash": [4, 3], "size": 2},
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
    # Three lines, for a narrow screen.
    told = (
        "['found ' + datum.found + ', missed ' + datum.missed, 'false alarms ' + datum.alarms + ', rightly passed ' "
        "+ datum.passed, 'cost ' + (price * datum.missed + datum.alarms)]"
    )
    text = {
        "transform": [
            *({"calculate": f"{condition} ? 1 : 0", "as": name} for name, condition in counted.items()),
            {"aggregate": [{"op": "sum", "field": name, "as": name} for name in counted]},
            {"calculate": told, "as": "told"},
        ],
        "height": 50,
        "mark": {"type": "text", "align": "left", "baseline": "top", "fontSize": 13, "x": 0, "y": 0},
        "encoding": {"text": {"field": "told"}},
    }
    width, height = pictures[0].size
    picture = {
        "transform": [{"filter": {"param": "picked", "empty": False}}],
        "height": HEIGHT + 24,
        "layer": [
            {
                "mark": {
                    "type": "image",
                    "description": "The chosen picture, beside itself with its heat map",
                    "width": HEIGHT * width / height,
                    "height": HEIGHT,
                    "align": "left",
                    "baseline": "top",
                    "x": 0,
                    "y": 0,
                },
                "encoding": {"url": {"field": "picture"}},
            },
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
            "config": {"view": {"stroke": None}, "background": "white"},
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
        Rows of tables of ``relations.run`` on whole images, one network.
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
    # Short lines, for a narrow screen.
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
                {
                    "height": 64,
                    "transform": [
                        *chosen,
                        {"calculate": tested, "as": "tested"},
                        {"calculate": told, "as": "told"},
                    ],
                    "mark": {"type": "text", "align": "left", "baseline": "top", "fontSize": 13, "x": 0, "y": 0},
                    "encoding": {"text": {"field": "told"}},
                },
            ],
            "config": {"view": {"stroke": None}, "background": "white"},
        },
    )


def _named(measure: str) -> str:
    """The title of a measure, marked if larger values of it are nearer."""
    known = measures.get(measure)
    return known.title + ("" if known.farther else " (a likeness)")


def _choice(name: str, options: Sequence[Any]) -> dict[str, Any]:
    """A list to choose from."""
    return {"input": "select", "name": name, "options": options}


def _short(value: Any) -> Any:
    """A number to four digits, nothing for NaN, a word as it is."""
    if isinstance(value, str):
        return value
    return None if pd.isna(value) else float(f"{value:.4g}")


def _slider(name: str, low: float, high: float, step: float) -> dict[str, Any]:
    """A range that a hand or the arrow keys move."""
    return {"input": "range", "name": name, "min": round(low, 4), "max": round(high, 4), "step": round(step, 4)}


def _embedded(picture: Image.Image) -> str:
    """A small JPEG as a data address."""
    buffer = io.BytesIO()
    width = round(HEIGHT * picture.width / picture.height)
    picture.convert("RGB").resize((width, HEIGHT)).save(buffer, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
