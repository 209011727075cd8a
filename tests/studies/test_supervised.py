"""Networks trained with labels, and Part III's records of trained networks."""

import numpy as np
import pandas as pd
import pytest
import torch

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.benchmarks.reference import noise, photographs
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import ImageArray
from anomaly_transfer.errors import DataError
from anomaly_transfer.metrics.ranking import evaluate
from anomaly_transfer.studies import deep_one_class, protocol, supervised
from anomaly_transfer.studies.linear_probe import ALL, EXPOSURE, SEEN, UNSEEN
from anomaly_transfer.training import loop
from anomaly_transfer.training.classifier import ClassifierRecipe, LabelledRun

SIDE = 32
SMOKE = profiles.get("smoke")


@pytest.fixture(scope="module")
def normal():
    return photographs(24)


def made(folder, normal, lite0, n_anomalous=8, **settings):
    other = noise(n_anomalous, normal)
    pictures = ImageArray(np.concatenate([normal.pixels, other.pixels]))
    recipe = ClassifierRecipe(**{"epochs": 4, "batch_size": 8, "learning_rate": 3e-4, **settings})
    anomalous = np.arange(len(pictures)) >= len(normal)
    return LabelledRun(pictures, anomalous, photographs(10, seed=1), lite0, SIDE, recipe, folder, 0)


@pytest.mark.parametrize("loss", ["weighted", "focal"])
@pytest.mark.parametrize("depth", ["head", "block", "whole"])
def test_what_is_trained_is_what_was_asked_for(tmp_path, normal, lite0, loss, depth):
    run = made(tmp_path, normal, lite0, loss=loss, trained_from=supervised.DEPTHS[depth])
    head = run.head.weight.detach().clone()
    tuning = run.run()
    assert tuning.losses()[-1] < tuning.losses()[0]
    assert not torch.equal(run.head.weight, head)
    state, before = run.backbone.network.state_dict(), lite0.network.state_dict()
    changed = {name for name in state if not torch.equal(state[name], before[name])}
    assert bool(changed) == (depth != "head")
    assert any(name.startswith("conv_stem") for name in changed) == (depth == "whole")


def test_noise_is_told_from_photographs(tmp_path, normal, lite0):
    run = made(tmp_path, normal, lite0, learning_rate=1e-3)
    run.run()
    assert run.score(noise(10, normal, seed=5)).min() > run.score(photographs(10, seed=7)).max()


def test_few_anomalies_weigh_as_much_as_many_normal_images(tmp_path, normal, lite0):
    run = made(tmp_path, normal, lite0, n_anomalous=2)
    with torch.no_grad():
        run.head.weight.zero_()
        run.head.bias.fill_(2.0)
    # log(1 + e^2) for normal images, log(1 + e^-2) for anomalous ones: half of each, whatever their number.
    assert run._loss_without_training() == pytest.approx((2.1269 + 0.1269) / 2, abs=0.15)


def test_one_kind_only_is_one_clear_error(tmp_path, normal, lite0):
    with pytest.raises(DataError, match="both kinds"):
        made(tmp_path, normal, lite0, n_anomalous=0)


def test_a_record_with_and_without_the_tested_types(store):
    found = supervised.run("surfaces", "brick", "imagenet-head", 0, "smoke", store).frame()
    assert {(method, k) for method, k in zip(found["method"], found["k"], strict=True)} == {
        (EXPOSURE, 0), *((method, k) for method in (SEEN, UNSEEN) for k in supervised.SHOTS)
    }  # fmt: skip
    assert set(found["measure"]) == {supervised.VALIDATION, supervised.LAST}
    assert found["value"].between(0, 1).all()
    with pytest.raises(ValueError, match="no variant 'imagenet'"):
        supervised.run("surfaces", "brick", "imagenet", 0, "smoke", store)


def test_training_images_are_of_the_source_and_of_known_types(store, monkeypatch):
    domain = protocol.divide(benchmarks.get("surfaces").load("brick", SMOKE.limit), 0)
    seen = {}

    class Stub:
        def __init__(self, pictures, anomalous, held_out, *_):
            seen.update(pictures=pictures, anomalous=anomalous, held_out=held_out)

        def run(self):
            pass

    monkeypatch.setattr(supervised, "LabelledRun", Stub)
    supervised.train(domain, "imagenet-head", 0, SMOKE, store, ALL, ["crack", "pit"])
    kinds = dict(zip(domain.category.images.hashes, domain.table["anomaly_class"], strict=True))
    source = {domain.category.images.hashes[row] for row in domain.source}
    assert {kinds[h] for h in seen["pictures"].hashes} == {NORMAL, "crack", "pit"}
    assert {kinds[h] for h in seen["held_out"].hashes} == {NORMAL}
    assert {*seen["pictures"].hashes, *seen["held_out"].hashes} <= source
    assert not {*seen["pictures"].hashes} & {*seen["held_out"].hashes}
    of_kind = np.array([kinds[h] != NORMAL for h in seen["pictures"].hashes])
    assert np.array_equal(of_kind, seen["anomalous"])


