import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from anomaly_transfer import store as store_module
from anomaly_transfer.code_used import Code
from anomaly_transfer.device import engines
from anomaly_transfer.errors import StoreError
from anomaly_transfer.features import cached
from anomaly_transfer.store import Store

WORKER = """
import sys
from pathlib import Path
from anomaly_transfer.networks import backbones
from anomaly_transfer.data.images import ImageFiles
from anomaly_transfer.features import cached
from anomaly_transfer.store import Store
paths = tuple(sorted(Path(sys.argv[1]).iterdir())) * int(sys.argv[2])
print("ready", flush=True)
levels = sys.argv[3:] or None
network = backbones.load("efficientnet_lite0")
features = cached.features(Store(), ImageFiles(paths), network, 64, levels, engine="eager")
print("done", float(features[features.levels[-1]].sum()), flush=True)
"""


def worker(folder, times, *levels):
    command = [sys.executable, "-c", WORKER, str(folder), str(times), *levels]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def count_extractions(monkeypatch):
    calls = []
    original = cached.extract
    monkeypatch.setattr(cached, "extract", lambda *a, **k: (calls.append(a), original(*a, **k)))
    return calls


def test_features_are_extracted_once_and_mapped(store, lite0, some_images, count_extractions):
    first = cached.features(store, some_images, lite0, 64, engine="eager")
    again = cached.features(store, some_images, lite0, 64, engine="eager")
    assert len(count_extractions) == 1
    assert isinstance(again.arrays["head"], np.memmap)
    assert np.array_equal(first["head"], again["head"])


def test_maps_leave_the_pooled_features_of_the_same_pass(store, lite0, some_images, count_extractions, tmp_path):
    maps = cached.features(store, some_images, lite0, 64, ("stage3",), engine="eager")
    pooled = cached.features(store, some_images, lite0, 64, engine="eager")
    assert len(count_extractions) == 1
    assert maps.levels == ("stage3",)
    assert pooled.levels == lite0.levels
    other = Store(tmp_path / "other")
    assert pooled.fingerprint == cached.features(other, some_images, lite0, 64, engine="eager").fingerprint
    entries = [{path.name for path in (one.root / "features").iterdir()} for one in (store, other)]
    assert entries[1] < entries[0], "the key of pooled features is the same, whichever pass they come from"


def test_pooled_features_that_are_there_stay(store, lite0, some_images):
    cached.features(store, some_images, lite0, 64, engine="eager")
    entry = next((store.root / "features").iterdir())
    written = (entry / "entry.json").stat().st_mtime_ns
    cached.features(store, some_images, lite0, 64, ("stage3",), engine="eager")
    assert (entry / "entry.json").stat().st_mtime_ns == written
    assert store.sizes().loc["features", "entries"] == 2


def test_the_key_follows_images_size_levels_and_weights(store, lite0, some_images, count_extractions):
    cached.features(store, some_images, lite0, 64, engine="eager")
    cached.features(store, some_images[::-1], lite0, 64, engine="eager")
    cached.features(store, some_images, lite0, 96, engine="eager")
    cached.features(store, some_images, lite0, 64, ("stage3",), engine="eager")
    assert len(count_extractions) == 4
    assert store.sizes().loc["features", "entries"] == 4


def test_the_key_follows_the_extraction_code(store, lite0, some_images, count_extractions, monkeypatch):
    cached.features(store, some_images, lite0, 64, engine="eager")
    monkeypatch.setattr(cached, "code_of", lambda *places: Code({}, {}))
    cached.features(store, some_images, lite0, 64, engine="eager")
    assert len(count_extractions) == 2


def test_the_engine_of_stored_features_is_told_again(store, lite0, some_images):
    for _ in range(2):
        with engines() as outer, engines() as used:
            cached.features(store, some_images, lite0, 64, engine="eager")
        assert used == {"eager"}
    assert outer == {"eager"}, "what ran in an inner block ran in the outer one"
    with engines() as used:
        cached.pixels(store, some_images)
    assert used == set()


@pytest.mark.parametrize("damage", ["cut", "note", "missing"])
def test_a_damaged_entry_is_reported_and_computed_again(store, lite0, some_images, damage):
    good = cached.features(store, some_images, lite0, 64, engine="eager")["head"]
    entry = next((store.root / "features").glob("*"))
    if damage == "cut":
        (entry / "head.npy").write_bytes((entry / "head.npy").read_bytes()[:-8])
    elif damage == "note":
        (entry / "entry.json").write_text("{")
    else:
        (entry / "head.npy").unlink()
    with pytest.warns(UserWarning, match="damaged"):
        again = cached.features(store, some_images, lite0, 64, engine="eager")
    assert np.array_equal(again["head"], good)


