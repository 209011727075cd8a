import base64
import io
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly_transfer import explorers, similarity, tables

VIEW = f"{similarity.get('mmd').title}, stage4"


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    kinds = ["normal"] * 30 + ["crack"] * 20 + ["stain"] * 10
    names = [f"{number:02}.png" for number in range(60)]
    return pd.DataFrame({"id": names, "anomaly_class": kinds, "score": rng.normal(size=60)})


@pytest.fixture(scope="module")
def explorer(table):
    rng = np.random.default_rng(1)
    noise = [Image.fromarray(rng.integers(0, 255, (64, 132, 3), dtype=np.uint8)) for _ in range(len(table))]
    return explorers.scores(table, noise, threshold=0.5)


def test_it_is_a_picture_and_a_specification_in_one(explorer):
    shown = explorer._repr_mimebundle_()
    with Image.open(io.BytesIO(base64.b64decode(shown["image/png"]))) as picture:
        assert picture.width > 400
    assert shown[explorers.MIME]["params"][0]["value"] == 0.5
    assert shown["text/plain"] == shown[explorers.MIME]["description"]


def test_nothing_is_loaded_and_it_is_small(explorer):
    text = json.dumps(explorer.specification)
    # Noise compresses worse than any photograph.
    assert len(text) < 1_000_000
    assert text.count("://") == 1
    assert explorer.specification["$schema"] == explorers.SCHEMA


def test_each_row_keeps_its_score_class_and_picture(table, explorer):
    rows = pd.DataFrame(explorer.specification["data"]["values"]).set_index("id")
    assert rows["score"].is_monotonic_increasing
    assert list(rows["number"]) == list(range(60))
    for row in table.itertuples():
        assert rows.loc[row.id, "score"] == pytest.approx(row.score, abs=1e-4)
        assert rows.loc[row.id, "class"] == row.anomaly_class
        assert rows.loc[row.id, "anomalous"] == (row.anomaly_class != "normal")
    assert rows["picture"].nunique() == 60


def test_the_picture_behind_a_score_is_its_own(table):
    shades = [Image.new("RGB", (20, 10), (4 * number, 0, 0)) for number in range(60)]
    rows = explorers.scores(table, shades, threshold=0.0).specification["data"]["values"]
    for row in rows:
        with Image.open(io.BytesIO(base64.b64decode(row["picture"].split(",")[1]))) as picture:
            assert picture.getpixel((5, 5))[0] == pytest.approx(4 * int(row["id"][:2]), abs=3)


def test_no_figure_stays_open(table):
    before = plt.get_fignums()
    explorers.scores(table, [Image.new("RGB", (20, 10))] * len(table), threshold=0.0)
    assert plt.get_fignums() == before


@pytest.fixture(scope="module")
def relations():
    found = pd.concat(table.frame() for table in tables.recorded("study", "relations"))
    return found[(found["region"] == "image") & (found["start"] == "imagenet") & found["photographs"].notna()]


def test_each_recorded_comparison_is_in_the_similarity_explorer(relations):
    explorer = explorers.similarity(relations, ["photographs", "noise"], "surfaces brick: crack", VIEW)
    rows = explorer.specification["data"]["values"]
    assert len(rows) == len(relations)
    row = next(r for r in rows if (r["case"], r["view"]) == ("elpv mono: p = 1", VIEW.replace("stage4", "head")))
    place = (relations["category"] == "mono") & (relations["anomaly_class"] == "p = 1") & (relations["level"] == "head")
    (known,) = relations[place & (relations["benchmark"] == "elpv") & (relations["measure"] == "mmd")].to_dict(
        "records"
    )
    values = [row["n"], row["a"], row["r1"], row["s1"], row["v0"], row["l0"], row["h0"]]
    names = ["ceiling", "anomaly", "noise", "scale of noise"]
    names += [f"{word} against photographs" for word in ("value", "low", "high")]
    assert values == pytest.approx([known[name] for name in names], rel=1e-3, nan_ok=True)
    assert len(json.dumps(explorer.specification)) < 300_000


def test_a_comparison_that_was_not_recorded_is_one_clear_error(relations):
    with pytest.raises(ValueError, match="0 rows are of 'surfaces brick: rust'"):
        explorers.similarity(relations, ["photographs"], "surfaces brick: rust", VIEW)


def test_no_name_of_a_parameter_is_a_word_of_the_language(relations, explorer):
    """Vega refuses an expression that has one, as `case`."""
    other = explorers.similarity(relations, ["photographs"], "surfaces brick: crack", VIEW)
    names = {p["name"] for e in (explorer, other) for p in e.specification["params"]}
    assert not names & {"case", "class", "default", "in", "new", "this", "var", "with"}