def test_labels_and_groups_are_those_of_the_linear_head(store, monkeypatch):
    domain = protocol.divide(benchmarks.get("surfaces").load("brick"), 0)
    types = protocol.usable(domain)
    expected = protocol.draw_in_turn(
        [domain.rows(domain.source, name) for name in types], 5, np.random.default_rng([0, 5, 0])
    )
    seen = {}

    class Stub:
        epoch = 0

        def __init__(self, pictures, anomalous, *_):
            seen["labelled"] = pictures.take(np.flatnonzero(anomalous)).hashes

        def run(self):
            pass

        def load(self, epoch):
            pass

        def validation(self):
            return [0.5]

        def score(self, images):
            return np.arange(len(images), dtype=float)

    def evaluated(scores, positive, strata, n_bootstrap, clusters):
        seen["clusters"] = clusters
        return evaluate(scores, positive, strata, n_bootstrap, clusters=clusters)

    monkeypatch.setattr(supervised, "LabelledRun", Stub)
    monkeypatch.setattr(supervised, "evaluate", evaluated)
    supervised._tested(domain, "imagenet-head", 0, SMOKE, store, SEEN, 5, types, types)
    assert seen["labelled"] == domain.category.images.take(expected).hashes
    assert set(seen["clusters"]) == set(domain.groups[domain.target])


@pytest.fixture(scope="module")
def one_class(tmp_path_factory):
    from anomaly_transfer.store import Store

    return Store(tmp_path_factory.mktemp("store"))


def test_every_variant_is_told_epoch_by_epoch(one_class):
    for variant in ("svdd-scratch", "svdd-random", "negatives-imagenet", "compact-imagenet"):
        found = deep_one_class.run("surfaces", "brick", variant, 0, "smoke", one_class).frame()
        curves, rules = (found[found["kind"] == kind] for kind in ("curve", "rule"))
        epochs = deep_one_class.LONGER if variant == "svdd-scratch" else 1
        assert set(curves["epoch"]) == set(range(SMOKE.oneclass_epochs * epochs + 1))
        assert {loop.LOSS, loop.HELD_OUT, deep_one_class.TEST, deep_one_class.VARIANCE} <= set(curves["measure"])
        assert list(rules["measure"]) == [
            deep_one_class.UNTRAINED, deep_one_class.VALIDATION, deep_one_class.LAST, deep_one_class.ORACLE
        ]  # fmt: skip
        test = curves[curves["measure"] == deep_one_class.TEST].set_index("epoch")["value"]
        for rule, row in rules.set_index("measure").iterrows():
            assert row["value"] == pytest.approx(test[row["epoch"]], abs=1e-4), rule
        assert rules["value"].max() == rules.set_index("measure").loc[deep_one_class.ORACLE, "value"]


def test_the_whole_set_is_the_published_protocol(one_class):
    found = deep_one_class.run("mnist5k", "3", deep_one_class.WHOLE, 0, "smoke", one_class)
    assert found.settings["oneclass_images"] == found.settings["oneclass_test"] == 0
    with pytest.raises(ValueError, match="no variant"):
        deep_one_class.run("mnist5k", "3", "svdd", 0, "smoke", one_class)


def test_the_rules_but_the_oracle_know_no_label():
    """Stand-ins are told best after the first epoch, anomalies after the second, and three are trained."""
    history = [{"epoch": epoch, "measure": loop.LOSS, "level": loop.SUM, "value": 0.0} for epoch in range(4)]
    history += [
        {"epoch": epoch, "measure": kind, "level": loop.SUM, "value": value}
        for kind in loop.pseudo_anomalies.KINDS
        for epoch, value in enumerate((0.5, 0.9, 0.8, 0.7))
    ]
    positive = np.arange(40) >= 20
    scores = np.random.default_rng(0).normal(size=(4, 40))
    scores[2] += 9 * positive
    tuning = loop.Tuning(history, None, None)
    found = deep_one_class._Fold(tuning, np.arange(40), positive, scores, [1.0] * 4)
    category = benchmarks.get("mnist5k").load("0", 100)
    chosen = {row["measure"]: row["epoch"] for row in deep_one_class._rules(found, category, SMOKE)}
    assert chosen == {
        deep_one_class.UNTRAINED: 0, deep_one_class.VALIDATION: 1, deep_one_class.LAST: 3, deep_one_class.ORACLE: 2
    }  # fmt: skip


def test_shrinking_is_found_in_the_records(one_class):
    found = deep_one_class.run("surfaces", "brick", "svdd-imagenet", 0, "smoke", one_class).frame()
    assert not deep_one_class.collapsed(found).any()
    other = deep_one_class.run("surfaces", "brick", "negatives-imagenet", 0, "smoke", one_class).frame()
    both = deep_one_class.ended(pd.concat([found, other]), deep_one_class.VARIANCE)
    assert both["variant"].tolist() == ["svdd-imagenet", "negatives-imagenet"]
    assert (both["epoch"] == SMOKE.oneclass_epochs).all()
    shrunk = found.copy()
    shrunk.loc[(found["measure"] == deep_one_class.VARIANCE) & (found["epoch"] == found["epoch"].max()), "value"] = 1e-5
    assert deep_one_class.collapsed(shrunk).all()
