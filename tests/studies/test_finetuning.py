"""Part II's experiments: folds, stopping rules and their paired gains."""

import dataclasses

import numpy as np
import pytest
from tests.studies.test_protocol import category

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.errors import DataError
from anomaly_transfer.store import Store
from anomaly_transfer.studies import finetuning, protocol
from anomaly_transfer.training import early_stopping, loop, mahalanobis, pseudo_anomalies

SMOKE = profiles.get("smoke")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def frame(store):
    return finetuning.run("surfaces", "brick", finetuning.DEFAULT, 0, "smoke", store).frame()


def test_every_epoch_is_told(frame, lite0):
    curves = frame[frame["kind"] == "curve"]
    assert set(curves["measure"]) == {
        *(loop.LOSS, loop.HELD_OUT, finetuning.TEST, finetuning.WHITENED, finetuning.RANKS),
        *pseudo_anomalies.KINDS,
        *finetuning.MEASURES,
    }
    assert set(curves["epoch"]) == set(range(SMOKE.tuned_epochs + 1))
    test = curves[curves["measure"] == finetuning.TEST]
    assert set(test["level"]) == {loop.SUM, *lite0.levels}
    for measure in ("cka", finetuning.WHITENED, finetuning.RANKS):
        likeness = curves[curves["measure"] == measure].pivot_table(index="level", columns="epoch", values="value")
        assert likeness[0].to_numpy() == pytest.approx(1.0)
        assert likeness.loc["head", 1] < min(0.999, likeness.loc["stem", 1])


def test_rules_are_read_off_the_curves(frame):
    rules = frame[frame["kind"] == "rule"].set_index("measure")
    assert list(rules.index) == list(finetuning.RULES)
    assert rules.loc[finetuning.FROZEN, ["gain", "gain low", "gain high", "epoch"]].tolist() == [0, 0, 0, 0]
    test = frame[(frame["measure"] == finetuning.TEST) & (frame["level"] == loop.SUM)].set_index("epoch")["value"]
    assert rules.loc[finetuning.FROZEN, "value"] == pytest.approx(test[0], abs=1e-3)
    assert rules.loc[finetuning.ORACLE, "value"] == pytest.approx(test.max(), abs=1e-3)
    assert rules.loc["last epoch", "value"] == pytest.approx(test[SMOKE.tuned_epochs], abs=1e-3)
    assert rules.loc["last epoch", "gain"] == pytest.approx(test[SMOKE.tuned_epochs] - test[0], abs=1e-3)


def finished(validation, losses, test, levels=("a", "b")):
    """A fold whose validation, losses and test AUROC by epoch are these."""
    history = []
    for epoch, (value, loss) in enumerate(zip(validation, losses, strict=True)):
        history.append({"epoch": epoch, "measure": loop.LOSS, "level": loop.SUM, "value": loss})
        history += [
            {"epoch": epoch, "measure": kind, "level": level, "value": value - (level == "a") * 0.1}
            for kind in pseudo_anomalies.KINDS
            for level in (loop.SUM, *levels)
        ]
    positive = np.repeat([False, True], 50)
    rng = np.random.default_rng(0)
    distances = [
        np.stack([np.where(positive & (rng.random(100) < 2 * auroc - 1), 2.0, rng.random(100)) for _ in levels], axis=1)
        for auroc in test
    ]
    start = dataclasses.make_dataclass("Start", ["levels"])(levels)
    tuning = loop.Tuning(history, start, None)
    return finetuning._Fold(tuning, np.arange(100), positive, np.stack(distances), [])


def test_rules_choose_as_they_say():
    part = finished([0.8, 0.9, 0.85, 0.84, 0.95], [9, 7, 6, 3, 5], [0.6, 0.6, 0.99, 0.6, 0.6])
    epochs = {name: rule(part)[0] for name, rule in finetuning.RULES.items()}
    assert epochs["validation"] == 1  # patience ends before the later best
    assert epochs["training loss"] == 3
    assert epochs[finetuning.ORACLE] == 2
    assert (epochs["1 epoch"], epochs["3 epochs"], epochs["last epoch"]) == (1, 3, 4)
    assert finetuning.RULES[finetuning.FROZEN_LEVEL](part) == (0, [1])
    assert finetuning.RULES["validation, level by validation"](part) == (1, [1])


def test_only_the_oracle_depends_on_test_labels():
    part = finished([0.8, 0.9, 0.85], [9, 7, 6], [0.6, 0.6, 0.99])
    rng = np.random.default_rng(0)
    for _ in range(5):
        other = dataclasses.replace(part, positive=rng.permutation(part.positive))
        assert all(rule(part) == rule(other) for name, rule in finetuning.RULES.items() if name != finetuning.ORACLE)
    flipped = dataclasses.replace(part, positive=~part.positive)
    assert finetuning.RULES[finetuning.ORACLE](flipped) != finetuning.RULES[finetuning.ORACLE](part)


def test_the_epoch_of_a_rule_is_the_mean_over_folds():
    first = finished([0.8, 0.9, 0.85], [9, 7, 6], [0.6, 0.6, 0.99])
    second = finished([0.8, 0.7, 0.65], [9, 7, 8], [0.9, 0.6, 0.6])
    whole = category(np.arange(100).astype(str), np.repeat(NORMAL, 100))
    rows = {row["measure"]: row["epoch"] for row in finetuning._rules([first, second], whole, SMOKE)}
    assert [rows[name] for name in ("validation", "training loss", "1 epoch", "last epoch", finetuning.ORACLE)] == [
        0.5, 1.5, 1, 2, 1
    ]  # fmt: skip


