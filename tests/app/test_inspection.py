import json
import os
import shutil
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from anomaly_transfer.app import inspection, models
from anomaly_transfer.benchmarks.folder import printable
from anomaly_transfer.errors import DataError
from anomaly_transfer.metrics import decision

LITE0 = "efficientnet_lite0"


@pytest.fixture
def folder(mvtec_folder, tmp_path):
    return shutil.copytree(mvtec_folder, tmp_path / "own images & more")


def test_a_folder_becomes_a_report(folder, tmp_path, store):
    out = tmp_path / "report"
    report = inspection.evaluate(folder, out, "patch-memory", LITE0, 64, store=store)
    assert report == json.loads((out / "report.json").read_text())
    assert report["counts"] == {"normal": 6, "hole": 6}
    assert report["metrics"]["hole"]["auroc"]["value"] > 0.9
    assert report["localisation"]["pixel_auroc"]["value"] > 0.85
    scores = pd.read_csv(out / "scores.csv")
    assert scores["score"].is_unique
    assert scores.loc[scores["anomaly_class"] == "hole", "anomalous"].mean() > 0.8
    page = BeautifulSoup((out / "report.html").read_text(), "html.parser")
    pictures = [tag["src"] for tag in page.find_all("img") if not tag["src"].startswith("data:")]
    assert len(pictures) == 12
    assert all((out / src).is_file() for src in pictures)
    assert all(tag.get("alt") for tag in page.find_all("img"))
    with Image.open(out / pictures[0]) as picture:
        assert picture.size == (2 * 64 + 4, 64)


def test_a_mistyped_method_leaves_the_earlier_report(folder, tmp_path, store):
    out = tmp_path / "report"
    inspection.evaluate(folder, out, "patch-memory", LITE0, 64, store=store)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="patch-memry"):
        inspection.evaluate(folder, out, "patch-memry", LITE0, 64, store=store)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    inspection.evaluate(folder, out, "gaussian", LITE0, 64, store=store)
    assert not (out / "heat_maps").exists(), "maps of another detector"


def test_without_labels_it_scores_anyway(folder, tmp_path, store):
    shutil.rmtree(folder / "ground_truth")
    for number, path in enumerate(sorted((folder / "test").glob("*/*.png"))):
        path.rename(folder / "test" / f"{number}.png")
    report = inspection.evaluate(folder, tmp_path / "out", "gaussian", LITE0, 64, store=store)
    assert report["metrics"] == report["localisation"] == {}
    assert report["counts"] == {"unlabelled": 12}
    assert len(pd.read_csv(tmp_path / "out" / "scores.csv")) == 12


def test_skipped_files_are_reported(folder, tmp_path, store):
    (folder / "test" / "hole" / "bad <b>.png").write_text("x")
    report = inspection.evaluate(folder, tmp_path / "out", "gaussian", LITE0, 64, store=store)
    assert len(report["skipped"]) == 1
    html = (tmp_path / "out" / "report.html").read_text()
    assert "1 file(s) skipped" in html
    assert "bad &lt;b&gt;.png" in html


def test_an_output_folder_with_other_things_is_left_alone(folder, tmp_path, store):
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="choose another --out"):
        inspection.evaluate(tmp_path / "not even looked at", out, "gaussian", LITE0, 64, store=store)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_an_earlier_report_is_replaced(folder, tmp_path, store):
    for seed in (0, 1):
        report = inspection.evaluate(folder, tmp_path / "out", "gaussian", LITE0, 64, seed, store)
    assert report["model"]["seed"] == 1


def test_notes_in_a_report_stop_the_next_one_before_any_work_and_are_kept(folder, tmp_path, store):
    out = tmp_path / "report"
    inspection.evaluate(folder, out, "patch-memory", LITE0, 64, store=store)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"\(notes.txt\)"):
        inspection.evaluate(tmp_path / "not even looked at", out, "gaussian", LITE0, 64, store=store)
    inspection.evaluate(folder, out, "gaussian", LITE0, 64, store=store, force=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "heat_maps").exists()


