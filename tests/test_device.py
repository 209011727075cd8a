"""Every study and every detector with the network on another device than the data."""

import numpy as np
import pytest
import torch
from tests.fake_device import NAME, FakeDevice

from anomaly_transfer import detectors, device, profiles, studies
from anomaly_transfer.app.inspection import evaluate
from anomaly_transfer.errors import DeviceError
from anomaly_transfer.features import extraction
from anomaly_transfer.networks import backbones
from anomaly_transfer.store import Store
from anomaly_transfer.studies import (
    decisions,
    deep_one_class,
    detection,
    few_shot,
    finetuning,
    linear_probe,
    localisation,
    normal_similarity,
    paired_networks,
    supervised,
)
from anomaly_transfer.training import mahalanobis

# What PyTorch says of the meta device itself; here the values do arrive.
pytestmark = pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")

#: One variant of each study that uses all that the study has of networks, and data.
STUDIES = {
    "normal_similarity": (normal_similarity.run, "imagenet+normal", "surfaces", "brick"),
    "few_shot": (few_shot.run, "imagenet", "surfaces", "brick"),
    "paired_networks": (paired_networks.run, "random", "elpv", "mono"),
    "finetuning": (finetuning.run, "euclidean-anchored", "surfaces", "brick"),
    "finetuning, crossed": (finetuning.run, "statistics-crossed", "surfaces", "brick"),
    "localisation": (localisation.run, finetuning.DEFAULT, "surfaces", "brick"),
    "deep_one_class": (deep_one_class.run, "svdd-scratch", "surfaces", "brick"),
    "deep_one_class, negatives": (deep_one_class.run, "negatives-random", "surfaces", "brick"),
    "deep_one_class, compactness": (deep_one_class.run, "compact-imagenet", "surfaces", "brick"),
    "linear_probe": (linear_probe.run, "random", "surfaces", "brick"),
    "supervised": (supervised.run, "imagenet-whole-focal", "surfaces", "brick"),
    "decisions": (decisions.run, "network-all", "surfaces", "brick"),
}
#: Any other by its default; those of detectors alone are tried detector by detector below.
OF_DETECTORS = {"detection", "comparison", "anomalib_comparison"}
STUDIES |= {
    name: (studies.get(name).run, studies.get(name).default, "surfaces", "brick")
    for name in studies.names()
    if name not in STUDIES and name not in OF_DETECTORS
}


@pytest.fixture
def tiny(monkeypatch):
    """The smoke profile, smaller still, with the engine that every device has."""
    sizes = profiles.get("smoke").model_copy(
        update={"image_size": 32, "bootstrap": 50, "memory_bank": 20, "sample": 10, "tuned_test": 8}
    )
    monkeypatch.setattr(profiles, "get", lambda name=None: sizes)
    monkeypatch.setattr(extraction, "default_engine", lambda device: "eager")
    # The last digit of a sum hangs on how many are summed together.
    monkeypatch.setattr(extraction, "BATCH", dict.fromkeys(extraction.BATCH, 8))


@pytest.fixture
def away(monkeypatch):
    """Compute on a device that is not the CPU."""
    monkeypatch.setenv(device.VARIABLE, NAME)
    with FakeDevice():
        yield


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store for the CPU and one for the other device, so that features are extracted once on each."""
    return [Store(tmp_path_factory.mktemp(name)) for name in ("here", "there")]


def on_both(compute, stores, monkeypatch):
    """What something gives on the CPU, and on a device elsewhere."""
    here = compute(stores[0])
    monkeypatch.setenv(device.VARIABLE, NAME)
    with FakeDevice():
        there = compute(stores[1])
    return here, there


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_gives_the_same_on_another_device(study, tiny, stores, monkeypatch):
    run, variant, *where = STUDIES[study]
    here, there = on_both(lambda store: run(*where, variant, 0, "smoke", store), stores, monkeypatch)
    assert there.rows == here.rows
    assert there.provenance.device == NAME
    assert backbones.pretrained("efficientnet_lite0").device.type == "cpu", "the shared network was moved"


@pytest.mark.parametrize("method", sorted(detectors.methods()))
def test_a_detector_gives_the_same_on_another_device(method, tiny, stores, monkeypatch):
    here, there = on_both(
        lambda store: detection.run("surfaces", "brick", method, 0, "smoke", store), stores, monkeypatch
    )
    assert there.rows == here.rows
    assert there.facts == here.facts


def test_a_folder_is_evaluated_on_another_device(mvtec_folder, tmp_path, away):
    report = evaluate(mvtec_folder, tmp_path / "report", "gaussian", "efficientnet_lite0", 64)
    assert np.isfinite(report["metrics"]["all"]["auroc"]["value"])


def test_arguments_stay_where_they_are_and_results_come_back(lite0, some_images, away):
    before = {name: value.clone() for name, value in lite0.network.state_dict().items()}
    found = mahalanobis.gaussians(lite0, some_images, 32)
    assert {tensor.device.type for tensor in (*found.means, *found.whitenings)} == {"cpu"}
    assert mahalanobis.scores(lite0, found, some_images, 32).shape == (len(some_images), len(lite0.levels))
    assert set(mahalanobis.pooled(lite0, some_images, 32)) == set(lite0.levels)
    assert lite0.device.type == "cpu"
    assert all(torch.equal(value, before[name]) for name, value in lite0.network.state_dict().items())


def test_without_a_word_the_device_of_the_process_computes(lite0, some_images, away, monkeypatch):
    used, on = [], backbones.Backbone.on
    monkeypatch.setattr(backbones.Backbone, "on", lambda self, name: (used.append(str(name)), on(self, name))[1])
    mahalanobis.scores(lite0, mahalanobis.gaussians(lite0, some_images, 32), some_images, 32)
    mahalanobis.pooled(lite0, some_images, 32)
    assert len(used) >= 3
    assert set(used) == {NAME}
    used.clear()
    mahalanobis.pooled(lite0, some_images, 32, device="cpu")
    assert set(used) == {"cpu"}


def test_the_fake_device_refuses_what_a_real_one_refuses(away):
    there = torch.ones(3, device=NAME)
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError):
        there.numpy()
    assert torch.equal((there + 1).cpu(), torch.full((3,), 2.0))


def test_a_device_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setenv(device.VARIABLE, "gpu")
    with pytest.raises(DeviceError, match="no device 'gpu' here"):
        device.default_device()
    with pytest.raises(DeviceError, match=r"no device 'nonsense' here .*: use cpu"):
        device.use("nonsense")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory"), RuntimeError("x: can't allocate memory: 9 B")],
)
def test_too_little_memory_says_what_to_lower(error):
    with (
        pytest.raises(DeviceError, match=r"training at 380 px: lower the image size\."),
        device.memory_for("training at 380 px", "the image size"),
    ):
        raise error


def test_another_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes"), device.memory_for("this", "that"):
        raise RuntimeError("shapes differ")
