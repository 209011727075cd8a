"""What a key contains: it moves with the code that a result comes from, and with nothing else."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly_transfer import code_used, detectors, fingerprint, studies
from anomaly_transfer.code_used import code_of, reached

PACKAGE = Path(fingerprint.__file__).parent

#: For each study and variant an edit of code that its numbers come from: (module, before, after).
COUNT = {
    ("normal_similarity", "imagenet"): (
        "benchmarks.reference",
        "SMALLEST, LARGEST = 0.4, 0.9",
        "SMALLEST, LARGEST = 0.5, 0.9",
    ),
    ("few_shot", "imagenet"): ("studies.few_shot", "RidgeClassifier(alpha=1.0)", "RidgeClassifier(alpha=9.0)"),
    ("paired_networks", "imagenet"): ("training.simclr", "TEMPERATURE = 0.2", "TEMPERATURE = 0.9"),
    ("finetuning", "mahalanobis"): (
        "training.pseudo_anomalies",
        "AREA, RATIO = (0.02, 0.15)",
        "AREA, RATIO = (0.2, 0.25)",
    ),
    ("localisation", "mahalanobis"): (
        "detectors.patch",
        "F.avg_pool2d(m, 3, stride=1, padding=1",
        "F.avg_pool2d(m, 1, stride=1, padding=0",
    ),
    ("deep_one_class", "svdd-scratch"): ("training.one_class", "FROM_ZERO = 0.1", "FROM_ZERO = 0.9"),
    ("linear_probe", "imagenet"): ("detectors.one_class_svm", "nu: float = 0.1", "nu: float = 0.4"),
    ("supervised", "imagenet-block"): (
        "training.classifier",
        "0.5 / share, 0.5 / (1 - share)",
        "0.9 / share, 0.5 / (1 - share)",
    ),
    ("decisions", "gaussian"): (
        "detectors.gaussian",
        "return self.level_distances(features).sum(axis=1)",
        "return self.level_distances(features).max(axis=1)",
    ),
    ("comparison", "combined"): ("detectors.nearest_neighbors", "k: int = 2", "k: int = 5"),
    ("anomalib_comparison", "combined"): ("detectors.anomalib", "CHANNELS = 100", "CHANNELS = 50"),
    ("detection", "gaussian-oas"): (
        "metrics.bootstrap",
        "np.percentile(samples[1:], [2.5, 97.5])",
        "np.percentile(samples[1:], [5, 95])",
    ),
}
#: Edits of code from which no number of these studies comes.
DO_NOT_COUNT = {
    "the downloader's patience": ("data.downloads", "timeout=TIMEOUT_SECONDS", "timeout=2 * TIMEOUT_SECONDS"),
    "another detector": (
        "detectors.isolation_forest",
        '"forest": ForestDetector',
        '"forest": partial(ForestDetector, levels=None)',
    ),
    "clearing the store": ("store", "freed = 0", "freed = 1"),
    "how a lock is held": ("store", "with FileLock(self.root", "with FileLock(timeout=99, lock_file=self.root"),
    "a figure": ("pages.plots", "def close(", "def closed("),
    "what an error says": ("data.images", "replace it or take it out", "take it out or replace it"),
    "an annotation": ("data.images", "def read_image(path: str | Path,", "def read_image(path: Path,"),
    "a docstring": ("features.extraction", "in constant memory", "in little memory"),
    "the command line": ("app.cli", "no_args_is_help=True", "no_args_is_help=False"),
}


def code(study, variant):
    return studies.get(study).code(variant)


def edited(monkeypatch, module, before, after):
    """The same package with one edit."""
    name, original = f"anomaly_transfer.{module}", fingerprint.module_source(f"anomaly_transfer.{module}")
    assert original.count(before) >= 1, f"{before!r} is no longer in {module}: choose another edit"
    with monkeypatch.context() as patch:
        patch.setattr(
            code_used,
            "module_source",
            lambda asked: original.replace(before, after) if asked == name else fingerprint.module_source(asked),
        )
        changed, unedited = code_used._Module(name), code_used._module
    monkeypatch.setattr(code_used, "_module", lambda asked: changed if asked == name else unedited(asked))
    code_used._code_of.cache_clear()


@pytest.fixture(autouse=True)
def forget():
    yield
    code_used._code_of.cache_clear()


def here(study):
    if study == "anomalib_comparison" and "anomalib-padim" not in detectors.methods():
        pytest.skip("anomalib is not installed")


@pytest.mark.parametrize(("study", "variant"), COUNT)
def test_a_key_moves_with_the_code_that_computes(study, variant, monkeypatch):
    here(study)
    before = code(study, variant)
    edited(monkeypatch, *COUNT[study, variant])
    after = code(study, variant)
    assert after.hash != before.hash
    assert after.moved(before) == [f"code of anomaly_transfer.{COUNT[study, variant][0]}"]


@pytest.mark.parametrize("what", DO_NOT_COUNT)
def test_no_key_moves_with_code_that_computes_nothing(what, monkeypatch):
    asked = [pair for pair in COUNT if pair[0] != "anomalib_comparison"]
    before = {pair: code(*pair).hash for pair in asked}
    edited(monkeypatch, *DO_NOT_COUNT[what])
    assert {pair: code(*pair).hash for pair in asked} == before


@pytest.mark.parametrize(
    "place",
    [
        "features.extraction:extract",
        "features.pixels:pixels",
        "training.mahalanobis:tune",
        "training.one_class:prepare",
        "training.simclr:train",
    ],
)
def test_what_the_store_keeps_does_not_move_with_the_downloader(place, monkeypatch):
    before = code_of(f"anomaly_transfer.{place}").hash
    edited(monkeypatch, *DO_NOT_COUNT["the downloader's patience"])
    assert code_of(f"anomaly_transfer.{place}").hash == before


@pytest.mark.parametrize(
    ("library", "study", "variant"),
    [
        ("timm", "detection", "gaussian"),
        ("torch", "finetuning", "mahalanobis"),
        ("scikit-learn", "detection", "svm"),
        ("scipy", "comparison", "combined"),
        ("pot", "normal_similarity", "imagenet"),
    ],
)
def test_a_key_moves_with_the_libraries_that_compute(library, study, variant, monkeypatch):
    before = code(study, variant)
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0" if name == library else version(name))
    code_used._code_of.cache_clear()
    after = code(study, variant)
    assert after.hash != before.hash
    assert after.moved(before) == [f"{library} {version(library).partition('+')[0]}, now 99.0"]


def test_a_key_does_not_move_with_other_libraries(monkeypatch):
    before = code("detection", "gaussian").hash
    version = importlib.metadata.version
    others = {"tqdm", "matplotlib", "captum", "pydantic", "openvino", "anomalib"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0" if name in others else version(name))
    code_used._code_of.cache_clear()
    assert code("detection", "gaussian").hash == before


def test_the_code_that_makes_pictures_of_comparison_counts_where_they_are_compared(monkeypatch):
    compared, others = (
        [("normal_similarity", "imagenet"), ("linear_probe", "imagenet")],
        [("finetuning", "mahalanobis"), ("detection", "svm")],
    )
    before = {pair: code(*pair).hash for pair in (*compared, *others)}
    edited(
        monkeypatch,
        "benchmarks.surfaces",
        "return np.stack(crops), np.array(groups)",
        "return np.stack(crops)[::-1], np.array(groups)",
    )
    assert [pair for pair in before if code(*pair).hash != before[pair]] == compared


def test_what_a_method_fixes_counts_and_what_its_neighbour_fixes_does_not(monkeypatch):
    before = {method: studies.get("detection").code(method).hash for method in ("gaussian", "gaussian-oas")}
    edited(
        monkeypatch,
        "detectors.gaussian",
        'partial(GaussianDetector, covariance="oas")',
        'partial(GaussianDetector, covariance="diagonal")',
    )
    assert studies.get("detection").code("gaussian").hash == before["gaussian"]
    assert studies.get("detection").code("gaussian-oas").hash != before["gaussian-oas"]


def test_a_method_is_reached_only_if_it_is_called():
    found = reached("anomaly_transfer.features.extraction:extract")
    assert "anomaly_transfer.networks.backbones:Backbone.preprocess" in found
    assert "anomaly_transfer.features.extraction:_Outputs.forward" in found, "PyTorch calls it"
    assert "anomaly_transfer.features.features:Features.select" not in found
    assert not [place for place in found if ".detectors" in place or ".downloads" in place]


def test_an_unknown_place_is_an_error():
    with pytest.raises(KeyError, match="no 'nowhere'"):
        code_of("anomaly_transfer.features.extraction:nowhere")
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        code_of("anomaly_transfer.nowhere:extract")


def test_a_detector_that_is_not_in_the_key_cannot_be_used():
    with detectors.only(["gaussian@stage6", "svm"]):
        assert detectors.make("gaussian").kind == "pooled"
        with pytest.raises(RuntimeError, match="'forest' is used by a study that does not name it"):
            detectors.make("forest")
    assert detectors.make("forest")


#: Runs one experiment of an edited copy of the package at the smallest size, and tells its key and its numbers.
RUN = """
import json, sys
from anomaly_transfer import profiles, studies
from anomaly_transfer.features import extraction
from anomaly_transfer.studies import recheck
sizes = profiles.get("smoke").model_copy(update={"image_size": 32, "bootstrap": 50, "memory_bank": 20, "sample": 10})
profiles.get = lambda name=None: sizes
extraction.default_engine = lambda device: "eager"
study, variant = sys.argv[1:]
where = ("elpv", "mono") if study == "paired_networks" else ("surfaces", "brick")
found = studies.get(study).run(*where, variant, 0, "smoke")
print(json.dumps([found.key, recheck.values(found)]))
"""


@pytest.mark.mutations
@pytest.mark.parametrize(("study", "variant"), COUNT)
def test_key_and_numbers_move_together(study, variant, tmp_path):
    """Really runs the edited package: an edit that counts changes both, one that does not changes neither."""
    here(study)

    def told(edit, name):
        lib = shutil.copytree(PACKAGE, tmp_path / name / "anomaly_transfer").parent
        if edit:
            module, before, after = edit
            path = lib / "anomaly_transfer" / f"{module.replace('.', '/')}.py"
            path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
        env = os.environ | {"PYTHONPATH": str(lib), "ANOMALY_TRANSFER_STORE": str(tmp_path / "store")}
        done = subprocess.run(
            [sys.executable, "-c", RUN, study, variant], env=env, capture_output=True, text=True, check=False
        )
        assert not done.returncode, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    key, numbers = told(None, "as-it-is")
    edited_key, edited_numbers = told(COUNT[study, variant], "edited")
    assert edited_key != key
    assert edited_numbers != numbers
    shutil.rmtree(tmp_path / "store")  # else they would be read, and not computed
    assert told(DO_NOT_COUNT["the downloader's patience"], "untouched") == [key, numbers]