#: No file of a person must lose a run: formulas, other scripts, and bytes that are no text.
NAMES = ["$\\frac{1$", "\u8868\u9762\u306e\u50b7", "x" * 200, "<b>&amp;", os.fsdecode(b"caf\xe9"), "a#b?c%d"]


@pytest.mark.parametrize("method", ["gaussian", "patch-memory"])
def test_no_name_loses_a_run(folder, tmp_path, store, method):
    hole = folder / "test" / "hole"
    for name, path in zip(NAMES, sorted(hole.iterdir()), strict=True):
        (folder / "test" / name).mkdir()
        path.rename(folder / "test" / name / f"{name}.png")
    shutil.rmtree(folder / "ground_truth")
    (folder / "test" / "good" / NAMES[4]).write_text("no image")
    out = tmp_path / "out"
    report = inspection.evaluate(folder, out, method, LITE0, 64, store=store)
    text = [printable(name) for name in NAMES]
    assert report["counts"] == {"normal": 6} | dict.fromkeys(text, 1)
    assert report == json.loads((out / "report.json").read_text())
    scores = pd.read_csv(out / "scores.csv")
    assert set(scores["anomaly_class"]) == {"normal", *text}
    page = BeautifulSoup((out / "report.html").read_text(encoding="utf-8"), "html.parser")
    assert all(name in page.get_text() for name in text)
    pictures = [tag["src"] for tag in page.find_all("img") if not tag["src"].startswith("data:")]
    assert len(pictures) == (12 if method == "patch-memory" else 0)
    assert all(os.path.exists(os.fsencode(out) + b"/" + unquote_to_bytes(src)) for src in pictures)


def test_the_same_name_with_two_suffixes_has_two_heat_maps(folder, tmp_path, store):
    with Image.open(folder / "test" / "good" / "000.png") as picture:
        picture.save(folder / "test" / "hole" / "000.bmp")
    inspection.evaluate(folder, tmp_path / "out", "patch-memory", LITE0, 64, store=store)
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "out" / "heat_maps" / "test" / "hole").iterdir()}
    assert len(pictures) == 7
    assert pictures["000.png.png"] != pictures["000.bmp.png"]


def test_names_that_are_no_text_can_be_scored(folder, tmp_path, store):
    model, _ = inspection.fit_folder(folder, "gaussian", LITE0, 64, store=store)
    (folder / "test" / "hole" / "000.png").rename(folder / "test" / "hole" / (NAMES[4] + ".png"))
    table, _ = inspection.score_images(model, folder / "test" / "hole", store)
    table.to_csv(tmp_path / "scores.csv", index=False)
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 6


@pytest.mark.parametrize(("kept", "few"), [(1, True), (3, True), (4, False)])
@pytest.mark.parametrize("kind", ["good", "hole"])
def test_an_interval_needs_a_few_images_of_each_kind(folder, tmp_path, store, kind, kept, few):
    for path in sorted((folder / "test" / kind).iterdir())[kept:]:
        path.unlink()
    report = inspection.evaluate(folder, tmp_path / "out", "patch-memory", LITE0, 64, store=store)
    found = report["metrics"]["hole"]["auroc"]
    assert (found["low"] is None) == (found["high"] is None) == few
    words = "too few images for an interval"
    assert (words in inspection.format_interval(found)) == few
    assert (report["localisation"]["pro"]["low"] is None) == (few and kind == "hole")
    assert (words in (tmp_path / "out" / "report.html").read_text()) == few


