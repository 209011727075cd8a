"""Synthetic defects: exact masks, no trace outside of them, severity that means something."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_transfer import benchmarks
from anomaly_transfer.benchmarks.surfaces import CONTROL
from anomaly_transfer.data import synthetic

KINDS = sorted(synthetic.KINDS)


def noise(seed, shape=(96, 96)):
    return np.random.default_rng(seed).integers(60, 200, shape, dtype=np.uint8)


@given(
    st.sampled_from(KINDS),
    st.floats(0.05, 1),
    st.integers(0, 10**6),
    st.sampled_from([(64, 64), (50, 80), (64, 64, 3)]),
)
@settings(max_examples=60, deadline=None)
def test_nothing_changes_outside_the_mask(kind, severity, seed, shape):
    image = noise(seed, shape)
    before = image.copy()
    changed, mask = synthetic.draw(image, kind, severity, np.random.default_rng(seed))
    assert np.array_equal(image, before), "the original is left alone"
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert mask.any()
    assert np.array_equal(changed[~mask], image[~mask])


@pytest.mark.parametrize("kind", KINDS)
def test_most_of_the_mask_has_changed(kind):
    for seed in range(20):
        changed, mask = synthetic.draw(noise(seed), kind, 1.0, np.random.default_rng(seed))
        assert (changed != noise(seed))[mask].mean() > 0.75


@pytest.mark.parametrize("kind", KINDS)
def test_severity_zero_is_the_image_bit_for_bit(kind):
    changed, mask = synthetic.draw(noise(0), kind, 0.0, np.random.default_rng(0))
    assert np.array_equal(changed, noise(0))
    assert not mask.any()


@pytest.mark.parametrize("kind", KINDS)
def test_severity_grows_in_size_and_contrast_at_the_same_place(kind):
    sizes, changes, overlaps = [], [], []
    for seed in range(30):
        masks, total = [], []
        for severity in (1 / 3, 2 / 3, 1.0):
            changed, mask = synthetic.draw(noise(seed), kind, severity, np.random.default_rng(seed))
            masks.append(mask)
            total.append(np.abs(changed.astype(int) - noise(seed)).sum())
        sizes.append([mask.sum() for mask in masks])
        changes.append(total)
        overlaps.append((masks[0] & masks[2]).sum() / masks[0].sum())
    assert (np.diff(np.mean(sizes, axis=0)) > 0).all()
    assert (np.diff(np.mean(changes, axis=0)) > 0).all()
    assert np.mean(overlaps) > 0.7


def test_equal_generators_give_equal_defects():
    first, second = (synthetic.draw(noise(0), "crack", 0.5, np.random.default_rng(5)) for _ in range(2))
    other = synthetic.draw(noise(0), "crack", 0.5, np.random.default_rng(6))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_fades_out_at_its_rim(kind):
    """No seam: at the border of the mask the change is a fraction of what it is inside."""
    from scipy.ndimage import binary_erosion

    ratios = []
    for seed in range(30):
        flat = np.full((96, 96), 128, dtype=np.uint8)
        changed, mask = synthetic.draw(flat, kind, 1.0, np.random.default_rng(seed))
        rim = mask & ~binary_erosion(mask, border_value=1)
        change = np.abs(changed.astype(int) - 128)
        ratios.append(change[rim].mean() / change[mask].max())
    assert np.median(ratios) < 0.2


@pytest.mark.parametrize(
    ("kind", "severity", "message"), [("dent", 0.5, "crack, pit"), ("pit", 1.5, "between 0 and 1")]
)
def test_bad_requests(kind, severity, message):
    with pytest.raises(ValueError, match=message):
        synthetic.draw(noise(0), kind, severity, np.random.default_rng(0))


@pytest.mark.parametrize("category", ["brick", "grass", "mono"])
def test_the_control_is_not_told_from_normal_but_defects_are(category):
    """Statistics of all pixels outside the masks, and of all pixels: only the masks' insides may tell."""
    found = benchmarks.get("surfaces").load(category)
    table = found.annotations.open()
    pixels = found.images.pixels.astype(float)
    masks = np.stack(found.masks(np.arange(len(table)), pixels.shape[1]))

    def statistics(inside_too):
        rows = []
        for image, mask in zip(pixels, masks, strict=True):
            keep = np.ones_like(mask) if inside_too else ~mask
            edges = np.abs(np.diff(image, axis=1))[keep[:, 1:]]
            rows.append(
                [image[keep].mean(), image[keep].std(), edges.mean(), edges.std(), *np.quantile(edges, [0.5, 0.99])]
            )
        return np.array(rows)

    def auroc(features, positive, negative):
        rows = np.flatnonzero(positive | negative)
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        scores = cross_val_predict(model, features[rows], positive[rows], cv=5, method="decision_function")
        return roc_auc_score(positive[rows], scores)

    normal, control = ((table["anomaly_class"] == kind).to_numpy() for kind in ("normal", CONTROL))
    defect = ~normal & ~control
    outside = statistics(inside_too=False)
    assert abs(auroc(outside, control, normal) - 0.5) < 0.17, "32 controls: two standard errors are 0.11"
    assert abs(auroc(outside, defect, normal) - 0.5) < 0.1, "240 defects: two standard errors are 0.055"
    strong = defect & (table["grade"] == 1).to_numpy() & (table["anomaly_class"] == "missing").to_numpy()
    assert auroc(statistics(inside_too=True), strong, normal) > 0.7, "the test can see what is there to see"


def test_masks_of_the_benchmark_are_those_of_its_kinds():
    found = benchmarks.get("surfaces").load("gravel")
    table = found.annotations.open()
    for row, mask in enumerate(found.masks(np.arange(len(table)), 96)):
        assert mask.any() == (table["grade"][row] > 0)
    assert (table.loc[table["anomaly_class"].isin(["normal", CONTROL]), "grade"] == 0).all()
