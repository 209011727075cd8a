import shutil

import pytest
from PIL import Image

from anomaly_transfer.benchmarks.folder import UNLABELLED, read_folder
from anomaly_transfer.errors import DataError


@pytest.fixture
def folder(mvtec_folder, tmp_path):
    return shutil.copytree(mvtec_folder, tmp_path / "own")


def parts(category):
    table = category.annotations.open()
    return {part: table[table["part"] == part] for part in ("train", "test")}


def test_reads_the_layout(folder):
    category = read_folder(folder)
    found = parts(category)
    assert len(found["train"]) == 14
    assert (found["train"]["anomaly_class"] == "normal").all()
    assert found["test"]["anomaly_class"].value_counts().to_dict() == {"normal": 6, "hole": 6}
    assert not category.skipped
    masks = category.masks(range(26), 64)
    assert [mask.sum() for mask in masks] == [
        256 * (kind == "hole") for kind in category.annotations.open()["anomaly_class"]
    ]


def test_loose_test_images_are_unlabelled(folder):
    shutil.copy(folder / "test" / "good" / "000.png", folder / "test" / "loose.png")
    table = read_folder(folder).annotations.open()
    assert table.loc[table["id"] == "test/loose.png", "anomaly_class"].tolist() == [UNLABELLED]


def test_what_cannot_be_used_is_skipped_and_counted(folder):
    (folder / "train" / "good" / "bad.png").write_text("no image")
    (folder / "train" / "good" / "Thumbs.db").touch()
    (folder / "test" / "hole" / "empty.png").touch()
    (folder / "test" / "scratch").mkdir()
    category = read_folder(folder)
    reasons = " ".join(category.skipped.values())
    assert len(category.skipped) == 4
    for reason in (
        "bad.png cannot be read",
        "Thumbs.db is not an image",
        "empty.png is empty",
        "scratch holds no images",
    ):
        assert reason in reasons
    assert {part: len(table) for part, table in parts(category).items()} == {"train": 14, "test": 12}


def test_a_mask_of_another_size_is_skipped_and_counted(folder):
    path = folder / "ground_truth" / "hole" / "002_mask.png"
    Image.new("L", (10, 10)).save(path)
    (folder / "ground_truth" / "hole" / "003_mask.png").write_text("no mask")
    category = read_folder(folder)
    assert "10 x 10 pixels, its image 64 x 64" in category.skipped[str(path)]
    assert len(category.skipped) == 2
    rows = parts(category)["test"].index
    assert sum(mask is None for mask in category.masks(rows, 32)) == 2


def test_a_mask_that_was_changed_after_reading_is_an_error(folder):
    category = read_folder(folder)
    Image.new("L", (10, 10)).save(folder / "ground_truth" / "hole" / "002_mask.png")
    with pytest.raises(DataError, match=r"hole/002\.png has 10 x 10"):
        category.masks(range(26), 32)


def test_another_layout_is_explained(tmp_path):
    with pytest.raises(DataError, match="has no folder train/good"):
        read_folder(tmp_path)


def test_one_training_image_is_too_few(folder):
    for path in sorted((folder / "train" / "good").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="fewer than 2"):
        read_folder(folder)