def test_the_report_of_a_perfect_ranking_says_how_little_few_images_tell(folder, tmp_path, store):
    report = inspection.evaluate(folder, tmp_path / "out", "patch-memory", LITE0, 64, store=store)
    found = report["metrics"]["hole"]
    assert inspection.format_interval(found["auroc"]) == "1.000 [0.541, 1.000]"
    assert found["auroc"]["low"] == pytest.approx(0.025 ** (1 / 6))
    assert inspection.format_interval(found["average_precision"]) == "1.000 [0.000, 1.000]"
    assert "1.000 [0.541, 1.000]" in (tmp_path / "out" / "report.html").read_text()


def test_the_report_says_what_the_threshold_promises(folder, tmp_path, store):
    report = inspection.evaluate(folder, tmp_path / "out", "gaussian", LITE0, 64, store=store)
    assert report["promise"] in (tmp_path / "out" / "report.html").read_text()
    assert report["model"]["false_alarm_bound"] == decision.false_alarm_bound(14, 0.05)


def test_long_pictures_stay_long(folder, tmp_path, store):
    with Image.open(folder / "test" / "hole" / "000.png") as picture:
        picture.resize((256, 64)).save(folder / "test" / "hole" / "000.png")
    inspection.evaluate(folder, tmp_path / "out", "patch-memory", LITE0, 64, store=store)
    with Image.open(tmp_path / "out" / "heat_maps" / "test" / "hole" / "000.png.png") as picture:
        assert picture.size == (2 * 128 + 4, 32)


def test_nothing_to_score_is_a_clear_error(folder, tmp_path, store):
    shutil.rmtree(folder / "test")
    with pytest.raises(DataError, match="nothing to score"):
        inspection.evaluate(folder, tmp_path / "out", "gaussian", LITE0, 64, store=store)


def test_copies_of_one_training_image_are_a_clear_error(folder, tmp_path, store):
    good = sorted((folder / "train" / "good").iterdir())
    for path in good[1:]:
        shutil.copy(good[0], path)
    with pytest.raises(DataError, match="do not vary"):
        inspection.evaluate(folder, tmp_path / "out", "gaussian", LITE0, 64, store=store)


def test_fit_then_score_new_images(folder, tmp_path, store):
    model, found = inspection.fit_folder(folder, "patch-memory", LITE0, 64, store=store)
    model.save(tmp_path / "model")
    assert not found.skipped
    table, _ = inspection.score_images(models.load(tmp_path / "model"), folder / "test" / "hole", store)
    assert table["anomalous"].mean() > 0.8
    one, _ = inspection.score_images(model, folder / "test" / "hole" / "000.png", store)
    assert one["score"].iloc[0] == pytest.approx(table["score"].iloc[0], rel=1e-4)


def test_fit_takes_a_plain_folder_and_refuses_an_empty_one(folder, tmp_path, store):
    model, _ = inspection.fit_folder(folder / "train" / "good", "gaussian", LITE0, 64, store=store)
    assert model.description.n_training_images == 14
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folder train/good, and no images"):
        inspection.fit_folder(tmp_path / "empty", "gaussian", LITE0, 64, store=store)
    with pytest.raises(DataError, match="no folder"):
        inspection.fit_folder(tmp_path / "none", "gaussian", LITE0, 64, store=store)
    with pytest.raises(DataError, match="no image that can be read"):
        inspection.score_images(model, tmp_path / "empty", store)


def test_pixel_scores_stay_where_the_patch_is():
    patches = np.zeros((8, 8))
    patches[2, 5] = 1.0
    pixels = inspection.pixel_scores(patches, 64)
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    assert pixels.shape == (64, 64)
    assert abs(row - 19.5) <= 1
    assert abs(column - 43.5) <= 1


def test_copies_of_training_images_in_the_test_are_reported(folder, tmp_path, store):
    shutil.copy(folder / "train" / "good" / "003.png", folder / "test" / "good" / "copy.png")
    out = tmp_path / "report"
    report = inspection.evaluate(folder, out, "gaussian", LITE0, 64, store=store)
    assert report["duplicates"] == ["test/good/copy.png"]
    assert "1 test image(s) are copies of training images" in (out / "report.html").read_text()
