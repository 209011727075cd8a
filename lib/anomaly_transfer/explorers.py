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


def _slider(name: str, low: float, high: float, step: float) -> dict[str, Any]:
    """A range that a hand or the arrow keys move."""
    return {"input": "range", "name": name, "min": round(low, 4), "max": round(high, 4), "step": round(step, 4)}


def _embedded(picture: Image.Image) -> str:
    """A small JPEG as a data address."""
    buffer = io.BytesIO()
    width = round(HEIGHT * picture.width / picture.height)
    picture.convert("RGB").resize((width, HEIGHT)).save(buffer, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
