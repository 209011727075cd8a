"""The smallest profile on a card against the CPU: `make gpu`. Writes what each study took to ``results/gpu.csv``."""

import csv
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.test_device import STUDIES

from anomaly_transfer import device, provenance
from anomaly_transfer.app.inspection import evaluate
from anomaly_transfer.features.extraction import forward_function
from anomaly_transfer.store import Store
from anomaly_transfer.studies import detection, recheck

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA card here"),
]
TABLE = Path(__file__).parents[1] / "results" / "gpu.csv"
COLUMNS = (
    "what",
    "seconds on cpu",
    "seconds on cuda",
    "peak MB on cuda",
    "largest difference",
    "card",
    "cores",
    "date",
)
#: Of pooled features, relative: sums of single precision in another order.
FEATURES = 1e-4


@pytest.fixture(scope="module")
def taken():
    """Rows of the table, written when all have run."""
    rows = []
    yield rows
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def timed(compute, name, tmp_path, monkeypatch):
    """What something gives with a device and an empty store, and the seconds that it took."""
    monkeypatch.setenv(device.VARIABLE, name)
    start = time.perf_counter()
    found = compute(Store(tmp_path / name))
    if name == "cuda":
        torch.cuda.synchronize()
    return found, time.perf_counter() - start


def compared(what, compute, tmp_path, monkeypatch, taken):
    """Run on both, keep what it took, and compare to the tolerance of a rerun."""
    here, seconds = timed(compute, "cpu", tmp_path, monkeypatch)
    torch.cuda.reset_peak_memory_stats()
    there, on_card = timed(compute, "cuda", tmp_path, monkeypatch)
    (row,) = recheck.diff([there], [here]).itertuples()
    peak = round(torch.cuda.max_memory_allocated() / 2**20)
    card, cores = torch.cuda.get_device_name(), os.cpu_count()
    taken.append(
        (what, f"{seconds:.1f}", f"{on_card:.1f}", peak, f"{row.difference:.1g}", card, cores, provenance.now()[:10])
    )
    assert there.provenance.device == "cuda"
    assert there.provenance.engine == "eager" or what == "svm-pixels"
    assert row.state == "same", row


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_on_a_card(study, tmp_path, monkeypatch, taken):
    run, variant, *where = STUDIES[study]
    compared(study, lambda store: run(*where, variant, 0, "smoke", store), tmp_path, monkeypatch, taken)


@pytest.mark.parametrize(
    "method", ["gaussian", "neighbours", "svm-pixels", "patch-gaussian", "patch-memory", "combined"]
)
def test_a_detector_on_a_card(method, tmp_path, monkeypatch, taken):
    compared(
        method,
        lambda store: detection.run("surfaces", "brick", method, 0, "smoke", store),
        tmp_path,
        monkeypatch,
        taken,
    )


def test_features_on_a_card(lite0):
    batch = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    here, there = (forward_function(lite0, device=name, engine="eager")(batch) for name in ("cpu", "cuda"))
    for a, b in zip(here, there, strict=True):
        assert np.allclose(a, b, rtol=FEATURES, atol=FEATURES * np.abs(a).max())
    assert lite0.device.type == "cpu"


def test_a_folder_on_a_card(mvtec_folder, tmp_path, monkeypatch):
    found = []
    for name in ("cpu", "cuda"):
        monkeypatch.setenv(device.VARIABLE, name)
        report = evaluate(
            mvtec_folder, tmp_path / name, "combined", "efficientnet_lite0", 96, store=Store(tmp_path / f"s-{name}")
        )
        found.append(report["metrics"]["all"]["auroc"]["value"])
    assert found[0] == pytest.approx(found[1], abs=recheck.FROZEN)


def test_too_little_memory_on_a_card_is_one_sentence(lite0):
    from anomaly_transfer.errors import DeviceError

    with pytest.raises(DeviceError, match="lower the image size"), device.memory_for("all of it", "the image size"):
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
