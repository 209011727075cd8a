import base64
import io
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anomaly_transfer import similarity
from anomaly_transfer.pages import explorers
from anomaly_transfer.studies import finetuning, linear_probe, records
from anomaly_transfer.training import loop

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
    found = records.frame("normal_similarity")
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


@pytest.fixture(scope="module")
def tuning():
    """Two runs of three epochs: curves, and one picture an epoch."""
    rng = np.random.default_rng(2)
    rows = [
        {"run": run, "measure": measure, "epoch": epoch, "value": rng.random() + 1}
        for run in ("a", "b")
        for measure in finetuning.CURVES
        for epoch in range(3)
    ]
    pictures = {run: [Image.new("RGB", (40, 60), (80 * epoch, 0, 0)) for epoch in range(3)] for run in ("a", "b")}
    return pd.DataFrame(rows), pictures


def test_a_tuning_is_told_by_its_change_since_the_frozen_network(tuning):
    curves, pictures = tuning
    specification = explorers.forgetting(curves, pictures, "b").specification
    rows = pd.DataFrame(specification["data"]["values"]).set_index(["run", "measure", "epoch"])
    for row in curves.itertuples():
        told = rows.loc[row.run, finetuning.CURVES[row.measure], row.epoch]
        first = curves[(curves["run"] == row.run) & (curves["measure"] == row.measure)]["value"].iloc[0]
        is_distance = row.measure in (loop.LOSS, loop.HELD_OUT)
        assert told["value"] == pytest.approx(row.value, rel=1e-3)
        assert told["change"] == pytest.approx(row.value / first if is_distance else row.value - first, abs=1e-3)
    shots = pd.DataFrame(specification["vconcat"][-1]["data"]["values"])
    assert list(shots["epoch"]) == [0, 1, 2, 0, 1, 2]
    assert shots["picture"].nunique() == 3
    assert specification["params"][1]["bind"]["max"] == 2


def test_a_tuning_needs_a_picture_for_each_epoch(tuning):
    curves, pictures = tuning
    with pytest.raises(ValueError, match="no run 'c' among 'a', 'b'"):
        explorers.forgetting(curves, pictures, "c")
    with pytest.raises(ValueError, match="'b' needs one picture for each of its 3 epochs"):
        explorers.forgetting(curves, pictures | {"b": pictures["b"][:2]}, "a")


def test_labels_and_transfer_keep_their_bands_and_what_no_label_gives():
    found = records.frame("linear_probe")
    found = found[(found["seed"] == 0) & (found["benchmark"] == "surfaces") & (found["category"] == "brick")]
    lines = pd.concat(
        linear_probe.along_shots(found, method).assign(method=method, case="brick")
        for method in (linear_probe.SEEN, linear_probe.UNSEEN)
    )
    lines = lines[lines["start"].isin([linear_probe.WITHOUT, linear_probe.WITH])]
    with pytest.raises(ValueError, match="no case 'wood' among 'brick'"):
        explorers.labels(lines, "wood")
    specification = explorers.labels(lines, "brick").specification
    rows = pd.DataFrame(specification["data"]["values"])
    assert len(rows) == len(lines)
    assert list(rows.groupby("labels", sort=False)["step"].first().sort_values().index) == [
        "0",
        "1",
        "2",
        "5",
        "10",
        "50",
        "all",
    ]
    for line, part in rows.groupby("line"):
        start = {"random": linear_probe.WITHOUT, "transferred": linear_probe.WITH}[line.split(", ")[0]]
        of = lines[(lines["start"] == start) & (lines["method"] == line.split(", ")[1])].set_index("labels")
        part = part.set_index("labels")
        for column in ("value", "low", "high"):
            assert part[column].to_numpy() == pytest.approx(of.loc[part.index, column].to_numpy(), abs=1e-3)
        assert part["none"].unique() == pytest.approx([of.loc["0", "value"]], abs=1e-3)
