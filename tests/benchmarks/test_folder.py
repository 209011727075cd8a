import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from anomaly_transfer.benchmarks.folder import UNLABELLED, read_folder
from anomaly_transfer.errors import DataError

BYTES = pytest.mark.skipif(sys.platform != "linux", reason="only here a file's name may be any bytes")


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
    (folder / "train" / "good" / "notes.txt").touch()
    (folder / "test" / "hole" / "empty.png").touch()
    (folder / "test" / "scratch").mkdir()
    category = read_folder(folder)
    reasons = " ".join(category.skipped.values())
    assert len(category.skipped) == 4
    for reason in (
        "bad.png cannot be read",
        "notes.txt is not an image",
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


def counts(category):
    return {part: table["anomaly_class"].value_counts().to_dict() for part, table in parts(category).items()}


WHOLE = {"train": {"normal": 14}, "test": {"normal": 6, "hole": 6}}


def moved(folder, into, keep=0):
    """Move the images of a folder one down, or elsewhere, but for the first ones."""
    for path in sorted(path for path in folder.iterdir() if path.is_file())[keep:]:
        into.mkdir(parents=True, exist_ok=True)
        path.rename(into / path.name)


def test_images_in_sub_folders_count(folder):
    moved(folder / "train" / "good", folder / "train" / "good" / "monday" / "camera 2", keep=5)
    moved(folder / "test" / "good", folder / "test" / "good" / "cam1")
    moved(folder / "test" / "hole", folder / "test" / "hole" / "cam1", keep=3)
    category = read_folder(folder)
    assert counts(category) == WHOLE
    assert sum(mask is not None and mask.any() for mask in category.masks(range(26), 64)) == 6
    assert not category.skipped


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".hidden"])
def test_what_systems_leave_is_no_class_and_no_image(folder, name):
    for place in (folder / "test", folder / "test" / "hole", folder / "train" / "good", folder / "ground_truth"):
        shutil.copytree(folder / "test" / "good", place / name)
    for place in (folder / "test" / "good", folder / "train", folder):
        (place / "._000.png").write_bytes(b"no picture")
        (place / "Thumbs.db").touch()
        (place / ".DS_Store").touch()
    category = read_folder(folder)
    assert counts(category) == WHOLE
    assert "6 image(s) in it do not count" in category.skipped[str(folder / "test" / name)]
    assert len(category.skipped) == 4 + 3, "the copies, and what calls itself a PNG file"


@pytest.mark.parametrize("name", ["OK", "Good", "good ", "No defect", "normal", "IO"])
def test_usual_words_for_good_are_normal(folder, name):
    for part in ("train", "test"):
        (folder / part / "good").rename(folder / part / name)
    assert counts(read_folder(folder)) == WHOLE


@pytest.mark.parametrize("name", ["not good", "NG", "bad", "flawless", "ok2", "n.i.O."])
def test_other_words_are_classes(folder, name):
    (folder / "test" / "hole").rename(folder / "test" / name)
    assert counts(read_folder(folder))["test"] == {"normal": 6, name: 6}


def test_parts_may_be_written_large(folder):
    for part in ("train", "test"):
        (folder / part).rename(folder / part.upper())
    category = read_folder(folder)
    assert counts(category) == WHOLE
    assert sum(mask is not None and mask.any() for mask in category.masks(range(26), 64)) == 6


def test_every_image_that_does_not_count_is_named(folder):
    (folder / "documents").mkdir()
    (folder / "documents" / "notes.txt").touch()
    for place in ("train/bad", "val/good", "validation"):
        shutil.copytree(folder / "test" / "good", folder / place)
    for place in ("train/loose.png", "loose.png"):
        shutil.copy(folder / "test" / "good" / "000.png", folder / place)
    (folder / "test" / "hole" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "test" / "hole" / "round").symlink_to(folder / "test")
    pages = [Image.fromarray(np.full((64, 64), value, np.uint8)) for value in (10, 20, 30)]
    pages[0].save(folder / "test" / "hole" / "pages.tif", save_all=True, append_images=pages[1:])
    (folder / "licence.txt").touch()
    category = read_folder(folder)
    assert counts(category) == WHOLE | {"test": {"normal": 6, "hole": 7}}
    for name, why in {
        "train/bad": "6 image(s) that are not used",
        "val": "6 image(s) that are not used",
        "validation": "6 image(s) that are not used",
        "train/loose.png": "not used",
        "loose.png": "not used",
        "test/hole/gone.png": "a link to nothing",
        "test/hole/round": "a link to a folder that it lies in",
        "test/hole/pages.tif": "holds 3 pictures: only the first is used",
    }.items():
        assert why in category.skipped[str(folder / name)]
    assert len(category.skipped) == 8


def test_folders_by_verdict_are_told_what_to_do(folder, tmp_path):
    other = tmp_path / "by verdict"
    shutil.copytree(folder / "train" / "good", other / "OK")
    shutil.copytree(folder / "test" / "hole", other / "NG")
    (other / "documents").mkdir()
    next((other / "OK").iterdir()).rename(other / "OK" / "000.heic")
    with pytest.raises(DataError) as error:
        read_folder(other)
    assert "OK (14 images), NG (6 images)" in str(error.value)
    assert "Make train/good and move most images of OK into it" in str(error.value)
    assert "NG to test/NG" in str(error.value)