@pytest.mark.parametrize("levels", [None, ("stage3",)])
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(store, lite0, some_images, monkeypatch, levels):
    def full(images, backbone, size, folder, *args, **kwargs):
        (folder / "stem.npy").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cached, "extract", full)
    with pytest.raises(StoreError, match="disk is full"):
        cached.features(store, some_images, lite0, 64, levels)
    assert list((store.root / "features").iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path, lite0, some_images):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("this machine does not allow mounting")
    try:
        with pytest.raises(StoreError, match="disk is full"):
            cached.features(Store(disk), some_images, lite0, 64, engine="eager")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_store_that_cannot_be_written_names_the_setting(tmp_path, lite0, some_images):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="ANOMALY_TRANSFER_STORE"):
        cached.features(Store(tmp_path / "file"), some_images, lite0, 64)


def test_two_processes_extract_the_same_features_once(store, mvtec_folder):
    workers = [worker(mvtec_folder / "train" / "good", 4) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in workers]
    assert [process.returncode for process in workers] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert store.sizes().loc["features", "entries"] == 1


def test_processes_that_share_a_pass_do_not_wait_in_a_circle(store, mvtec_folder):
    asked = [(), ("stage3",), ("stage5",), ("stage3",), ()]
    workers = [worker(mvtec_folder / "train" / "good", 4, *levels) for levels in asked]
    outputs = [process.communicate(timeout=120) for process in workers]
    assert [process.returncode for process in workers] == [0] * 5, outputs
    assert outputs[0][0] == outputs[4][0]
    assert outputs[1][0] == outputs[3][0]
    assert store.sizes().loc["features", "entries"] == 3


def test_a_kill_while_writing_leaves_no_entry_and_the_next_run_succeeds(store, mvtec_folder):
    folder = mvtec_folder / "train" / "good"
    process = worker(folder, 60)
    assert process.stdout.readline() == "ready\n"
    deadline = time.time() + 60
    while not list((store.root / "features").glob("*.partial/*.npy")) and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = [path.name for path in (store.root / "features").iterdir()]
    assert len(left) == 1
    assert left[0].endswith(".partial")
    # The key is the same for the whole run, so a second one must take over what the first left.
    short = worker(folder, 60)
    output, errors = short.communicate(timeout=120)
    assert short.returncode == 0, errors
    assert "done" in output
    assert not list((store.root / "features").glob("*.partial"))


def test_prune_removes_what_is_old_and_what_was_left(store, lite0, some_images):
    cached.features(store, some_images, lite0, 64, engine="eager")
    entry = next((store.root / "features").glob("*"))
    (store.root / "features" / "dead.partial").mkdir()
    assert store.prune(unused_days=1) == 0
    assert entry.exists()
    assert not (store.root / "features" / "dead.partial").exists()
    size = store.sizes().loc["features", "bytes"]
    assert store.prune() == size > 0
    assert store.sizes().loc["features", "entries"] == 0


def test_prune_leaves_alone_what_is_no_entry_and_what_is_being_written(store):
    kind = store.root / "features"
    kind.mkdir(parents=True)
    (kind / "stray.txt").write_text("mine")
    for name in ("held.partial", "done", "whole"):
        (kind / name).mkdir()
        (kind / name / "level.npy").write_bytes(b"12345")
    held = [store.locked("features", name) for name in ("held", "done")]
    for lock in held:
        lock.__enter__()
    begun = time.time()
    assert store.prune() == 5
    assert time.time() - begun < 5, "it waited for a writer"
    assert {path.name for path in kind.iterdir()} == {"stray.txt", "held.partial", "done"}
    for lock in held:
        lock.__exit__(None, None, None)
    assert store.prune() == 10


def test_prune_meets_a_writer_that_renames_its_entry(store, monkeypatch):
    """Between the listing and the look into it, the entry is published under another name."""
    kind = store.root / "features"
    (kind / "one.partial").mkdir(parents=True)
    (kind / "one.partial" / "level.npy").write_bytes(b"12345")
    original = store_module.FileLock

    class Late(original):
        def acquire(self, *args, **kwargs):
            if (kind / "one.partial").exists():
                (kind / "one.partial").rename(kind / "one")
            return super().acquire(*args, **kwargs)

    monkeypatch.setattr(store_module, "FileLock", Late)
    assert store.prune(unused_days=1) == 0
    assert (kind / "one" / "level.npy").exists()


def test_nothing_in_the_store_is_a_pickle(store, lite0, some_images):
    cached.features(store, some_images, lite0, 64, engine="eager")
    for file in (store.root / "features").glob("*/*.npy"):
        np.load(file, allow_pickle=False)
    shutil.rmtree(store.root)
