"""Labels or transfer: what is drawn, what is seen, and how the gain is taken apart."""

import dataclasses
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.utils import compute_sample_weight
from tests.studies.test_protocol import category

from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.features.features import Features
from anomaly_transfer.studies import linear_probe, protocol
from anomaly_transfer.studies.linear_probe import ALL, EXPOSURE, LABEL_FREE, ON_PIXELS, SEEN, SHOTS, UNSEEN

TYPES = ("scratch", "stain", "hole")


@pytest.fixture(scope="module")
def domain():
    """120 images of each of four classes, each its own group."""
    kinds = np.repeat([NORMAL, *TYPES], 120)
    whole = dataclasses.replace(category(np.arange(480).astype(str), kinds), benchmark="mnist5k")
    return protocol.divide(whole)


def features(domain, shift=3.0, common=0.0, seed=0):
    """Each type shifts a channel of its own, and all shift a common one."""
    rng = np.random.default_rng(seed)
    kinds = domain.table["anomaly_class"].to_numpy()
    x = rng.normal(0, 1, (len(kinds), 8)).astype(np.float32)
    for number, name in enumerate(TYPES):
        x[kinds == name, number] += shift
    x[kinds != NORMAL, 4] += common
    return Features.of(level=x)


def noise(n=30, seed=9):
    return Features.of(level=np.random.default_rng(seed).normal(0, 3, (n, 8)).astype(np.float32))


def means(frame):
    return frame.groupby(["method", "k"])["value"].mean()


def test_more_labels_help_and_types_unseen_are_missed_where_they_share_nothing(domain):
    found = means(linear_probe.with_labels(domain, features(domain), [noise()], 5, 0))
    assert found[SEEN, ALL] > 0.9
    assert found[SEEN, ALL] > found[SEEN, 1] + 0.1
    assert found[UNSEEN, ALL] < 0.6
    # What all types have in common is learnt from any of them.
    common = means(linear_probe.with_labels(domain, features(domain, 0.0, 3.0), [noise()], 5, 0))
    assert common[UNSEEN, ALL] == pytest.approx(common[SEEN, ALL], abs=0.03)


def test_permuted_labels_give_one_half(domain):
    rng = np.random.default_rng(0)
    values = []
    for _ in range(8):
        table = domain.table.assign(anomaly_class=rng.permutation(domain.table["anomaly_class"]))
        shuffled = dataclasses.replace(domain, table=table)
        values.append(means(linear_probe.with_labels(shuffled, features(domain), [noise()], 2, 0)))
    for key in ((SEEN, ALL), (SEEN, 10), (UNSEEN, ALL), (EXPOSURE, 0)):
        assert np.mean([value[key] for value in values]) == pytest.approx(0.5, abs=0.04), key


def test_the_head_is_fitted_on_the_source_alone_and_on_so_many_anomalies(domain, monkeypatch):
    seen = []
    fit = linear_probe._scored
    monkeypatch.setattr(
        linear_probe,
        "_scored",
        lambda x, normal, anomalous: (seen.append((normal, anomalous)), fit(x, normal, anomalous))[1],
    )
    linear_probe.with_labels(domain, features(domain), [noise()], 2, 0)
    n = len(domain.table)
    kinds = domain.table["anomaly_class"].to_numpy()
    sizes = set()
    for normal, anomalous in seen:
        assert set(normal) == set(domain.rows(domain.source, NORMAL))
        inside = anomalous[anomalous < n]
        assert not set(inside) & set(domain.target)
        assert (kinds[inside] != NORMAL).all()
        sizes.add(len(inside))
    # No anomaly for outlier exposure, then k of them, and all of three or of two types.
    of_all = [len(domain.rows(domain.source, name)) for name in TYPES]
    assert {0, *[k for k in SHOTS if k != ALL], sum(of_all)} <= sizes


