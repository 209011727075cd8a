"""A person's own images, from a folder or in memory."""

import shutil

import numpy as np
import pytest

from anomaly_transfer.app import models
from anomaly_transfer.app.images import as_images, read_images
from anomaly_transfer.errors import DataError


def test_a_folder_is_read_at_any_depth_in_the_order_of_names(mvtec_folder):
    images = read_images(str(mvtec_folder / "test"))
    assert [path.relative_to(mvtec_folder / "test").as_posix() for path in images.paths] == [
        f"{kind}/{number:03}.png" for kind in ("good", "hole") for number in range(6)
    ]
    (one,) = read_images(mvtec_folder / "test" / "hole" / "003.png")
    assert one == images[9]


def test_what_is_left_out_of_a_folder_is_told(mvtec_folder, tmp_path):
    folder = shutil.copytree(mvtec_folder / "test" / "hole", tmp_path / "new")
    (folder / "broken.png").write_text("x")
    (folder / "notes.txt").write_text("x")
    with pytest.warns(UserWarning, match=r"new: Not used: 1 \.txt: The .* Not used: 1 \.png: The ") as told:
        assert len(read_images(folder)) == 6
    assert told[0].filename == __file__


@pytest.mark.parametrize("method", ["gaussian", "svm-pixels"])
def test_arrays_are_as_files(method, mvtec_folder, some_images, store):
    new = read_images(mvtec_folder / "test")
    pixels, unseen = (np.stack([np.asarray(image) for image in images]) for images in (some_images, new))
    of_files = models.fit(some_images, method, image_size=64, store=store).score(new, store)
    in_memory = models.fit(pixels, method, image_size=64, store=store)
    assert np.array_equal(in_memory.score(unseen, store), of_files)
    assert np.array_equal(in_memory.score(list(unseen), store), of_files)
    assert np.array_equal(in_memory.score(unseen[..., 0], store), of_files), "they are grey"


def test_arrays_in_a_list_may_have_different_sizes():
    sizes = [(20, 30), (30, 20), (10, 10)]
    images = as_images([np.full((*size, 3), number, np.uint8) for number, size in enumerate(sizes)])
    assert [image.size[::-1] for image in images] == sizes
    assert [image.size[::-1] for image in images.take(np.array([2, 0]))] == [sizes[2], sizes[0]]
    assert images[1:].hashes == images.hashes[1:]
    assert len(set(images.hashes)) == 3
    assert as_images(images) is images


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("wall", r"wall is a path: read its images first, with read_images"),
        ([], "There are no images"),
        (np.zeros((0, 8, 8, 3), np.uint8), "There are no images"),
        (np.zeros((8, 8, 3), np.uint8), r"shape \(8, 8, 3\) is one image, not a set of them: give image\[None\]"),
        (np.zeros((2, 8, 8, 4), np.uint8), "three channels, RGB, not 4"),
        ([np.zeros((8, 8, 4), np.uint8)], "three channels, RGB, not 4"),
        (np.zeros((2, 8, 8, 3)), "uint8 .*, not float64"),
        ([np.zeros((8, 8, 3))], "uint8 .*, not float64"),
    ],
)
def test_what_is_no_set_of_images_is_told(given, message):
    with pytest.raises(DataError, match=message):
        as_images(given)
