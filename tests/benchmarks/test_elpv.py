import importlib.util

import pytest

from anomaly_transfer import benchmarks
from anomaly_transfer.errors import DataError

elpv = benchmarks.get("elpv")


@pytest.fixture(scope="module")
def tables():
    return {name: elpv.load(name).annotations.open() for name in elpv.categories}


def test_counts_are_the_published_ones(tables):
    """Deitsch et al. (2019): 2,624 cells, 1,074 mono and 1,550 poly; grades as in the data set's README."""
    counts = {name: table["anomaly_class"].value_counts().to_dict() for name, table in tables.items()}
    assert counts["mono"] == {"normal": 588, "p = 1/3": 117, "p = 2/3": 56, "p = 1": 313}
    assert counts["poly"] == {"normal": 920, "p = 1/3": 178, "p = 2/3": 50, "p = 1": 402}


def test_groups_are_the_contiguous_runs(tables):
    assert tables["mono"].groupby("group").size().to_dict() == {
        "cells 1-60": 60,
        "cells 361-540": 180,
        "cells 901-1614": 714,
        "cells 2145-2216": 72,
        "cells 2397-2444": 48,
    }
    assert len(tables["poly"]["group"].unique()) == 5


def test_images_are_in_the_order_of_the_annotations():
    category = elpv.load("mono", limit=40)
    assert [path.name for path in category.images.paths] == [
        name.split("/")[-1] for name in category.annotations.open()["id"]
    ]
    assert category.images[0].size == (300, 300)


def test_a_limit_keeps_every_run_and_grade(tables):
    thin = elpv.load("mono", limit=240).annotations.open()
    assert 200 <= len(thin) <= 280
    pairs = {tuple(row) for row in thin[["group", "anomaly_class"]].to_numpy()}
    assert pairs == {tuple(row) for row in tables["mono"][["group", "anomaly_class"]].to_numpy()}


def test_unknown_names_list_the_choices():
    with pytest.raises(ValueError, match="mono, poly"):
        elpv.load("thin film")
    with pytest.raises(ValueError, match="elpv"):
        benchmarks.get("solar")


def test_a_missing_package_names_the_fix(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert elpv.available() == ()
    with pytest.raises(DataError, match="pip install elpv-dataset"):
        elpv.load("mono")


def test_published_counts_are_kept_with_the_benchmark(tables):
    for name, table in tables.items():
        assert table["anomaly_class"].value_counts().to_dict() == elpv.published(name)
