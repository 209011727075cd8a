"""The doctor compares what is installed with the bounds of the package's metadata."""

import importlib.metadata

import pytest

from anomaly_transfer.app import doctor


@pytest.fixture
def installed(monkeypatch):
    """Metadata and installed versions that a test makes up."""

    def make(requires, versions):
        def version(name):
            if name not in versions:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
        monkeypatch.setattr(importlib.metadata, "version", version)
        return {check.name: check for check in doctor._packages()}

    return make


def test_a_version_below_its_bound_is_named_with_the_command_that_mends_it(installed):
    found = installed(["numpy>=2.0", "scipy>=1.15"], {"numpy": "1.26.4", "scipy": "1.15.0"})
    assert (found["numpy"].found, found["numpy"].fix) == ("1.26.4", 'pip install "numpy>=2.0"')
    assert found["numpy"].needed
    assert found["scipy"].fix is None


def test_what_is_missing_is_named_too(installed):
    found = installed(["torch>=2.3"], {})
    assert (found["torch"].found, found["torch"].fix) == ("missing", 'pip install "torch>=2.3"')


def test_versions_of_colab_and_releases_to_come_pass(installed):
    found = installed(["torch>=2.3", "numpy>=2.0"], {"torch": "2.8.0+cu126", "numpy": "2.5.0rc1"})
    assert [check.fix for check in found.values()] == [None, None]


def test_extras_count_only_where_they_are_installed(installed):
    requires = [
        "openvino>=2024.4; extra == 'fast'",
        "jupyter-book<2,>=1.0.4; extra == 'book'",
        "anomalib>=2.7; extra == 'peers'",
    ]
    found = installed(requires, {"openvino": "2026.4.1", "jupyter-book": "2.1"})
    assert list(found) == ["jupyter-book"]
    assert found["jupyter-book"].fix == 'pip install "jupyter-book<2,>=1.0.4"'
    assert not found["jupyter-book"].needed


def test_every_bound_is_met_here():
    assert [check for check in doctor._packages() if check.fix] == []
