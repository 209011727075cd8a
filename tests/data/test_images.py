import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anomaly_transfer.data.images import (
    ImageArray,
    ImageFiles,
    MaskArray,
    MaskFiles,
    duplicates,
    examine,
    read_image,
    resize_mask,
)
from anomaly_transfer.errors import DataError


def saved(tmp_path, array, name="x.png", mode=None, **kwargs):
    path = tmp_path / name
    image = Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)
    image.save(path, **kwargs)
    return path


GREY = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (32, 1))


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "LA", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = read_image(saved(tmp_path, GREY, mode=mode))
    assert image.mode == "RGB"
    assert image.size == (64, 32)


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    image = read_image(saved(tmp_path, np.repeat(GREY[..., None], 3, 2), "x.jpg", mode="CMYK", quality=95))
    assert image.mode == "RGB"
    assert abs(np.asarray(image)[..., 0].astype(int) - GREY).mean() < 4


def test_sixteen_bits_are_scaled_by_the_type_not_by_the_image(tmp_path):
    dark = (np.arange(64, dtype=np.uint16) * 100)[None].repeat(4, 0)
    values = np.asarray(read_image(saved(tmp_path, dark)))[0, :, 0]
    assert np.array_equal(values, np.round(dark[0] / 257).astype(np.uint8))


def test_transparency_is_laid_over_black(tmp_path):
    rgba = np.full((8, 8, 4), 255, np.uint8)
    rgba[:, :4, 3] = 0
    values = np.asarray(read_image(saved(tmp_path, rgba)))
    assert values[:, :4].max() == 0
    assert values[:, 4:].min() == 255


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(saved(tmp_path, GREY, "x.jpg", exif=exif)).size == (32, 64)


def test_missing_empty_truncated_and_foreign_files_each_say_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match="There is no image"):
        read_image(tmp_path / "none.png")
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(DataError, match="is empty"):
        read_image(empty)
    whole = saved(tmp_path, np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.png cannot be read"):
        read_image(tmp_path / "cut.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match=r"text\.png cannot be read"):
        read_image(tmp_path / "text.png")


def test_floating_point_pixels_are_refused(tmp_path):
    with pytest.raises(DataError, match="floating-point"):
        read_image(saved(tmp_path, np.zeros((4, 4), np.float32), "x.tif"))


def test_pixels_of_32_bits_are_refused(tmp_path):
    with pytest.raises(DataError, match="32-bit"):
        read_image(saved(tmp_path, np.full((4, 4), 200, np.int32), "x.tif"))


def test_fingerprint_follows_bytes_and_order_not_names(tmp_path):
    a, b = saved(tmp_path, GREY, "a.png"), saved(tmp_path, GREY[:, ::-1].copy(), "b.png")
    both = ImageFiles((a, b)).fingerprint
    assert ImageFiles((b, a)).fingerprint != both
    renamed = a.rename(tmp_path / "c.png")
    assert ImageFiles((renamed, b)).fingerprint == both


def test_subsets(tmp_path):
    paths = tuple(saved(tmp_path, GREY, f"{i}.png") for i in range(4))
    files = ImageFiles(paths)
    assert files[1:3].paths == paths[1:3]
    assert files[np.array([3, 0])].paths == (paths[3], paths[0])
    assert files[np.int64(2)].size == (64, 32)


def test_images_in_memory_are_images_too():
    grey = np.stack([GREY, GREY[:, ::-1], GREY])
    images = ImageArray(grey)
    assert images[0].mode == "RGB"
    assert np.array_equal(np.asarray(images[np.int64(1)])[..., 2], GREY[:, ::-1])
    assert len(images.take(np.array([2, 0]))) == 2
    assert images.fingerprint != ImageArray(grey[[0, 0, 1]]).fingerprint
    assert images.hashes[0] == images.hashes[2] != images.hashes[1]
    assert (
        ImageArray(np.zeros((1, 4, 8), np.uint8)).fingerprint != ImageArray(np.zeros((1, 8, 4), np.uint8)).fingerprint
    )
    with pytest.raises(DataError, match="uint8"):
        ImageArray(grey.astype(float))


def test_copies_across_train_and_test_are_found(tmp_path):
    arrays = {"a.png": GREY, "b.png": GREY.T.copy(), "c.png": GREY[:, ::-1].copy(), "copy of a.png": GREY}
    images = ImageFiles(tuple(saved(tmp_path, array, name) for name, array in arrays.items()))
    assert duplicates(images, np.array([0, 1]), np.array([2, 3])).tolist() == [3]
    assert duplicates(images, np.array([1]), np.array([2, 3])).tolist() == []


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = saved(tmp_path, GREY)

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    with pytest.raises(DataError, match="Permission denied"):
        read_image(path)
    with pytest.raises(DataError, match="Permission denied"):
        _ = ImageFiles((path,)).fingerprint


def test_a_huge_image_is_refused_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="cannot be read"):
        read_image(saved(tmp_path, GREY))


def test_masks_from_files_and_arrays(tmp_path):
    mask = GREY > 127
    files = MaskFiles((saved(tmp_path, GREY), None))
    assert np.array_equal(files[0], mask)
    assert files[1] is None
    assert files.take([1]).paths == (None,)
    assert files.fingerprint != files.take([1, 0]).fingerprint
    arrays = MaskArray(np.stack([mask, ~mask]))
    assert np.array_equal(arrays.take(np.array([1]))[0], ~mask)
    assert arrays.fingerprint != arrays.take(np.array([1, 0])).fingerprint


def test_masks_at_another_size_keep_their_share():
    mask = np.zeros((40, 60), bool)
    mask[10:20, 15:45] = True
    small = resize_mask(mask, (20, 20))
    assert small.shape == (20, 20)
    assert small.mean() == pytest.approx(mask.mean(), abs=0.01)


@given(st.integers(0, 10_000), st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 40)] * 2))
def test_no_defect_is_lost_at_another_size(seed, old, new):
    rng = np.random.default_rng(seed)
    mask = np.zeros(old, bool)
    pixel = rng.integers(old)
    mask[tuple(pixel)] = True
    found = np.argwhere(resize_mask(mask, new))
    if all(np.array(new) <= old):
        assert len(found) == 1, "each pixel belongs to one"
        assert all(abs((found[0] + 0.5) / new - (pixel + 0.5) / old) < 1 / np.array(new)), "where it was"
    assert not resize_mask(np.zeros(old, bool), new).any()
    assert resize_mask(np.ones(old, bool), new).all()


