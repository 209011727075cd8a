"""A check of a folder before any work; each fault is made on purpose, on a folder that is right without it."""

import json
import os
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anomaly_transfer.app import example, folder_check, inspection, models
from anomaly_transfer.app.images import read_images
from anomaly_transfer.benchmarks.folder import survey, survey_training
from anomaly_transfer.errors import DataError

LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="session")
def wall(tmp_path_factory):
    return example.write(tmp_path_factory.mktemp("example") / "wall")


@pytest.fixture
def folder(wall, tmp_path):
    return shutil.copytree(wall, tmp_path / "wall")


@pytest.fixture
def small(mvtec_folder, tmp_path):
    return shutil.copytree(mvtec_folder, tmp_path / "small")


def checked(folder):
    return folder_check.check(survey(folder))


def pictures(folder, kind="*", part="test"):
    return sorted(folder.glob(f"{part}/{kind}/*.*"))


def only_warning(folder):
    (warning,) = checked(folder).warnings
    return warning


def test_the_example_has_nothing_to_warn_of(folder):
    found = checked(folder)
    assert found.warnings == found.duplicates == []
    assert found.facts["train"] == "50 normal"
    assert found.facts["test"] == "24 normal, 12 crack, 12 missing, 12 stain"
    assert found.facts["formats"] == "110 JPEG"
    assert found.facts["sizes"] == "110 of 240 x 240"
    assert found.facts["masks"] == "36 of 36 used"


def test_defects_saved_at_another_quality(folder):
    for path in pictures(folder):
        if path.parent.name != "good":
            with Image.open(path) as picture:
                picture.convert("RGB").save(path, quality=30)
    warning = only_warning(folder)
    assert "The JPEG quality alone tells anomalous test images from normal ones (AUROC 1.00)" in warning
    assert "about 85 (normal); about 30 (anomalous)" in warning


def test_one_class_in_another_format(folder):
    for path in pictures(folder, "crack"):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    warning = only_warning(folder)
    assert "The file format alone tells crack test images from normal ones (AUROC 1.00)" in warning
    assert "24 JPEG (normal); 12 PNG (crack)" in warning


def test_defects_of_another_shape(folder):
    masks = sorted((folder / "ground_truth").glob("*/*"))
    for path in [*(path for path in pictures(folder) if path.parent.name != "good"), *masks]:
        Image.open(path).crop((0, 0, 240, 200)).save(path, quality=85)
    warnings = [warning for warning in checked(folder).warnings if "alone tells" in warning]
    assert len(warnings) == 1
    assert "size or shape alone tells anomalous" in warnings[0]
    assert "24 of 240 x 240 (normal); 36 of 240 x 200 (anomalous)" in warnings[0]


def test_defects_of_another_bit_depth(folder):
    for path in pictures(folder, "good"):
        Image.open(path).convert("L").save(path, quality=85)
    warnings = checked(folder).warnings
    assert len(warnings) == 2
    assert "pixels are stored alone tells anomalous test images from normal ones" in warnings[0]
    assert "tells normal test images from training images" in warnings[1]


def test_defects_of_another_day(folder):
    for number, path in enumerate(pictures(folder)):
        day = 1_000_000 if path.parent.name == "good" else 9
        os.utime(path, (86400 * (day + number), 86400 * (day + number)))
    assert "The date alone tells anomalous test images from normal ones (AUROC 1.00)" in only_warning(folder)


def test_copying_a_folder_is_no_other_day(folder):
    for number, path in enumerate(pictures(folder)):
        os.utime(path, (1e9 + 60 * number, 1e9 + 60 * number))
    assert not checked(folder).warnings


def test_the_camera_knows_better_than_the_file_system(folder):
    for number, path in enumerate(pictures(folder)):
        exif = Image.Exif()
        hour = 9 if path.parent.name == "good" else 17
        exif[0x8769] = {36867: f"2026:03:01 {hour:02}:{number % 60:02}:00"}
        Image.open(path).save(path, quality=85, exif=exif)
    assert "2026-03-01 (normal); 2026-03-01 (anomalous)" in only_warning(folder)


def test_training_images_of_another_size_than_all_test_images(folder):
    for path in pictures(folder, part="train"):
        Image.open(path).resize((200, 200)).save(path, quality=85)
    warning = only_warning(folder)
    assert "The size or shape alone tells normal test images from training images (AUROC 1.00)" in warning


def test_sizes_that_differ_from_image_to_image_are_no_nuisance(folder):
    shutil.rmtree(folder / "ground_truth")
    rng = np.random.default_rng(0)
    for path in [*pictures(folder), *pictures(folder, part="train")]:
        Image.open(path).resize(rng.integers(100, 200, 2).tolist()).save(path, quality=85)
    assert not checked(folder).warnings


