"""The loaders on the real data sets: each test skips where its data are not at hand (ANOMALY_TRANSFER_DATA)."""

import os
from pathlib import Path

import pytest

from anomaly_transfer import benchmarks, studies
from anomaly_transfer.benchmarks import crackforest, magnetic_tile, mvtec_features
from anomaly_transfer.benchmarks.fashion_mnist import FashionMNIST
from anomaly_transfer.benchmarks.idx import IdxSet
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.downloads import content_hash
from anomaly_transfer.fingerprint import file_hash
from anomaly_transfer.studies import detection

DATA, SYSTEM = os.environ.get("ANOMALY_TRANSFER_DATA"), FashionMNIST.system


@pytest.fixture
def real(monkeypatch):
    """A benchmark whose data are here, or a skip."""
    if DATA:
        monkeypatch.setenv("ANOMALY_TRANSFER_DATA", DATA)
    monkeypatch.setattr(FashionMNIST, "system", SYSTEM)

    def call(name):
        benchmark = benchmarks.get(name)
        if not benchmark.available():
            pytest.skip(f"{name} is not at hand")
        return benchmark

    return call


@pytest.mark.parametrize("name", sorted(set(benchmarks.names()) - {"mvtec_ad", "own"}))
def test_counts_are_the_published_ones(real, name):
    benchmark = real(name)
    for category in benchmark.available():
        published = benchmark.published(category)
        if published:
            counts = benchmark.load(category).annotations.open()["anomaly_class"].value_counts().to_dict()
            assert counts == published, category


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_are_the_official_ones(real, name, tmp_path):
    benchmark = real(name)
    assert isinstance(benchmark, IdxSet)
    import gzip

    for file, path in benchmark._files().items():
        plain = path
        if path.suffix == ".gz":
            plain = tmp_path / file
            plain.write_bytes(gzip.decompress(path.read_bytes()))
        assert file_hash(plain) == benchmark.unpacked[file]
    table = benchmark.load("0" if name == "mnist" else "coat").annotations.open()
    assert (table["part"] == "test").sum() == 10_000


@pytest.mark.parametrize("module", [magnetic_tile, crackforest], ids=lambda module: module.BENCHMARK.name)
def test_content_is_that_of_the_public_archive(real, module):
    folder = Path(real(module.BENCHMARK.name).folder)
    assert content_hash(folder, module.FILES) == module.CONTENT


def test_features_are_those_whose_checksums_are_known(real):
    benchmark = real("mvtec_features")
    for category in benchmark.available():
        assert file_hash(benchmark._path(category)) == mvtec_features.CHECKSUMS[category]


def test_views_of_magnetic_tiles(real):
    table = real("magnetic_tile").load("tile").annotations.open()
    views = table.groupby("group")
    # The views are not published: 1,344 images under six lights make 224; joined pieces make fewer groups.
    assert 200 <= views.ngroups <= 224
    assert (views["exposure"].nunique() == 6).mean() > 0.9
    copies = table[table["number"].isin([85602, 85998, 88149])]
    assert copies["group"].nunique() == 1, "near copies of one crack"


def test_masks_of_magnetic_tiles(real):
    category = real("magnetic_tile").load("tile")
    table = category.annotations.open()
    masks = category.masks(range(len(table)), 64)
    unknown = table[[mask is None for mask in masks]]
    assert unknown["anomaly_class"].tolist() == ["uneven"] * 4


def test_patches_of_roads(real):
    table = real("crackforest").load("road").annotations.open()
    assert table["group"].nunique() == 118
    assert table["anomaly_class"].value_counts().to_dict() == {NORMAL: 1653, "crack": 1086}


def test_a_resampled_copy_of_mvtec_ad_is_noted(real):
    benchmark = real("mvtec_ad")
    category = benchmark.available()[0]
    counts = benchmark.load(category).annotations.open()["anomaly_class"].value_counts()
    here = {NORMAL: int(counts[NORMAL]), "defective": int(counts.sum() - counts[NORMAL])}
    record = studies.run(detection.matrix(["neighbours@head"], "mvtec_ad", "laptop", [category])[0])
    assert ("published" in record.note) == (here != benchmark.published(category))
