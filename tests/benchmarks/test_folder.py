import shutil

import numpy as np
import pytest

from anomaly_transfer.benchmarks.folder import UNLABELLED, read_folder, read_mask
from anomaly_transfer.errors import DataError


@pytest.fixture
def folder(mvtec_folder, tmp_path):
    return shutil.copytree(mvtec_folder, tmp_path / "own")


def test_reads_the_layout(folder):
    content = read_folder(folder)
    table = content.category.annotations.open()
    assert len(content.fold.train) == 14
    assert table["anomaly_class"].iloc[content.fold.test].value_counts().to_dict() == {"normal": 6, "hole": 6}
    assert (table["anomaly_class"].iloc[content.fold.train] == "normal").all()
    assert table.loc[table["anomaly_class"] == "hole", "mask"].str.endswith("_mask.png").all()
    assert not content.skipped


def test_loose_test_images_are_unlabelled(folder):
    shutil.copy(folder / "test" / "good" / "000.png", folder / "test" / "loose.png")
    table = read_folder(folder).category.annotations.open()
    assert table.loc[table["id"] == "test/loose.png", "anomaly_class"].tolist() == [UNLABELLED]


def test_unreadable_images_are_skipped_and_counted(folder):
    (folder / "train" / "good" / "bad.png").write_text("no image")
    (folder / "test" / "hole" / "empty.png").touch()
    content = read_folder(folder)
    assert len(content.skipped) == 2
    assert len(content.fold.train) == 14


def test_other_files_and_empty_classes_do_not_matter(folder):
    (folder / "train" / "good" / "Thumbs.db").touch()
    (folder / "test" / "scratch").mkdir()
    assert len(read_folder(folder).fold.test) == 12


def test_another_layout_is_explained(tmp_path):
    with pytest.raises(DataError, match="has no folder train/good"):
        read_folder(tmp_path)


def test_one_training_image_is_too_few(folder):
    for path in sorted((folder / "train" / "good").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="fewer than 2"):
        read_folder(folder)


def test_masks_are_brought_to_the_size_asked_for(folder):
    path = next((folder / "ground_truth" / "hole").iterdir())
    small, native = read_mask(path, (32, 32)), read_mask(path, (64, 64))
    assert small.dtype == bool
    assert small.shape == (32, 32)
    assert np.isclose(small.mean(), native.mean(), atol=0.01)
    assert native.sum() == 256
