import copy
import time
import tracemalloc

import numpy as np
import pytest

from anomaly_transfer.features.extraction import extract, forward_function, level_strides, map_levels
from anomaly_transfer.features.features import Features

openvino = pytest.importorskip("openvino", reason="the fast runtime is not installed")


def batch(n=4, side=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


@pytest.mark.parametrize("levels", [None, ("stage3", "stage5")])
@pytest.mark.parametrize("side", [64, 224])
def test_the_fast_runtime_equals_pytorch_at_every_level(lite0, levels, side):
    x = batch(3, side)
    fast, plain = (forward_function(lite0, levels, engine=engine)(x) for engine in ("openvino", "eager"))
    assert len(fast) == len(plain) == (9 if levels is None else 2 + 9)
    for a, b in zip(fast, plain, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def test_pooled_features_are_the_means_of_the_maps(lite0):
    x = batch()
    found = forward_function(lite0, lite0.levels, engine="eager")(x)
    for level, mean in zip(found[:9], found[9:], strict=True):
        assert np.allclose(mean, level.mean(axis=(2, 3)), atol=1e-5)


@pytest.mark.parametrize(("engine", "tolerance"), [("eager", 0), ("openvino", 1e-6)])
def test_pooled_features_do_not_depend_on_the_maps_of_the_same_pass(lite0, some_images, tmp_path, engine, tolerance):
    alone, maps, beside = (tmp_path / name for name in ("alone", "maps", "beside"))
    for folder in (alone, maps, beside):
        folder.mkdir()
    extract(some_images, lite0, 64, alone, engine=engine)
    extract(some_images, lite0, 64, maps, ("stage3", "stage5"), engine=engine, pooled=beside)
    assert {path.stem for path in maps.iterdir()} == {"stage3", "stage5"}
    for level in lite0.levels:
        found, expected = (np.load(folder / f"{level}.npy") for folder in (beside, alone))
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_a_runtime_that_cannot_convert_falls_back_with_a_warning(lite0, monkeypatch):
    monkeypatch.setattr(
        openvino, "convert_model", lambda *args, **kwargs: (_ for _ in ()).throw(RuntimeError("no such layer"))
    )
    # Levels of no other test: what a network was compiled to is kept.
    levels = ("stem", "head")
    with pytest.warns(UserWarning, match="no such layer"):
        fallen_back = forward_function(lite0, levels, device="cpu", engine="openvino")(batch(1))
    plain = forward_function(lite0, levels, device="cpu", engine="eager")(batch(1))
    assert all(np.array_equal(a, b) for a, b in zip(fallen_back, plain, strict=True))


def test_extraction_does_not_depend_on_the_batch_size(lite0, some_images, tmp_path):
    results = []
    for size in (3, 32):
        folder = tmp_path / str(size)
        folder.mkdir()
        extract(some_images, lite0, 64, folder, batch_size=size, engine="eager")
        results.append(np.load(folder / "stage7.npy"))
    assert results[0].shape == (14, 320)
    assert np.allclose(*results, atol=1e-4)


def test_memory_does_not_grow_with_the_number_of_images(lite0, some_images, tmp_path):
    """An image more costs no more than its place in a list; its pixels alone would be 12 kB, its features 10 kB."""
    peaks = {}
    for number in (112, 1120):
        many = some_images[np.arange(number) % len(some_images)]
        folder = tmp_path / str(number)
        folder.mkdir()
        tracemalloc.start()
        extract(many, lite0, 64, folder, levels=("stage3",), engine="eager")
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (peaks[1120] - peaks[112]) / (1120 - 112) < 1000, peaks


def test_strides_and_the_levels_of_patch_detectors(lite0):
    assert level_strides(lite0)["stem"] == 2
    assert level_strides(lite0)["head"] == 32
    assert map_levels(lite0) == ("stage3", "stage5")


def test_strides_are_found_wherever_the_weights_are(lite0):
    """Extraction on a GPU moves them there; the meta device stands in for it."""
    elsewhere = copy.copy(lite0)
    elsewhere.network = copy.deepcopy(lite0.network).to("meta")
    assert level_strides(elsewhere) == level_strides(lite0)


def test_rows_and_levels_can_be_chosen():
    features = Features.of(a=np.arange(10.0)[:, None], b=np.zeros((10, 2)))
    part = features.take(np.array([7, 3, 1])).take(np.array([2, 0]))
    assert part["a"].ravel().tolist() == [1, 7]
    assert part.select(["b"]).levels == ("b",)
    assert [len(piece) for piece in features.batches(4)] == [4, 4, 2]
    with pytest.raises(ValueError, match="choose from a, b"):
        features.select(["c"])


@pytest.mark.speed
def test_extraction_is_four_times_as_fast_as_the_plain_loop(lite0):
    """Native size, batches of 32, all nine levels; rounds in turn, median of the ratios."""
    x = batch(32, 224)
    functions = [forward_function(lite0, engine=engine) for engine in ("eager", "openvino")]
    ratios = []
    for _ in range(8):
        seconds = []
        for function in functions:
            started = time.perf_counter()
            function(x)
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[0] / seconds[1])
    median = float(np.median(ratios[1:]))
    print(f"median ratio {median:.1f}, all {np.round(ratios, 1)}")
    assert median >= 4
