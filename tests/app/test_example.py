import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from anomaly_transfer.app import example
from anomaly_transfer.benchmarks.folder import read_folder
from anomaly_transfer.errors import DataError

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return example.write(tmp_path_factory.mktemp("example") / "wall")


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy")


def places(folder, part):
    return {path.name.split("-")[0] for path in (folder / part).rglob("*.jpg")}


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_it_has_the_layout_that_evaluate_reads(written):
    found = read_folder(written)
    table = found.annotations.open()
    assert not found.skipped
    assert table["anomaly_class"].value_counts().to_dict() == {
        "normal": example.TRAINED * example.PER_PLACE + (example.PLACES - example.TRAINED) * example.GOOD
    } | dict.fromkeys(example.DEFECTS, (example.PLACES - example.TRAINED) * example.DEFECTIVE)
    rows = np.flatnonzero(table["anomaly_class"].isin(example.DEFECTS))
    assert all(mask.any() for mask in found.masks(rows, 64))


def test_no_place_is_on_both_sides(written):
    assert len(places(written, "train")) == example.TRAINED
    assert not places(written, "train") & places(written, "test")


def test_the_seed_decides(written, tmp_path):
    same, other = example.write(tmp_path / "same"), example.write(tmp_path / "other", seed=1)
    first = sorted(path.relative_to(written) for path in written.rglob("*.jpg"))
    assert all((written / path).read_bytes() == (same / path).read_bytes() for path in first)
    assert sorted(path.relative_to(other) for path in other.rglob("*.jpg")) != first


def test_what_is_there_stays(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("x")
    for place in (folder, folder / "thesis.txt"):
        with pytest.raises(DataError, match="choose another folder"):
            example.write(place)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_neighbour_is_left_alone(tmp_path):
    (tmp_path / "mine.partial").mkdir()
    (tmp_path / "mine.partial" / "thesis.txt").write_text("x")
    example.write(tmp_path / "mine")
    assert (tmp_path / "mine.partial" / "thesis.txt").read_text() == "x"
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"train", "test", "ground_truth"}


def test_pictures_differ_in_place_and_light_and_masks_go_with_them():
    rng = np.random.default_rng(0)
    wall = np.full((example.PLACE, example.PLACE), 100, dtype=np.uint8)
    wall[40:60, 50:90] = 220
    taken = [example.photographed(rng, wall, wall > 200) for _ in range(8)]
    assert len({np.asarray(picture).tobytes() for picture, _ in taken}) == 8
    light = [np.median(np.asarray(picture)) for picture, _ in taken]
    assert np.ptp(light) > 10
    for picture, mask in taken:
        bright = np.asarray(picture).mean(axis=2) > 1.5 * np.median(np.asarray(picture))
        seen = np.asarray(mask)
        assert set(np.unique(seen)) == {0, 255}
        assert (bright == (seen > 0)).mean() > 0.98


def test_mixed_places_keep_the_numbers(folder):
    before = {part: len(list((folder / part / "good").iterdir())) for part in ("train", "test")}
    example.same_places(folder)
    assert {part: len(list((folder / part / "good").iterdir())) for part in ("train", "test")} == before
    assert places(folder, "train") & places(folder, "test/good")


def test_the_lamp_is_on_the_defects_and_on_the_control_alone(written, folder):
    example.another_light(folder)
    good, lit = (sorted((folder / "test" / kind).iterdir()) for kind in ("good", "nothing"))
    assert [path.name for path in good] == [path.name for path in lit]

    def blue(path):
        colours = pixels(path).mean(axis=(0, 1))
        return colours[2] / colours[0]

    assert all(blue(after) < 0.75 * blue(before) for before, after in zip(good, lit, strict=True))
    for path in (folder / "test").glob("*/*.jpg"):
        before = written / path.relative_to(folder)
        if path.parent.name in example.DEFECTS:
            assert blue(path) < 0.75 * blue(before)
        elif path.parent.name == "good":
            assert path.read_bytes() == before.read_bytes()


def test_a_tenth_of_the_training_pictures_gets_a_defect_that_nobody_sees(written, folder):
    example.unnoticed(folder)
    good = sorted((folder / "train" / "good").iterdir())
    changed = [p for p in good if np.abs(pixels(p) - pixels(written / p.relative_to(folder))).max() > 60]
    assert len(changed) == len(good) / 10
    assert all(
        p.read_bytes() == (written / p.relative_to(folder)).read_bytes() for p in (folder / "test").rglob("*.jpg")
    )


def test_one_place_is_kept(folder):
    example.one_place(folder)
    assert len(places(folder, "train")) == 1
    assert len(list((folder / "train" / "good").iterdir())) == example.PER_PLACE


def test_consequences_say_what_a_report_would(written, store):
    before = {path: path.read_bytes() for path in written.rglob("*.*")}
    found = example.consequences(written, "gaussian", "efficientnet_lite0", 32, store)
    assert {path: path.read_bytes() for path in written.rglob("*.*")} == before
    assert list(found["mistake"].unique()) == list(example.MISTAKES)
    assert found["told"].between(0, 1).all()
    assert set(found.loc[found["right"].isna(), "class"]) == {"nothing"}
    by = found.set_index(["mistake", "class"])
    # A network that has seen photographs sees a lamp.
    assert by.loc[("defects taken under a lamp", "nothing"), "told"] > 0.9
    assert by.groupby("class")["right"].nunique().drop("nothing").eq(1).all()


def test_without_scikit_image_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(DataError, match="pip install scikit-image"):
        example.write(tmp_path / "wall")
    assert not (tmp_path / "wall").exists()