def test_spots_and_lines_survive_a_reduction_to_the_networks_size():
    mask = np.zeros((1024, 1024), bool)
    rng = np.random.default_rng(0)
    places = rng.integers(8, 1000, (12, 2))
    for row, column in places:
        mask[row : row + 3, column : column + 3] = True
    small = resize_mask(mask, (64, 64))
    assert all(small[row // 16, column // 16] for row, column in places)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_files_of_sixteen_are_scaled_by_what_they_can_be(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 64).round().astype(np.uint16)
    path = saved(tmp_path, values[None].repeat(4, 0))
    read = np.asarray(read_image(path, bits))[0, :, 0]
    assert np.array_equal(read, np.round(values * (255 / (2**bits - 1))).astype(np.uint8))
    assert examine(path).largest == 2**bits - 1


def test_images_read_in_two_ways_are_not_the_same(tmp_path):
    path = saved(tmp_path, GREY.astype(np.uint16) * 16)
    deep, plain = ImageFiles((path,) * 3, 12), ImageFiles((path,) * 3)
    assert deep.fingerprint != plain.fingerprint
    assert deep[1:].bit_depth == deep.take(np.array([0])).bit_depth == 12
    assert np.asarray(deep[1:][0]).max() > np.asarray(plain[0]).max()


def colour_of_16_bits(pixels):
    """A PNG file of 16 bits a channel, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colour_of_twelve_bits_in_sixteen_is_not_black(tmp_path):
    pixels = np.linspace(0, 4095, 64 * 3).reshape(1, 64, 3).repeat(4, 0).round()
    (tmp_path / "x.png").write_bytes(colour_of_16_bits(pixels))
    facts = examine(tmp_path / "x.png")
    assert facts.stored == "16-bit colour"
    assert 2048 <= facts.largest < 4096
    read = np.asarray(read_image(tmp_path / "x.png", 12)).astype(float)
    assert abs(read - pixels * 255 / 4095).max() < 20
    assert np.asarray(read_image(tmp_path / "x.png")).max() <= 16


def test_facts_of_a_file(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[306] = 6, "2026:03:01 12:00:00"
    facts = examine(saved(tmp_path, GREY, "x.jpg", exif=exif, quality=37))
    assert (facts.format, facts.stored, facts.width, facts.height) == ("JPEG", "8-bit grey", 32, 64)
    assert facts.quality == pytest.approx(37, abs=1)
    assert pd.Timestamp(facts.taken, unit="s") == pd.Timestamp("2026-03-01 12:00")
    again = saved(tmp_path, np.asarray(read_image(tmp_path / "x.jpg")), "x.png")
    assert examine(again).pixels == facts.pixels
    assert examine(saved(tmp_path, GREY, "y.png")).pixels != facts.pixels
    assert np.isnan(examine(again).quality)
    assert np.isnan(examine(again).taken)


def test_a_damaged_exif_block_or_later_page_does_not_lose_the_picture(tmp_path):
    exif = Image.Exif()
    exif[306] = "yesterday"
    assert np.isnan(examine(saved(tmp_path, GREY, "x.jpg", exif=exif)).taken)
    pages = [Image.fromarray(GREY) for _ in range(3)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    assert examine(tmp_path / "x.tif").pages == 3
    whole = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(whole[: len(whole) // 2])
    assert read_image(tmp_path / "x.tif").size == (64, 32)


def test_a_benchmarks_own_rule_for_masks_is_another_than_a_persons(tmp_path):
    path = saved(tmp_path, GREY)
    assert np.array_equal(MaskFiles((path,))[0], GREY > 127)
    assert np.array_equal(MaskFiles((path,), above=None)[0], GREY > 0)
    assert MaskFiles((path,)).fingerprint != MaskFiles((path,), above=None).fingerprint
