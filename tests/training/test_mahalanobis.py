"""Fine-tuning on normal images: it learns, it is repeatable, it survives being killed, and it sees no label."""

import copy
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc

import numpy as np
import pytest
import torch
from tests.conftest import own_store  # noqa: F401
from tests.studies.test_protocol import category

from anomaly_transfer import atomic
from anomaly_transfer.benchmarks.reference import photographs
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import ImageArray, Images
from anomaly_transfer.detectors.gaussian import GaussianDetector, mahalanobis
from anomaly_transfer.errors import DataError, LabelLeakError, StoreError
from anomaly_transfer.features import extraction
from anomaly_transfer.features.extraction import extract
from anomaly_transfer.features.features import Features
from anomaly_transfer.networks import backbones
from anomaly_transfer.store import Store
from anomaly_transfer.training import early_stopping, loop, pseudo_anomalies
from anomaly_transfer.training import mahalanobis as objective
from anomaly_transfer.training.mahalanobis import MahalanobisRecipe as Recipe
from anomaly_transfer.training.mahalanobis import gaussians, scores, tune

SIDE = 32


@pytest.fixture(scope="module")
def normal():
    return photographs(24)


@pytest.fixture(scope="module")
def held_out():
    return photographs(10, seed=1)


def parameters(backbone):
    return torch.cat([p.detach().flatten() for p in backbone.network.parameters()])


def run(tmp_path, normal, held_out, lite0, seed=0, **settings):
    recipe = Recipe(**{"epochs": 2, "batch_size": 8, **settings})
    return tune(normal, held_out, lite0, SIDE, recipe, tmp_path / f"{seed}-{abs(hash(recipe))}", seed)


def test_the_objective_falls_and_only_the_copy_changes(tmp_path, normal, held_out, lite0):
    before = parameters(lite0).clone()
    found = run(tmp_path, normal, held_out, lite0, statistics="fixed", learning_rate=3e-6, epochs=4)
    assert torch.equal(parameters(lite0), before)
    assert found.epochs == 4
    assert (np.diff(found.losses()[1:]) < 0).all()
    assert found.losses()[-1] < found.losses()[0]
    tuned = found.network(4)
    assert not tuned.network.training
    moved = (parameters(tuned) - before).abs()
    assert 0 < moved.max() < 0.1
    assert found.network(0) is lite0
    # The loss is what it says: the mean distance of the normal images, summed over levels.
    frozen = scores(lite0, gaussians(lite0, normal, SIDE), normal, SIDE)
    assert found.losses()[0] == pytest.approx(frozen.sum(axis=1).mean(), rel=1e-3)