@pytest.mark.parametrize("differ", ["sizes", "area", "shape"])
def test_defects_of_another_size(small, differ):
    found = survey(small)
    test = found.files["part"] == "test"
    anomalous = (found.files["anomaly_class"] != "normal").to_numpy()
    number = np.arange(len(found.files))
    width, height = {
        # Larger and smaller than all others; each of its own size, but larger; as large, but four times as wide.
        "sizes": (np.where(anomalous, 64 + 20 * (-1) ** number, 64),) * 2,
        "area": (np.where(anomalous, 300, 200) + number,) * 2,
        "shape": ((200 + 2 * number) * (1 + anomalous), (200 + 2 * number) // (1 + anomalous)),
    }[differ]
    found.files["width"], found.files["height"] = width, height
    found.files = found.files[test]
    (warning,) = folder_check.check(found).warnings
    assert "The size or shape alone tells anomalous test images from normal ones (AUROC 1.00)" in warning


@given(st.integers(0, 1000))
def test_chance_alone_seldom_separates(seed):
    rng = np.random.default_rng(seed)
    positive = rng.permutation(np.arange(24) < 12)
    names = pd.Series(rng.choice(["a", "b", "c"], 24))
    numbers = pd.Series(rng.normal(size=24))
    # Judged over many draws below; here: never less than nothing, never more than all.
    for values in (names, numbers):
        assert 0.5 <= folder_check.separation(values, positive) <= 1


def test_how_often_chance_is_called_a_nuisance():
    rng = np.random.default_rng(0)
    positive = np.arange(24) < 12
    draws = [pd.Series(rng.normal(size=24)) for _ in range(300)]
    draws += [pd.Series(rng.choice(["a", "b", "c"], 24)) for _ in range(300)]
    warned = [folder_check.separation(values, positive) >= folder_check.SEPARATES for values in draws]
    assert np.mean(warned) < 2 * folder_check.CHANCE


def test_missing_values_and_one_sided_ones_say_nothing():
    positive = np.array([True] * 8 + [False] * 8)
    assert folder_check.separation(pd.Series([np.nan] * 16), positive) == 0.5
    assert folder_check.separation(pd.Series([30.0] * 8 + [np.nan] * 8), positive) == 0.5
    assert folder_check.separation(pd.Series(np.arange(16.0)), positive) == 1.0


def test_copies_saved_again_are_found(small):
    good, hole = small / "test" / "good", small / "test" / "hole"
    with Image.open(small / "train" / "good" / "003.png") as picture:
        picture.save(good / "again.bmp")
        picture.save(small / "train" / "good" / "again.tif")
    shutil.copy(good / "001.png", hole / "wrong.png")
    found = checked(small)
    assert found.duplicates == ["test/good/again.bmp"]
    assert found.facts["copies"] == "3"
    told = " ".join(found.warnings)
    assert "1 training image(s) are copies of others and count twice: train/good/again.tif = train/good/003.png" in told
    assert "1 picture(s) lie in more than one class of the test: test/good/001.png = test/hole/wrong.png" in told
    assert "1 test image(s) are copies of training images: test/good/again.bmp" in told


def test_masks_the_wrong_way_round(small):
    for path in (small / "ground_truth" / "hole").iterdir():
        Image.open(path).point(lambda value: 255 - value).save(path)
    assert "the ground black, not the other way round" in only_warning(small)


def test_masks_that_are_not_used_are_counted(small):
    (small / "ground_truth" / "hole" / "000_mask.png").unlink()
    Image.new("L", (64, 64)).save(small / "ground_truth" / "hole" / "001_mask.png")
    assert checked(small).facts["masks"] == "4 of 5 used; 2 of 6 anomalous images have none"


def test_colour_of_twelve_bits_is_warned_of(small, monkeypatch):
    found = survey(small)
    found.files["stored"], found.files["largest"] = "16-bit colour", 4095
    told = " ".join(folder_check.check(found).warnings)
    assert "26 file(s) hold colour with 12 bits in 16, of which the upper 8 can be read: 16 shades are left" in told


def test_a_folder_of_normal_images_is_checked_too(small):
    found = survey_training(small / "train" / "good")
    assert folder_check.check(found).facts["train"] == "14 normal"
    assert folder_check.check(found).warnings == []


def test_an_empty_folder_of_images_is_checked(small):
    for path in [*pictures(small), *pictures(small, part="train")]:
        path.write_text("no picture")
    found = survey(small)
    assert folder_check.check(found).facts["train"] == "0 normal"
    assert "fewer than 2" in found.problem


def test_warnings_masks_and_notes_stand_in_the_report(small, tmp_path, store):
    for path in pictures(small, "hole"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    (small / "test" / "good").rename(small / "test" / "OK")
    (small / "ground_truth" / "hole" / "000_mask.png").unlink()
    out = tmp_path / "report"
    inspection.evaluate(small, out, "gaussian", LITE0, 64, store=store)
    report = json.loads((out / "report.json").read_text())
    html = (out / "report.html").read_text()
    assert "The file format alone" in report["warnings"][0]
    assert report["data"]["masks"] == "5 of 5 used; 1 of 6 anomalous images have none"
    assert report["notes"] == ["test/OK is read as normal images, like test/good."]
    for told in (report["warnings"][0], report["notes"][0], "Masks: 5 of 5 used", "1 warning(s)"):
        assert told in html


def test_images_that_differ_in_their_suffix_have_a_heat_map_each(small, tmp_path, store):
    hole = small / "test" / "hole"
    Image.open(small / "test" / "good" / "000.png").save(hole / "000.bmp")
    (small / "test" / "good" / "000.png").rename(small / "test" / "good" / ("x" * 250 + ".png"))
    inspection.evaluate(small, tmp_path / "out", "patch-memory", LITE0, 64, store=store)
    maps = sorted((tmp_path / "out" / "heat_maps").rglob("*.png"))
    assert len(maps) == 13
    assert {"000.png.png", "000.bmp.png"} <= {path.name for path in maps}


@pytest.mark.parametrize("name", ["all", "target", "grade", os.fsdecode(b"h\xf6le")])
def test_strange_classes_and_names_do_not_lose_the_run(small, tmp_path, store, name):
    if not name.isprintable() and sys.platform != "linux":
        pytest.skip("only on Linux a file's name may be any bytes")
    shutil.copytree(small / "test" / "good", small / "test" / name)
    (small / "train" / "good" / "000.png").rename(small / "train" / "good" / f"{name}.png")
    report = inspection.evaluate(small, tmp_path / "out", "gaussian", LITE0, 64, store=store)
    assert (tmp_path / "out" / "report.html").is_file()
    assert report["counts"]["hole"] == 6
    if name.isprintable():
        row, summary = report["metrics"][f"{name} (class)"], report["metrics"]["all"]
        assert row["auroc"] != summary["auroc"]
        assert row["auroc"]["value"] == pytest.approx(0.5), "copies of the normal images"
        assert summary["auroc"]["value"] > 0.7


def deepened(path, bits):
    """Save a grey picture with some bits in a file of 16."""
    pixels = np.asarray(Image.open(path).convert("L")).astype(int) * (2**bits - 1) // 255
    Image.fromarray(pixels.astype(np.uint16)).save(path)


def test_a_kept_model_reads_new_images_as_those_it_was_fitted_on(small, tmp_path, store):
    images = [*pictures(small), *pictures(small, part="train")]
    plain = inspection.evaluate(small, tmp_path / "plain", "gaussian", LITE0, 64, store=store)
    Image.new("L", (64, 64), 255).save(small / "test" / "hole" / "white.png")
    for path in [*images, small / "test" / "hole" / "white.png"]:
        deepened(path, 12)
    report = inspection.evaluate(small, tmp_path / "deep", "gaussian", LITE0, 64, store=store)
    assert report["model"]["bit_depth"] == 12
    assert "of 16 bits 12 are used: 4095 is read as white" in report["data"]["pixels"]
    scores = [pd.read_csv(tmp_path / name / "scores.csv").set_index("id")["score"] for name in ("plain", "deep")]
    assert np.allclose(scores[1][scores[0].index], scores[0], rtol=0.2), "as of the same images with 8 bits"
    assert plain["model"]["bit_depth"] == 16
    model, _ = inspection.fit_folder(small, "gaussian", LITE0, 64, store=store)
    model.save(tmp_path / "model")
    dark = small / "test" / "hole" / "000.png"
    table, skipped = inspection.score_images(models.load(tmp_path / "model"), dark, store)
    assert table["score"].iloc[0] == pytest.approx(scores[1]["test/hole/000.png"], rel=1e-3)
    assert not skipped
    deepened(dark, 9)
    table, skipped = inspection.score_images(models.load(tmp_path / "model"), dark, store)
    assert "The images use 10 of 16 bits, the model was fitted on 12" in " ".join(skipped.values())
    assert read_images(dark).bit_depth == 10
    assert models.load(tmp_path / "model").score(read_images(dark), store) == pytest.approx(table["score"])


def test_why_nothing_can_be_scored_is_said(small, tmp_path, store):
    model, _ = inspection.fit_folder(small, "gaussian", LITE0, 64, store=store)
    for path in pictures(small):
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(
        DataError, match=r"nothing to score\. Not used: 12 \.heic: .* plug-in of Pillow: save it as PNG"
    ):
        inspection.evaluate(small, tmp_path / "out", "gaussian", LITE0, 64, store=store)
    with pytest.raises(DataError, match=r"no image that can be read\. Not used: 12 \.heic: .* plug-in of Pillow"):
        inspection.score_images(model, small / "test", store)


def test_images_in_sub_folders_are_scored(small, tmp_path, store):
    model, _ = inspection.fit_folder(small, "gaussian", LITE0, 64, store=store)
    table, skipped = inspection.score_images(model, small / "test", store)
    assert len(table) == 12
    assert not skipped