def test_a_type_that_is_left_out_is_in_no_training_set(domain, monkeypatch):
    kinds = domain.table["anomaly_class"].to_numpy()
    rows = linear_probe._rows
    left_out = []

    def checked(method, test, scores, types, k, draw):
        if method == UNSEEN:
            left_out.append((types, scores))
        return rows(method, test, scores, types, k, draw)

    known = []
    monkeypatch.setattr(linear_probe, "_rows", checked)
    in_turn = protocol.draw_in_turn
    monkeypatch.setattr(
        linear_probe, "draw_in_turn", lambda types, k, rng: (known.append(types), in_turn(types, k, rng))[1]
    )
    linear_probe.with_labels(domain, features(domain), [noise()], 1, 0)
    names = [{kinds[rows[0]] for rows in types} for types in known]
    assert {frozenset(found) for found in names} == {
        frozenset(TYPES), *(frozenset(set(TYPES) - {name}) for name in TYPES)
    }  # fmt: skip
    assert len(left_out) == len(TYPES) * len(SHOTS)


def test_types_are_drawn_in_turn():
    types = [np.arange(10), np.arange(100, 110), np.arange(200, 202)]
    found = protocol.draw_in_turn(types, 6, np.random.default_rng(0))
    assert sorted(row // 100 for row in found) == [0, 0, 1, 1, 2, 2]
    assert len(protocol.draw_in_turn(types, 1000, np.random.default_rng(0))) == 22


def test_resamples_are_the_same_for_all_and_draw_whole_groups():
    groups = np.repeat(np.arange(60).astype(str), 4)
    whole = category(groups, np.tile([NORMAL, NORMAL, "x", "x"], 60))
    found = protocol.divide(dataclasses.replace(whole, benchmark="mnist5k"))
    first = protocol.resample(found, 0, 0)
    assert np.array_equal(np.sort(np.concatenate(list(first.values()))), np.sort(found.target))
    other, again = (protocol.resample(found, 0, 3) for _ in range(2))
    assert all(np.array_equal(other[name], again[name]) for name in other)
    counts = pd.Series(np.concatenate(list(other.values()))).value_counts()
    by_group = counts.groupby(found.groups[counts.index]).agg(["nunique", "size"])
    assert (by_group["nunique"] == 1).all()
    assert (by_group["size"] == 4).all()
    assert set(other["x"]) <= set(found.target)


def test_detectors_without_labels_are_tested_on_the_target(domain):
    found = linear_probe.without_labels(domain, features(domain), LABEL_FREE, 3, 0)
    assert set(found["method"]) == set(LABEL_FREE)
    assert (means(found) > 0.8).all()
    assert len(found) == 3 * 3 * len(TYPES)


def frame(values, draws=6):
    """Rows with the mean AUROC of each (start, method, k), and a spread of a hundredth over draws."""
    rows = []
    for (start, method, k), value in values.items():
        for draw in range(draws):
            rows.append(
                {
                    "benchmark": "b",
                    "category": "c",
                    "seed": 0,
                    "start": start,
                    "method": method,
                    "k": k,
                    "anomaly_class": "x",
                    "draw": draw,
                    "value": value + 0.01 * (draw - (draws - 1) / 2) / draws,
                }
            )
    return pd.DataFrame(rows)


VALUES = {
    ("random", "gaussian", 0): 0.6, ("random", "neighbours", 0): 0.5, ("random", SEEN, ALL): 0.7,
    ("imagenet", "gaussian", 0): 0.8, ("imagenet", "neighbours", 0): 0.7, ("imagenet", SEEN, ALL): 0.95,
    ("imagenet", ON_PIXELS, 0): 0.55,
}  # fmt: skip


def test_the_gain_is_taken_apart_into_labels_transfer_and_what_both_bring_together():
    found = linear_probe.gains(frame(VALUES)).set_index("part")
    assert found["value"].to_dict() == pytest.approx(
        {
            "labels": 0.125,
            "transfer": 0.225,
            "interaction": 0.05,
            "both": 0.35,
            "labels given transfer": 0.15,
            "transfer minus labels": 0.1,
            "as published": 0.4,
        }
    )
    assert found.loc["labels", "value"] + found.loc["transfer", "value"] == pytest.approx(found.loc["both", "value"])
    assert (found["low"] <= found["value"] + 1e-9).all()
    assert (found["high"] >= found["value"] - 1e-9).all()


def test_one_start_alone_gives_no_parts():
    only = {key: value for key, value in VALUES.items() if key[0] == "imagenet"}
    assert linear_probe.gains(frame(only)).empty


def test_from_how_many_labels_on_the_head_is_better():
    values = dict(VALUES)
    for k, value in zip(SHOTS, (0.79, 0.81, 0.80, 0.805, 0.9, 0.95), strict=True):
        values["imagenet", SEEN, k] = value
    found = linear_probe.overtaken(frame(values)).set_index("start")
    # At 5 it is no better again: what counts is from where on it stays better.
    assert found.loc["imagenet", "k mean"] == 10
    assert found.loc["imagenet", "free"] == "gaussian"
    assert found.loc["random", "k mean"] == ALL
    never = {**VALUES, ("imagenet", SEEN, ALL): 0.7}
    assert np.isnan(linear_probe.overtaken(frame(never)).set_index("start").loc["imagenet", "k mean"])


def test_auroc_along_shots_begins_with_the_best_detector_without_labels():
    values = VALUES | {("imagenet", SEEN, 5): 0.85, ("imagenet", UNSEEN, 5): 0.75}
    found = linear_probe.along_shots(frame(values))
    part = found[found["start"] == "imagenet"].set_index("labels")["value"]
    assert part.index.tolist() == ["0", "5", "all"]
    assert part.to_list() == pytest.approx([0.8, 0.85, 0.95])
    unseen = linear_probe.along_shots(frame(values), UNSEEN)
    assert set(unseen["start"]) == {"imagenet"}, "no line where there is nothing but the detector without labels"
    assert [linear_probe.shots(k) for k in (0, 50, ALL, np.nan)] == ["0", "50", "all", "never"]


def test_a_real_run_has_every_method_and_the_same_draws_for_every_start(store):
    frames = [
        linear_probe.run("surfaces", "brick", start, 0, "smoke", store).frame() for start in ("random", "imagenet")
    ]
    for found in frames:
        assert set(found["method"]) == {SEEN, UNSEEN, EXPOSURE, *LABEL_FREE, ON_PIXELS}
        assert found["value"].between(0, 1).all()
    pixels = [found[found["method"] == ON_PIXELS]["value"].to_numpy() for found in frames]
    assert np.array_equal(*pixels), "pixels do not depend on the start, so their draws must agree"
    assert not frames[0]["value"].equals(frames[1]["value"])


@pytest.mark.parametrize(("n", "d"), [(60, 12), (60, 200)])
def test_the_head_is_the_kernel_ridge_that_its_inner_products_give(n, d):
    """The same in the features, in fewer unknowns where images are many."""
    rng = np.random.default_rng(0)
    features = Features.of(level=rng.normal(size=(n, d)).astype(np.float32))
    normal, anomalous = np.arange(0, 40), np.arange(40, 50)
    x = linear_probe._joined(features, features.take(normal))[:, :-1]
    inner, rows = x @ x.T + 1, np.arange(50)
    labels = np.repeat([-1.0, 1.0], [40, 10])
    dual = KernelRidge(alpha=linear_probe.ALPHA, kernel="precomputed").fit(
        inner[np.ix_(rows, rows)], labels, sample_weight=compute_sample_weight("balanced", labels)
    )
    assert np.allclose(linear_probe.head_scores(features, normal, anomalous), dual.predict(inner[:, rows]), atol=1e-10)


def test_memory_of_a_head_grows_with_images_and_not_with_their_square():
    n, d = 20_000, 16
    features = Features.of(level=np.random.default_rng(0).normal(size=(n, d)).astype(np.float32))
    tracemalloc.start()
    linear_probe.head_scores(features, np.arange(n // 2), np.arange(n // 2, n))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 8 * n * (d + 1), "a matrix of all images by all images would take a hundred times as much"
