import pytest

from anomaly_transfer import fingerprint as fp


@pytest.mark.parametrize(
    "same",
    [
        "def f(x):\n    return x + 1\n",
        'def f(x):\n    """Say more."""\n    # why\n    return x + 1\n',
        "def f(x):\n\n    return (x\n        + 1)\n",
    ],
)
def test_layout_comments_and_docstrings_do_not_count(same):
    assert fp.source_hash(same) == fp.source_hash("def f(x): return x + 1")


@pytest.mark.parametrize("other", ["def f(x): return x + 2", "def g(x): return x + 1", "def f(x, y=0): return x + 1"])
def test_meaning_counts(other):
    assert fp.source_hash(other) != fp.source_hash("def f(x): return x + 1")


def test_a_string_that_is_no_docstring_counts():
    assert fp.source_hash('x = "a"') != fp.source_hash('x = "b"')


def test_closure_follows_imports_and_parents():
    closure = fp.import_closure("anomaly_transfer.detectors.patch")
    assert {"anomaly_transfer", "anomaly_transfer.detectors", "anomaly_transfer.detectors.gaussian"} <= set(closure)
    assert "anomaly_transfer.features.extraction" in closure
    assert "anomaly_transfer.pages.plots" not in closure


def test_relative_imports_are_resolved():
    found = fp.imported_modules("from .base import Detector\nfrom .. import store", "anomaly_transfer.detectors.patch")
    assert {"anomaly_transfer.detectors.base", "anomaly_transfer.store"} <= found


def test_extraction_does_not_depend_on_detectors_plots_or_records():
    closure = fp.import_closure("anomaly_transfer.features.extraction")
    assert not [name for name in closure if name.split(".")[1:2] in (["detectors"], ["pages"], ["studies"])]


def test_one_detector_does_not_depend_on_another():
    assert "anomaly_transfer.detectors.nearest_neighbors" not in fp.import_closure(
        "anomaly_transfer.studies.detection", "anomaly_transfer.detectors.gaussian"
    )


def test_with_entries_counts_every_detector(monkeypatch):
    before = fp.code_hash("anomaly_transfer.studies.detection", with_entries=True)
    alone = fp.code_hash("anomaly_transfer.studies.detection")
    original = fp._hash_of
    monkeypatch.setattr(
        fp, "_hash_of", lambda name: "changed" if name.endswith("nearest_neighbors") else original(name)
    )
    assert fp.code_hash("anomaly_transfer.studies.detection", with_entries=True) != before
    assert fp.code_hash("anomaly_transfer.studies.detection") == alone


def test_what_the_face_hands_on_counts_where_it_is_imported_itself_and_nowhere_else(monkeypatch):
    assert not [name for name in fp.import_closure("anomaly_transfer.data.images") if ".app" in name]
    sources = (
        "import anomaly_transfer as at",
        "from anomaly_transfer import fit",
        "from anomaly_transfer import store",
    )
    modules = [fp.imported_modules(source, packages=False) for source in sources]
    before = [fp.code_hash(*found, with_entries=True) for found in modules]
    original = fp._hash_of
    monkeypatch.setattr(fp, "_hash_of", lambda name: "changed" if name.endswith("app.models") else original(name))
    after = [fp.code_hash(*found, with_entries=True) for found in modules]
    assert [old != new for old, new in zip(before, after, strict=True)] == [True, True, False]


def test_unknown_module_is_an_error():
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        fp.code_hash("anomaly_transfer.nowhere")


def test_distribution_hash_is_stable_and_none_if_absent():
    assert fp.distribution_hash("numpy") == fp.distribution_hash("numpy") != fp.distribution_hash("scipy")
    assert fp.distribution_hash("no-such-package-anywhere") is None


def test_tree_hash_sees_names_and_bytes_but_not_caches(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    first = fp.tree_hash(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    assert fp.tree_hash(tmp_path) == first
    (tmp_path / "a.txt").write_text("two")
    second = fp.tree_hash(tmp_path)
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    assert len({first, second, fp.tree_hash(tmp_path)}) == 3


def test_a_data_set_that_arrives_or_goes_is_noticed(tmp_path):
    empty = fp.listing_hash(tmp_path / "none")
    assert fp.listing_hash(tmp_path) == empty
    (tmp_path / "mnist.partial").mkdir()
    (tmp_path / ".mnist.lock").touch()
    assert fp.listing_hash(tmp_path) == empty, "half-made sets do not count"
    (tmp_path / "mnist").mkdir()
    one = fp.listing_hash(tmp_path)
    (tmp_path / "mnist" / "raw").mkdir()
    assert len({empty, one, fp.listing_hash(tmp_path)}) == 3