def test_held_out_images_are_of_other_groups_where_there_are_many():
    many = category(np.repeat(np.arange(30).astype(str), 4), np.repeat(NORMAL, 120))
    groups = many.annotations.open()["group"].to_numpy()
    train, held = protocol.hold_out(many, np.arange(120), 0)
    assert not set(groups[train]) & set(groups[held])
    assert not set(train) & set(held)
    assert 8 <= len(held) <= 24
    few = category(np.repeat(["a", "b"], 60), np.repeat(NORMAL, 120))
    train, held = protocol.hold_out(few, np.arange(120), 0)
    assert len(held) == 24
    assert sorted([*train, *held]) == list(range(120))
    with pytest.raises(DataError, match="too few"):
        protocol.hold_out(few, np.arange(9), 0)


def test_five_seeds_are_five_folds_over_the_training_images_of_an_official_split():
    whole = category(np.arange(400).astype(str), np.repeat(NORMAL, 400), part=np.repeat("train", 400))
    rows = np.arange(100)
    parts = [protocol.hold_out(whole, rows, seed) for seed in range(5)]
    assert sorted(np.concatenate([held for _, held in parts])) == list(rows)
    assert all(sorted([*train, *held]) == list(rows) for train, held in parts)
    # No more to validate with than are needed; what is left of the fifth is not trained on either.
    train, held = protocol.hold_out(whole, np.arange(400), 0)
    assert (len(train), len(held)) == (320, protocol.HELD_OUT_BOUNDS[1])


def test_folds_hold_headline_classes_only_and_no_more_than_asked():
    whole = benchmarks.get("elpv").load("mono")
    sizes = profiles.get("laptop")
    (fold,) = protocol.folds(whole, 0, sizes.tuned_folds, sizes.tuned_test)
    kinds = whole.annotations.open()["anomaly_class"].to_numpy()
    assert set(kinds[fold.test]) == {NORMAL, "p = 1"}
    assert max(np.unique(kinds[fold.test], return_counts=True)[1]) <= sizes.tuned_test
    assert (kinds[fold.train] == NORMAL).all()
    assert len(protocol.folds(whole, 0, 0, sizes.tuned_test)) == 5
    # One seed after the other takes in turn those that tell enough.
    in_turn = [protocol.folds(whole, seed, sizes.tuned_folds, sizes.tuned_test)[0] for seed in range(3)]
    assert not np.array_equal(in_turn[0].test, in_turn[1].test)
    assert np.array_equal(in_turn[0].test, in_turn[2].test)
    assert [len(finetuning.folds(whole, seed, 2, sizes.tuned_test)) for seed in range(3)] == [2, 2, 2]
    for fold in in_turn:
        assert min(np.unique(kinds[fold.test], return_counts=True)[1]) >= protocol.FEWEST
    with pytest.raises(DataError, match="no fold"):
        protocol.folds(whole.taken(np.flatnonzero(kinds == NORMAL)), 0, 1, 0)


def test_every_class_of_anomaly_has_the_same_share():
    whole = benchmarks.get("surfaces").load("brick")
    sizes = profiles.get("laptop").model_copy(update={"tuned_test": 20})
    (fold,) = protocol.folds(whole, 0, sizes.tuned_folds, sizes.tuned_test)
    kinds = whole.annotations.open()["anomaly_class"].to_numpy()[fold.test]
    counts = dict(zip(*np.unique(kinds, return_counts=True), strict=True))
    assert counts.pop(NORMAL) == 20
    assert set(counts.values()) == {4}
    assert len(counts) == 5


def test_a_record_is_kept_and_a_variant_is_another_record(store, frame, monkeypatch):
    monkeypatch.setattr(finetuning, "evaluate_fold", lambda *_: pytest.fail("computed"))
    finetuning.run("surfaces", "brick", finetuning.DEFAULT, 0, "smoke", store)
    with pytest.raises(pytest.fail.Exception, match="computed"):
        finetuning.run("surfaces", "brick", "euclidean", 0, "smoke", store)
    with pytest.raises(ValueError, match="euclidean"):
        finetuning.run("surfaces", "brick", "quick", 0, "smoke", store)


def test_variants_of_the_number_of_images_and_epochs(monkeypatch, store):
    seen = {}

    def noted(images, held_out, start, side, recipe, *_):
        seen[variant] = len(images), len(held_out), recipe.epochs
        raise InterruptedError

    monkeypatch.setattr(finetuning, "tune", noted)
    for variant in (finetuning.DEFAULT, finetuning.FEWER, finetuning.MORE, finetuning.LONGER):
        with pytest.raises(InterruptedError):
            finetuning.run("elpv", "mono", variant, 1, "smoke", store)
    whole, held, epochs = seen[finetuning.DEFAULT]
    assert seen[finetuning.FEWER] == (whole // 4, held, epochs)
    assert seen[finetuning.LONGER] == (whole, held, 3 * epochs)
    assert sum(seen[finetuning.MORE][:2]) > whole + held == SMOKE.tuned_images


def test_every_recipe_is_one_that_can_be_made():
    recipes = {name: mahalanobis.MahalanobisRecipe(**settings) for name, settings in finetuning.RECIPES.items()}
    assert len({recipe.model_dump_json() for recipe in recipes.values()}) == len(recipes)
    assert early_stopping.best([0.5]) == 0