def test_a_training_folder_without_good_is_told_what_to_do(folder):
    moved(folder / "train" / "good", folder / "train")
    (folder / "train" / "good").rmdir()
    with pytest.raises(DataError, match="Make the folder train/good and move the normal images"):
        read_folder(folder)


def test_loose_images_are_told_what_to_do(folder, tmp_path):
    shutil.copytree(folder / "train" / "good", tmp_path / "loose")
    with pytest.raises(DataError, match="but 14 images: move them to train/good"):
        read_folder(tmp_path / "loose")


def painted(mask, way):
    """A mask, bool array, as somebody paints it."""
    mask = mask.astype(np.uint8)
    colour = np.zeros((*mask.shape, 4), np.uint8)
    if way == "one":
        return Image.fromarray(mask)
    if way == "red":
        colour[mask > 0, 0] = 255
        return Image.fromarray(colour[..., :3].copy())
    if way == "dark blue":
        colour[mask > 0, 2] = 1
        return Image.fromarray(colour[..., :3].copy())
    if way == "alpha on white":
        colour[..., :3], colour[..., 3] = 255, mask * 120
        return Image.fromarray(colour)
    if way == "alpha, all black":
        colour[..., 3] = mask * 255
        return Image.fromarray(colour)
    if way == "opaque":
        colour[..., 3] = 255
        colour[mask > 0, 1] = 9
        return Image.fromarray(colour)
    if way == "sixteen bits":
        return Image.fromarray(mask.astype(np.uint16) * 200)
    if way == "one bit":
        return Image.fromarray(mask * 255).convert("1")
    image = Image.fromarray(mask)
    image = image.convert("P")
    image.putpalette({"palette": [0, 0, 0, 128, 0, 0], "palette without black": [68, 1, 84, 253, 231, 36]}[way])
    return image


WAYS = [
    "one",
    "red",
    "dark blue",
    "alpha on white",
    "alpha, all black",
    "opaque",
    "sixteen bits",
    "one bit",
    "palette",
    "palette without black",
]


@pytest.mark.parametrize("way", WAYS)
def test_masks_count_however_they_are_painted(folder, way):
    right = read_folder(folder).masks(range(26), 64)
    for path in sorted((folder / "ground_truth" / "hole").iterdir()):
        painted(np.asarray(Image.open(path)) > 0, way).save(path)
    category = read_folder(folder)
    assert not category.skipped
    assert all(np.array_equal(*pair) for pair in zip(category.masks(range(26), 64), right, strict=True))


