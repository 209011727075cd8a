"""Cards: what a benchmark or a measure of similarity says of itself, as a reader sees it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable

import jinja2
import numpy as np
import pandas as pd
from IPython.display import HTML
from markupsafe import Markup, escape
from PIL import Image, ImageOps

from anomaly_transfer.benchmarks.base import Benchmark, Category
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.similarity import Measure

#: Side of a picture on a sheet, pixels, and pictures in a row.
SIDE, ROW = 72, 6
#: More kinds of anomalies than this are not all shown.
MOST_KINDS = 6


def overview(benchmarks: list[Benchmark]) -> pd.DataFrame:
    """One row a benchmark: what is anomalous, its recommended split, how many of its categories are at hand."""
    return pd.DataFrame(
        {
            "benchmark": known.title,
            "anomalies": known.anomalies,
            "split": known.splits[0],
            "at hand": f"{len(known.available())} of {len(known.categories)}" if known.available() else "-",
        }
        for known in benchmarks
    ).set_index("benchmark")


def counts(benchmark: Benchmark, category: Category) -> pd.DataFrame:
    """Images by anomaly class, at hand and as published.

    Where the authors give the number of all defects only, that stands in the row ``all anomalies``.
    """
    here = category.annotations.open()["anomaly_class"].value_counts()
    here = here.reindex([NORMAL, *sorted(set(here.index) - {NORMAL})]).dropna().astype(int)
    published = benchmark.published(category.name) or {}
    if published and set(published) != set(here.index):
        published = {NORMAL: published[NORMAL], "all anomalies": sum(published.values()) - published[NORMAL]}
        here["all anomalies"] = here.drop(NORMAL).sum()
    table = pd.DataFrame({"at hand": here})
    if published:
        table["published"] = [published.get(name, "") for name in table.index]
    return table


def sheet(category: Category) -> Image.Image:
    """A row of pictures of normal images, and one of each kind of anomaly, evenly spaced over the set."""
    table = category.annotations.open()
    kinds = [NORMAL, *shown_kinds(table)]
    canvas = Image.new("RGB", (ROW * (SIDE + 2) - 2, len(kinds) * (SIDE + 2) - 2), "white")
    for line, kind in enumerate(kinds):
        rows = np.flatnonzero(table["anomaly_class"] == kind)
        chosen = rows[np.linspace(0, len(rows) - 1, min(ROW, len(rows))).round().astype(int)]
        for column, row in enumerate(chosen):
            picture = category.images[int(row)]
            # Small pictures keep their pixels.
            resampling = Image.Resampling.BICUBIC if max(picture.size) > SIDE else Image.Resampling.NEAREST
            canvas.paste(ImageOps.contain(picture, (SIDE, SIDE), resampling), (column * (SIDE + 2), line * (SIDE + 2)))
    return canvas


def shown_kinds(table: pd.DataFrame) -> list[str]:
    """The anomaly classes that a sheet shows, at most ``MOST_KINDS``."""
    return sorted(set(table["anomaly_class"]) - {NORMAL})[:MOST_KINDS]


def card(benchmark: Benchmark, limit: int | None = None) -> HTML:
    """The data card of one benchmark, with pictures of its first category where that is at hand.

    Parameters
    ----------
    benchmark : Benchmark
    limit : int, optional
        See :meth:`Benchmark.load`.
    """
    shown = benchmark.available()[:1]
    category = benchmark.load(shown[0], limit) if shown else None
    table = category.annotations.open() if category else None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["code"] = _code
    return HTML(
        environment.get_template("card.html.jinja").render(
            benchmark=benchmark,
            category=category,
            counts=counts(benchmark, category).to_dict(orient="index") if category else {},
            n_groups=table["group"].nunique() if table is not None else 0,
            kinds=[NORMAL, *shown_kinds(table)] if table is not None else [],
            picture=_encoded(sheet(category)) if category and benchmark.pictures else "",
            masks=category is not None and category.annotations.has_masks,
        )
    )


def _code(text: str) -> Markup:
    """What stands between back quotes, as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _encoded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()


def measures(found: Iterable[Measure]) -> pd.DataFrame:
    """One row a measure: its range, what may be done to the features without changing it, what it sees."""
    return pd.DataFrame(
        {
            "measure": measure.title,
            "range": measure.range,
            "unchanged by": ", ".join(measure.invariant) or "-",
            "sees": measure.sees,
            "blind to": measure.blind,
        }
        for measure in found
    ).set_index("measure")


def equations(found: Iterable[Measure]) -> str:
    """The definitions of measures as Markdown, one a line."""
    return "\n".join(f"- *{measure.title}*: ${measure.equation}$" for measure in found)
