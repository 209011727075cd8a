"""Numbers of other work: complete, sourced, and never without their protocol."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from anomaly_transfer import benchmarks
from anomaly_transfer.claims import published

BIBLIOGRAPHY = (Path(__file__).parents[2] / "book" / "references.bib").read_text(encoding="utf-8")


def test_every_number_names_a_source_of_the_bibliography():
    keys = set(re.findall(r"^@\w+\{(\w+),", BIBLIOGRAPHY, re.MULTILINE))
    for number in published.numbers():
        assert number.source in keys, number


def test_every_benchmark_is_in_the_bibliography_and_cited_in_its_chapter():
    chapter = (Path(__file__).parents[2] / "notebooks" / "benchmarks.py").read_text(encoding="utf-8")
    for name in benchmarks.names():
        key = benchmarks.get(name).citation
        assert f"{{{key}," in BIBLIOGRAPHY, name
        assert key in chapter, name


def test_recalled_numbers_are_not_shown(monkeypatch):
    first = published.numbers()[0]
    recalled = first.model_copy(update={"verified": False, "method": "hearsay"})
    monkeypatch.setattr(published, "numbers", lambda: [first, recalled])
    assert published.table(first.dataset)["method"].tolist() == [first.method]


def test_per_cent_or_a_missing_protocol_is_refused():
    entry = published.numbers()[0].model_dump()
    with pytest.raises(ValidationError):
        published.Number(**entry | {"value": 90.6})
    with pytest.raises(ValidationError):
        published.Number(**entry | {"protocol": ""})
    with pytest.raises(ValidationError):
        published.Number(**entry | {"unit": "per cent"})
