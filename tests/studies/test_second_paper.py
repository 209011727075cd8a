"""The protocol of the second paper's benchmark, in small: all but pixels, weights and sizes is as in `full`."""

import numpy as np
import pandas as pd
import pytest
import timm
from PIL import Image

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.analysis import ablation
from anomaly_transfer.networks import backbones
from anomaly_transfer.store import Store
from anomaly_transfer.studies import finetuning, localisation, protocol

FULL = profiles.get("full")
#: What makes it small.
SMALL = {
    "image_size": 32,
    "tuned_image_size": 32,
    "tuned_epochs": 1,
    "bootstrap": 50,
}


@pytest.fixture
def mvtec(tmp_path, monkeypatch):
    """Two categories laid out as MVTec AD's, and EfficientNet-B4 with weights that nobody had to download."""
    rng = np.random.default_rng(0)
    for category in ("bottle", "wood"):
        for part, kind, number in (("train", "good", 12), ("test", "good", 6), ("test", "bent", 6)):
            folder = tmp_path / "mvtec_ad" / category / part / kind
            folder.mkdir(parents=True)
            truth = tmp_path / "mvtec_ad" / category / "ground_truth" / kind
            for n in range(number):
                pixels = rng.integers(90, 160, (64, 64, 3), dtype=np.uint8)
                if kind == "bent":
                    mask = np.zeros((64, 64), np.uint8)
                    mask[20:40, 20 + n : 40 + n] = 255
                    pixels[mask > 0] = 250
                    truth.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(truth / f"{n:03}_mask.png")
                Image.fromarray(pixels).save(folder / f"{n:03}.png")
    monkeypatch.setenv("ANOMALY_TRANSFER_DATA", str(tmp_path))
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **settings: make(name, **settings))
    monkeypatch.setattr(profiles, "get", lambda name: FULL.model_copy(update=SMALL))
    backbones.pretrained.cache_clear()
    # Random weights differ from one building to the next.
    network = backbones.load(FULL.backbone)
    monkeypatch.setattr(backbones, "load", lambda name: network)
    yield
    backbones.pretrained.cache_clear()


def test_full_is_what_it_says():
    assert FULL.backbone == "tf_efficientnet_b4.aa_in1k"
    native = timm.get_pretrained_cfg(FULL.backbone).input_size
    assert native == (3, FULL.tuned_image_size, FULL.tuned_image_size)
    assert len(benchmarks.get("mvtec_ad").categories) == 15
    assert len(FULL.seeds) == 5
    assert (FULL.tuned_images, FULL.tuned_folds, FULL.tuned_test) == (0, 0, 0)


def test_categories_and_folds_come_to_a_mean_and_a_standard_error(mvtec, tmp_path):
    store = Store(tmp_path / "store")
    known = benchmarks.get("mvtec_ad")
    assert set(known.available()) == {"bottle", "wood"}
    found = [
        finetuning.run("mvtec_ad", category, finetuning.DEFAULT, 0, "full", store) for category in known.available()
    ]
    frame = pd.concat(record.frame() for record in found)
    assert set(frame[frame["kind"] == "curve"]["level"]) == {"sum", "stem", *(f"stage{n}" for n in range(1, 8)), "head"}
    rules = [finetuning.FROZEN, "validation"]
    reached = ablation.over_categories(frame, rules)
    assert list(reached["categories"]) == [2, 2]
    by_hand = frame[frame["measure"] == finetuning.FROZEN].groupby("category")["value"].mean()
    first = reached.loc[("mvtec_ad", finetuning.DEFAULT, finetuning.FROZEN)]
    assert first["mean"] == pytest.approx(by_hand.mean())
    assert first["sem"] == pytest.approx(by_hand.std() / np.sqrt(2))
    # The whole official test set, in every fold, and maps beside it.
    (fold,) = protocol.folds(known.load("wood"), 1, 0, 0)
    assert len(fold.test) == 12
    maps = localisation.run("mvtec_ad", "wood", finetuning.DEFAULT, 0, "full", store).frame()
    assert maps["value"].between(0, 1).all()
