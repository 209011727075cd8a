"""The simulations say what they simulate, and the findings that the chapter rests on."""

import numpy as np
import pytest

from anomaly_transfer import similarity
from anomaly_transfer.similarity import simulation as S


def test_changes_are_what_they_say():
    rng = np.random.default_rng(0)
    pairs = {change: S.two_samples(change, 20_000, 20, 1.0, rng) for change in S.CHANGES}
    gaps = {change: np.linalg.norm(a.mean(0) - b.mean(0)) for change, (a, b) in pairs.items()}
    spreads = {change: b.var(0).sum() / a.var(0).sum() for change, (a, b) in pairs.items()}
    assert gaps["shift"] == pytest.approx(1, abs=0.05)
    assert gaps["mixture"] == pytest.approx(1, abs=0.05)
    assert max(gaps["nothing"], gaps["spread"], gaps["directions"]) < 0.05
    assert spreads["spread"] == pytest.approx(1.25**2, rel=0.05)
    assert spreads["directions"] == pytest.approx(1, rel=0.05)
    assert similarity.get("covariance")(*(x[:500] for x in pairs["directions"])) < 0.8
    with pytest.raises(ValueError, match="shift"):
        S.two_samples("drift", 10, 5, 1.0, rng)


def test_power_rises_with_images_and_blind_measures_stay_blind():
    measures = [similarity.get(name) for name in ("energy", "covariance")]
    found = S.power(measures, ["shift"], (8, 60), 20, 1.0, 40).pivot(index="measure", columns="n", values="value")
    assert found.loc["Energy distance", 60] > 0.9 > found.loc["Energy distance", 8]
    assert found.loc["Covariance alignment", 60] < 0.3


def test_halves_cover_where_the_bootstrap_does_not():
    found = S.coverage(similarity.get("energy"), "nothing", 30, 20, 1.0, 40)
    assert found["halves"] >= 0.85
    assert found["bootstrap"] <= 0.3


def test_views_share_what_they_say():
    a, b = S.two_views(4000, 3, 0.49, np.random.default_rng(0))
    assert np.corrcoef(a[:, 0], b[:, 0])[0, 1] == pytest.approx(0.49, abs=0.04)


def test_noise_floor_of_the_naive_measure_only():
    measures = [similarity.get(name) for name in ("cka_naive", "cka")]
    found = S.noise_floor(measures, (32,), 512, 5).set_index("measure")
    assert found.loc["Linear CKA, naive", "value"] > 0.9
    assert found.loc["Linear CKA, debiased", "low"] < 0 < found.loc["Linear CKA, debiased", "high"]


def test_costs_have_a_column_a_shape():
    table = S.costs(list(similarity.measures().values()), [(16, 8), (16, 64)], 1)
    assert table.shape == (17, 2)
    assert (table > 0).all().all()