def test_the_same_seed_gives_the_same_network(tmp_path, normal, held_out, lite0):
    first, again, other = (
        run(tmp_path / name, normal, held_out, lite0, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.history == again.history
    assert first.network(2).fingerprint() == again.network(2).fingerprint() != other.network(2).fingerprint()


def test_a_run_goes_on_where_it_was_broken_off(tmp_path, normal, held_out, lite0, monkeypatch):
    whole = run(tmp_path, normal, held_out, lite0, epochs=3)
    note, folder = loop.Run._note, tmp_path / "broken"

    def breaks(self, loss):
        if self.epoch == 2:
            raise KeyboardInterrupt
        note(self, loss)

    monkeypatch.setattr(loop.Run, "_note", breaks)
    with pytest.raises(KeyboardInterrupt):
        tune(normal, held_out, lite0, SIDE, Recipe(epochs=3, batch_size=8), folder)
    monkeypatch.setattr(loop.Run, "_note", note)
    steps = []
    monkeypatch.setattr(loop.Run, "_one_epoch", lambda s, f=loop.Run._one_epoch: (steps.append(s.epoch), f(s))[1])
    found = tune(normal, held_out, lite0, SIDE, Recipe(epochs=3, batch_size=8), folder)
    assert steps == [1, 2]
    assert found.history == whole.history
    assert found.network(3).fingerprint() == whole.network(3).fingerprint()
    # And a finished one is not trained again.
    tune(normal, held_out, lite0, SIDE, Recipe(epochs=3, batch_size=8), folder)
    assert steps == [1, 2]


def test_killed_at_any_moment_it_ends_the_same(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from anomaly_transfer.networks import backbones
        from anomaly_transfer.training.mahalanobis import MahalanobisRecipe, tune
        from anomaly_transfer.benchmarks.reference import photographs
        print("ready", flush=True)
        found = tune(photographs(24), photographs(10, 1), backbones.load("efficientnet_lite0"), {SIDE},
                     MahalanobisRecipe(epochs=3, batch_size=8), Path(sys.argv[1]))
        print(found.network(3).fingerprint(), found.history)
        """
    )

    def started(folder):
        return subprocess.Popen(
            [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, env={**os.environ}, text=True
        )

    whole = started(tmp_path / "whole").communicate()[0]
    for wait in (1.5, 3.0):
        process = started(tmp_path / "killed")
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert started(tmp_path / "killed").communicate()[0] == whole


def test_statistics_of_the_normal_are_those_of_the_detector(tmp_path, normal, held_out, lite0):
    extract(normal, lite0, SIDE, tmp_path, engine="eager")
    arrays = {level: np.load(tmp_path / f"{level}.npy") for level in lite0.levels}
    detector = GaussianDetector().fit(Features.of(**arrays))
    ours = scores(lite0, gaussians(lite0, normal, SIDE), normal, SIDE)
    assert np.allclose(ours, detector.level_distances(Features.of(**arrays)), rtol=2e-3)


@pytest.mark.parametrize("statistics", ["epoch", "crossed", "score", "fixed"])
def test_statistics_follow_the_network_as_the_recipe_says(tmp_path, normal, held_out, lite0, statistics):
    recipe = Recipe(statistics=statistics, epochs=1, learning_rate=1e-3, batch_size=8)
    made = objective._Run(normal, held_out, lite0, SIDE, recipe, tmp_path, 0, "cpu")
    frozen, targets = made.gaussian, made.targets
    made.resume()
    made.train()
    assert (made.gaussian is frozen) == (statistics == "fixed")
    assert (made.targets is targets) == (statistics in ("score", "fixed"))


def test_distances_are_those_of_whitened_features():
    torch.manual_seed(0)
    means, whitenings = [torch.randn(3), torch.randn(5)], [torch.randn(3, 3), torch.randn(5, 5)]
    x = [torch.randn(7, 3), torch.randn(7, 5)]
    made = objective.Gaussians(means, whitenings)
    wanted = np.column_stack(
        [mahalanobis(*(a.double().numpy() for a in level)) for level in zip(x, means, whitenings, strict=True)]
    )
    assert np.allclose(made.distances(x), wanted, rtol=1e-4, atol=2e-3)
    arrays = {"low": x[0].numpy(), "high": x[1].numpy()}
    found = made.of(arrays)
    assert list(found) == ["low", "high"]
    assert np.allclose(np.column_stack([np.linalg.norm(a, axis=1) for a in found.values()]), wanted, rtol=1e-4)
    # At the mean itself the gradient stays finite.
    at = means[0].clone()[None].requires_grad_()
    objective.Gaussians(means[:1], whitenings[:1]).distances([at]).sum().backward()
    assert torch.isfinite(at.grad).all()


def test_crossed_statistics_pull_each_half_towards_the_other(tmp_path, normal, held_out, lite0):
    made = objective._Run(normal, held_out, lite0, SIDE, Recipe(statistics="crossed", batch_size=8), tmp_path, 0, "cpu")
    halves = [np.flatnonzero(made.target_of == half) for half in (0, 1)]
    assert [len(half) for half in halves] == [12, 12]
    expected = np.empty(len(normal))
    for half, other in (halves, halves[::-1]):
        of_other = gaussians(lite0, normal.take(other), SIDE)
        expected[half] = scores(lite0, of_other, normal.take(half), SIDE).sum(axis=1)
    assert made._loss_without_training() == pytest.approx(expected.mean(), rel=1e-3)
    # Not fitted on the images it is of: as far as held-out ones, not as near as fitted ones.
    flattered = scores(lite0, gaussians(lite0, normal, SIDE), normal, SIDE).sum(axis=1)
    assert expected.mean() > 1.5 * flattered.mean()


def test_a_squared_objective_is_the_mean_square(tmp_path, normal, held_out, lite0):
    made = objective._Run(normal, held_out, lite0, SIDE, Recipe(squared=True, batch_size=8), tmp_path, 0, "cpu")
    frozen = scores(lite0, gaussians(lite0, normal, SIDE), normal, SIDE)
    assert made._loss_without_training() == pytest.approx(np.square(frozen).sum(axis=1).mean(), rel=1e-3)


def test_levels_before_the_first_trained_one_stay(tmp_path, normal, held_out, lite0):
    tuned = run(tmp_path, normal, held_out, lite0, epochs=1, trained_from="stage5").network(1)
    changed = {
        name: not torch.equal(value, lite0.network.state_dict()[name])
        for name, value in tuned.network.state_dict().items()
    }
    assert not any(change for name, change in changed.items() if name.startswith(("conv_stem", "bn1", "blocks.3")))
    assert any(change for name, change in changed.items() if name.startswith("blocks.4"))
    assert any(change for name, change in changed.items() if name.startswith("conv_head"))


@pytest.mark.parametrize("level", [None, "stage5", loop.NOTHING])
def test_what_is_not_trained_has_no_gradient(lite0, level):
    copied = dataclasses.replace(lite0, network=copy.deepcopy(lite0.network))
    found = {id(parameter) for parameter in loop.trainable(copied, level)}
    assert {id(p) for p in copied.network.parameters() if p.requires_grad} == found
    assert bool(found) == (level != loop.NOTHING)


def test_a_training_is_kept_by_all_that_it_depends_on(tmp_path, normal, held_out, lite0):
    def folder(**other):
        given = {"images": (normal, held_out), "start": lite0, "image_size": SIDE, "recipe": Recipe(), "seed": 0}
        with loop.training_folder(
            Store(tmp_path), "anomaly_transfer.training.mahalanobis:tune", **given | other
        ) as found:
            return found

    others = [
        {"images": (held_out, normal)},
        {"start": backbones.untrained(lite0, 0)},
        {"image_size": 64},
        {"recipe": Recipe(learning_rate=1e-3)},
        {"seed": 1},
    ]
    assert folder() == folder()
    assert len({folder(), *(folder(**other) for other in others)}) == 6


def test_levels_of_a_network_that_timm_cuts(tmp_path):
    import timm

    from anomaly_transfer.networks.backbones import Backbone

    network = timm.create_model("resnet18", pretrained=False, features_only=True).eval()
    levels = tuple(network.feature_info.module_name())
    backbone = Backbone("resnet18", network, levels, 224, 1.0, (127.0,) * 3, (128.0,) * 3, "random", "0")
    stages = loop.stages(backbone)
    assert len(stages) == len(levels)
    assert sum(p.numel() for modules in stages for m in modules for p in m.parameters()) == sum(
        p.numel() for p in network.parameters()
    )
    assert stages[-1] == [network.layer4]


def test_batch_norms_keep_their_statistics_unless_they_are_trained(tmp_path, normal, held_out, lite0):
    for setting in ("frozen", "trained"):
        tuned = run(tmp_path, normal, held_out, lite0, epochs=1, batch_norm=setting).network(1)
        same = torch.equal(tuned.network.bn1.running_mean, lite0.network.bn1.running_mean)
        assert same == (setting == "frozen")


def test_the_anchor_adds_half_its_weight_times_the_squares_that_matter(tmp_path, normal, held_out, lite0):
    """Elastic weight consolidation: the penalty is that of the formula, and none where nothing has moved."""
    free, held = (
        objective._Run(normal, held_out, lite0, SIDE, Recipe(anchor=a), tmp_path / str(a), 0, "cpu") for a in (0.0, 3.0)
    )
    batch, rows = torch.zeros(2, SIDE, SIDE, 3), np.arange(2)
    with torch.no_grad():
        assert held.loss(batch, rows) == free.loss(batch, rows)
        for (parameter, _, _), other in zip(held.anchor, free.parameters, strict=True):
            parameter += 0.01
            other += 0.01
        wanted = 3 / 2 * sum((weight * 0.01**2).sum() for _, _, weight in held.anchor)
        assert wanted > 0
        assert float(held.loss(batch, rows) - free.loss(batch, rows)) == pytest.approx(float(wanted), rel=1e-2)


def test_an_anchor_holds_what_the_classes_depend_on(tmp_path, normal, held_out, lite0):
    settings = {"epochs": 1, "learning_rate": 1e-3, "covariance": "identity", "statistics": "score"}
    free, held = (run(tmp_path, normal, held_out, lite0, anchor=anchor, **settings).network(1) for anchor in (0.0, 1e6))
    made = objective._Run(normal, held_out, lite0, SIDE, Recipe(anchor=1.0), tmp_path / "anchor", 0, "cpu")
    weight = torch.cat([w.flatten() for _, _, w in made.anchor])
    assert weight.min() >= 0
    assert weight.max() > 0
    trained = {id(p): name for name, p in made.backbone.network.named_parameters()}
    names = [trained[id(p)] for p, _, _ in made.anchor]

    def drift(network):
        state = network.network.state_dict()
        pairs = zip(names, made.anchor, strict=True)
        return sum(float((w * (state[name] - origin).square()).sum()) for name, (_, origin, w) in pairs)

    assert drift(held) < 0.5 * drift(free)


def test_euclidean_compactness_shrinks_the_normal(tmp_path, normal, held_out, lite0):
    found = run(
        tmp_path, normal, held_out, lite0, covariance="identity", statistics="fixed", learning_rate=1e-4, epochs=3
    )
    assert found.losses()[-1] < 0.9 * found.losses()[0]


def test_validation_is_one_auroc_a_kind_level_and_epoch(tmp_path, normal, held_out, lite0):
    found = run(tmp_path, normal, held_out, lite0)
    rows = [row for row in found.history if row["measure"] in pseudo_anomalies.KINDS]
    assert len(rows) == 3 * len(pseudo_anomalies.KINDS) * (len(lite0.levels) + 1)
    assert all(0 <= row["value"] <= 1 for row in rows)
    assert len(found.validation()) == 3
    far = [row["value"] for row in found.history if row["measure"] == "held-out"]
    assert len(far) == 3
    # Images that were not trained on lie farther away.
    assert min(far) > max(found.losses())


def test_validation_says_one_half_of_copies_and_more_of_noise(tmp_path, normal, held_out, lite0, monkeypatch):
    monkeypatch.setattr(pseudo_anomalies, "stand_ins", lambda kind, images, seed: images)
    assert run(tmp_path / "copies", normal, held_out, lite0, epochs=0).validation() == [0.5]
    monkeypatch.setattr(pseudo_anomalies, "stand_ins", lambda kind, images, seed: 255 - 255 * (images % 2))
    assert run(tmp_path / "noise", normal, held_out, lite0, epochs=0).validation()[0] > 0.8


def test_patience_ends_a_run(tmp_path, normal, held_out, lite0, monkeypatch):
    values = iter([0.5, 0.9, 0.8, 0.7, 0.6, 0.5])
    note = loop.Run._note

    def noted(self, loss):
        note(self, loss)
        value = next(values)
        for row in self.history:
            if row["epoch"] == self.epoch and row["measure"] != "loss":
                row["value"] = value

    monkeypatch.setattr(loop.Run, "_note", noted)
    found = run(tmp_path, normal, held_out, lite0, epochs=5, patience=2)
    assert found.epochs == 3
    assert early_stopping.best(found.validation(), 2) == 1


def test_stopping_takes_the_first_of_equals_and_may_say_do_not_train():
    assert early_stopping.best([1.0, 1.0, 1.0]) == 0
    assert early_stopping.best([0.9, 0.8, 0.7, 0.95], patience=2) == 0
    assert early_stopping.best([0.9, 0.8, 0.7, 0.95], patience=4) == 3
    assert early_stopping.until([0.9, 0.8, 0.7, 0.95], patience=2) == 2


def test_no_label_can_be_read_on_the_way(tmp_path, held_out, lite0):
    annotations = category(np.arange(20).astype(str), np.repeat(NORMAL, 20)).annotations

    class Cheat(ImageArray):
        def __getitem__(self, row):
            annotations.open()
            return super().__getitem__(row)

    with pytest.raises(LabelLeakError):
        run(tmp_path, Cheat(photographs(8).pixels), held_out, lite0)


def test_two_images_and_two_to_validate_with_are_enough(tmp_path, normal, held_out, lite0):
    two = np.arange(2)
    found = run(tmp_path, normal.take(two), held_out.take(two), lite0, epochs=0)
    assert found.epochs == 0
    assert len(found.losses()) == 1


def test_bad_input_is_one_clear_error(tmp_path, normal, held_out, lite0):
    for few in ((normal.take(np.arange(1)), held_out), (normal, held_out.take(np.arange(1)))):
        with pytest.raises(DataError, match="at least two"):
            run(tmp_path, *few, lite0)
    with pytest.raises(ValueError, match="no level 'stage99'"):
        run(tmp_path, normal, held_out, lite0, levels=("stage99",))
    with pytest.raises(ValueError, match="no level 'top'"):
        run(tmp_path, normal, held_out, lite0, trained_from="top")
    with pytest.raises(DataError, match="do not vary"):
        run(tmp_path, ImageArray(np.full((8, 32, 32, 3), 9, np.uint8)), held_out, lite0)


def test_a_diverged_run_says_so_and_keeps_what_it_had(tmp_path, normal, held_out, lite0):
    good = Recipe(epochs=1, batch_size=8)
    tune(normal, held_out, lite0, SIDE, good, tmp_path)
    kept = (tmp_path / "epoch-001.safetensors").read_bytes()
    with pytest.raises(DataError, match=r"diverged in epoch 2: .* smaller learning rate"):
        tune(
            normal,
            held_out,
            lite0,
            SIDE,
            Recipe(epochs=3, batch_size=8, learning_rate=1e18, statistics="fixed"),
            tmp_path,
        )
    assert (tmp_path / "epoch-001.safetensors").read_bytes() == kept


def test_a_full_disk_is_one_clear_error(tmp_path, normal, held_out, lite0, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    store = Store(tmp_path)
    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(StoreError, match="disk is full"), store.resuming("tunings", "k") as folder:
        tune(normal, held_out, lite0, SIDE, Recipe(epochs=1, batch_size=8), folder)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, some_images, held_out, lite0):
    """A step more costs no more than the number that it is remembered by; pixels alone would be 3 kB an image."""
    peaks = {}
    for number in (56, 560):
        many: Images = some_images[np.arange(number) % len(some_images)]
        tracemalloc.start()
        tune(many, held_out, lite0, SIDE, Recipe(epochs=1, batch_size=8), tmp_path / str(number))
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (peaks[560] - peaks[56]) / (560 - 56) < 1500, peaks


@pytest.mark.speed
def test_an_epoch_costs_little_more_than_the_network_itself(tmp_path, lite0):
    """Training of an epoch against bare forward and backward passes over the same batches, 128 px; rounds in turn."""
    from anomaly_transfer import benchmarks

    images = benchmarks.get("elpv").load("mono", 160).images
    recipe = Recipe(epochs=1)
    made = objective._Run(images, images.take(np.arange(20)), lite0, 128, recipe, tmp_path, 0, "cpu")
    batches = [torch.from_numpy(b) for b in extraction.prepared(images, lite0, 128, recipe.batch_size)]
    ratios = []
    for _ in range(6):
        started = time.perf_counter()
        for batch in batches:
            made.optimiser.zero_grad()
            sum(m.mean() for m in made.backbone.level_maps(batch)).backward()
        bare = time.perf_counter() - started
        started = time.perf_counter()
        made._one_epoch()
        ratios.append((time.perf_counter() - started) / bare)
    print(f"median ratio {np.median(ratios[1:]):.2f}, all {np.round(ratios, 2)}")
    assert np.median(ratios[1:]) <= 1.3