def test_noise_around_the_edges_of_a_jpeg_mask_does_not_count(folder):
    right = read_folder(folder).masks(range(26), 64)
    for path in sorted((folder / "ground_truth" / "hole").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"), quality=50)
        path.unlink()
    found = read_folder(folder).masks(range(26), 64)
    assert np.mean(np.stack(found) != np.stack(right)) < 0.002


@pytest.mark.parametrize(
    "name",
    [
        "ground_truth/hole/{}.png",
        "ground_truth/hole/{}_mask.bmp",
        "ground_truth/hole/{}.png_mask.png",
        "ground_truth/{}_mask.png",
        "ground_truth/test/hole/{}_mask.png",
        "Ground Truth/Hole/{}_MASK.PNG",
        "gt/hole/{}_gt.png",
        "masks/hole/{}.png",
        "mask/{}.png",
        "test/hole/masks/{}.png",
        "test/hole/{}_mask.png",
    ],
)
def test_masks_are_found_by_usual_names(folder, name):
    right = read_folder(folder).masks(range(26), 64)
    for path in sorted((folder / "ground_truth" / "hole").iterdir()):
        place = folder / name.format(path.name[:3])
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    category = read_folder(folder)
    assert counts(category) == WHOLE
    assert not category.skipped
    assert all(np.array_equal(*pair) for pair in zip(category.masks(range(26), 64), right, strict=True))


def test_a_mask_that_is_not_used_says_why(folder):
    masks = folder / "ground_truth" / "hole"
    Image.new("L", (64, 64)).save(masks / "000_mask.png")
    Image.new("L", (64, 64), 255).save(masks / "001_mask.png")
    shutil.copy(masks / "002_mask.png", masks / "002.png")
    shutil.copy(masks / "003_mask.png", masks / "elsewhere.png")
    (folder / "ground_truth" / "good").mkdir()
    shutil.copy(masks / "003_mask.png", folder / "ground_truth" / "good" / "000_mask.png")
    np.save(masks / "004_mask.npy", np.zeros(3))
    shutil.copy(folder / "test" / "hole" / "005.png", folder / "test" / "loose.png")
    shutil.copy(masks / "005_mask.png", folder / "ground_truth" / "loose_mask.png")
    category = read_folder(folder)
    for name, why in {
        "hole/000_mask.png": "it marks no pixel",
        "hole/001_mask.png": "it marks every pixel",
        "hole/002_mask.png": "test/hole/002.png has 2 masks",
        "hole/002.png": "test/hole/002.png has 2 masks",
        "hole/elsewhere.png": "no test image has its name",
        "good/000_mask.png": "test/good/000.png is normal and needs none",
        "hole/004_mask.npy": "holds arrays",
        "loose_mask.png": "of test/loose.png no class is known",
    }.items():
        assert why in category.skipped[str(folder / "ground_truth" / name)]
    assert len(category.skipped) == 8
    rows = parts(category)["test"].query("anomaly_class == 'hole'").index
    assert [mask is not None for mask in category.masks(rows, 64)] == [False] * 3 + [True] * 3


def test_a_mask_that_fits_two_images_is_not_used(folder):
    hole = folder / "test" / "hole"
    Image.open(hole / "000.png").save(hole / "000.jpg")
    shutil.copytree(hole, folder / "test" / "crack")
    mask = folder / "ground_truth" / "hole" / "001_mask.png"
    mask.rename(folder / "ground_truth" / "001_mask.png")
    category = read_folder(folder)
    assert (
        "it fits 2 images, test/hole/000.jpg, test/hole/000.png"
        in category.skipped[str(folder / "ground_truth" / "hole" / "000_mask.png")]
    )
    assert (
        "it fits 2 images, test/crack/001.png, test/hole/001.png"
        in category.skipped[str(folder / "ground_truth" / "001_mask.png")]
    )
    assert category.annotations.open()["id"].is_unique


def test_a_flat_mask_is_not_that_of_the_normal_image_of_its_name(folder):
    moved(folder / "ground_truth" / "hole", folder / "ground_truth")
    category = read_folder(folder)
    assert not category.skipped
    assert sum(mask.any() for mask in category.masks(range(26), 64)) == 6


@BYTES
def test_names_that_are_not_text_become_text(folder):
    hole = folder / "test" / "hole"
    (hole / "000.png").rename(os.fsdecode(os.fsencode(hole) + b"/t\xe9st\n.png"))
    (hole / "001.png").rename(hole / "größe 雪.png")
    (folder / "test" / "good").joinpath(os.fsdecode(b"\xff.txt")).touch()
    hole.rename(os.fsdecode(os.fsencode(folder / "test") + b"/h\xf6le"))
    category = read_folder(folder)
    table = category.annotations.open()
    assert "test/h%F6le/t%E9st%0A.png" in set(table["id"])
    assert "test/h%F6le/größe 雪.png" in set(table["id"])
    assert set(table["anomaly_class"]) == {"normal", "h%F6le"}
    text = "".join([*table["id"], *category.skipped, *category.skipped.values()])
    assert text.encode("utf-8"), "it can be written"


@pytest.mark.parametrize(("bits", "depth"), [(10, 10), (11, 12), (12, 12), (16, 16)])
def test_one_scale_for_all_images_of_a_folder(folder, bits, depth):
    rng = np.random.default_rng(0)
    for number, path in enumerate(sorted(folder.glob("t*/*/*.png"))):
        top = 2**bits if number == 20 else 2 ** (bits - 2)
        pixels = rng.integers(0, top, (64, 64), dtype=np.uint16)
        pixels[0, 0] = top - 1
        Image.fromarray(pixels).save(path)
    images = read_folder(folder).images
    assert images.bit_depth == depth
    brightest = [np.asarray(images[row]).max() for row in range(len(images))]
    white = round(255 * (2**bits - 1) / (2**depth - 1))
    assert sorted(set(brightest)) == [round(255 * (2 ** (bits - 2) - 1) / (2**depth - 1)), white]


def test_a_folder_of_pictures_that_cannot_be_read_names_each_reason_and_what_to_do(folder):
    for number, path in enumerate(sorted((folder / "train" / "good").iterdir())):
        path.rename(path.with_suffix((".heic", ".DNG", ".mp4")[number % 3]))
    with pytest.raises(DataError) as error:
        read_folder(folder)
    for told in ("5 .heic", "plug-in of Pillow: save it as PNG or JPEG", "5 .dng", "raw data", "4 .mp4", "film"):
        assert told in str(error.value)


@pytest.mark.parametrize("suffix", [".jfif", ".gif"])
def test_pictures_of_less_usual_suffixes_count(folder, suffix):
    for path in sorted((folder / "train" / "good").iterdir()):
        Image.open(path).save(path.with_suffix(suffix), "JPEG" if suffix == ".jfif" else "GIF")
        path.unlink()
    assert counts(read_folder(folder)) == WHOLE


def test_the_first_picture_of_a_gif_is_used_and_that_is_said(folder):
    pages = [Image.fromarray(np.full((64, 64), value, np.uint8)) for value in (10, 200)]
    pages[0].save(folder / "test" / "hole" / "moves.gif", save_all=True, append_images=pages[1:])
    category = read_folder(folder)
    assert "holds 2 pictures: only the first is used" in category.skipped[str(folder / "test" / "hole" / "moves.gif")]
    row = category.annotations.open()["id"].tolist().index("test/hole/moves.gif")
    assert np.asarray(category.images[row]).max() == 10
