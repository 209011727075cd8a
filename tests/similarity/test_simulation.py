"""The simulations say what they simulate, and the findings that the chapter rests on."""

import numpy as np
import pytest

from anomaly_transfer import similarity
from anomaly_transfer.metrics.bootstrap import Interval
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


def test_samples_have_the_widths_and_means_that_are_said():
    rng = np.random.default_rng(0)
    d, effect = 10, 2.0
    widths = np.geomspace(1, 0.1, d)
    pairs = {change: S.two_samples(change, 40_000, d, effect, rng) for change in S.CHANGES}
    for first, _ in pairs.values():
        assert first.std(axis=0) == pytest.approx(widths, rel=0.03)
        assert abs(first.mean(axis=0)).max() < 0.03
    wanted = {
        "nothing": widths,
        "shift": widths,
        "spread": 1.5 * widths,
        "directions": widths[[8, 9, *range(2, 8), 0, 1]],
    }
    for change, second in wanted.items():
        assert pairs[change][1].std(axis=0) == pytest.approx(second, rel=0.03), change
    assert pairs["shift"][1].mean(axis=0) == pytest.approx(2 / np.sqrt(d), abs=0.03)
    mixed = pairs["mixture"][1]
    # Along the last, narrow axis the shifted quarter stands apart.
    shifted = mixed[:, -1] > 4 / np.sqrt(d)
    assert shifted.mean() == pytest.approx(0.25, abs=0.01)
    assert mixed[shifted].mean(axis=0) == pytest.approx(8 / np.sqrt(d), abs=0.06)
    assert abs(mixed[~shifted].mean(axis=0)).max() < 0.03


class Told:
    """A measure that says how far the mean of the second sample lies above that of the first, or its negative."""

    title = "told"

    def __init__(self, farther):
        self.farther = farther

    def __call__(self, first, second):
        return (1 if self.farther else -1) * (second.mean() - first.mean())


@pytest.mark.parametrize("farther", [True, False])
def test_power_counts_what_lies_beyond_the_95_per_cent_point_of_equal_samples(farther):
    found = S.power([Told(farther)], ["nothing", "shift"], (10, 40), 5, 3.0, 100)
    assert found[["measure", "change", "n"]].values.tolist() == [
        ["told", change, n] for n in (10, 40) for change in ("nothing", "shift")
    ]
    assert found["value"].tolist() == pytest.approx([0.05, 1.0, 0.05, 1.0])


class Constant(Told):
    """A measure that says the same of any two samples, and notes of which rows it was asked."""

    title = "constant"

    def __init__(self, paired=False):
        super().__init__(True)
        self.paired, self.asked = paired, set()

    def on(self, *samples):
        return lambda *rows: self.asked.add(tuple(map(tuple, rows))) or 0.0

    def __call__(self, first, second):
        return 0.0


def test_what_is_always_the_same_tells_nothing_apart():
    assert S.power([Constant()], ["nothing", "shift"], (10,), 5, 3.0, 20)["value"].tolist() == [0, 0]


def test_the_noise_floor_is_the_mean_and_range_of_repeats():
    class Counting(Told):
        values = iter([*range(-11, 0), *range(100, 111)])

        def __call__(self, first, second):
            return next(self.values)

    found = S.noise_floor([Counting(False)], (8, 9), 3, 11)
    assert set(found["measure"]) == {"told"}
    assert found[["n", "value", "low", "high"]].values.tolist() == [
        [8, -6, -10.75, -1.25],
        [9, 105, 100.25, 109.75],
    ]


def test_views_have_unit_variance_and_share_a_part_of_it():
    for shared in (0.0, 0.3, 1.0):
        a, b = S.two_views(20_000, 2, shared, np.random.default_rng(0))
        for view in (a, b):
            assert view.var(axis=0) == pytest.approx(1, abs=0.03)
        assert (a * b).mean(axis=0) == pytest.approx(shared, abs=0.03)


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


@pytest.mark.parametrize(("low", "high", "share"), [(-2, -1, 0), (-1, 1, 1), (1, 2, 0)])
def test_an_interval_covers_what_lies_between_its_ends(monkeypatch, low, high, share):
    monkeypatch.setattr(S, "relate", lambda *_: Interval(value=0.0, low=low, high=high))
    found = S.coverage(Constant(), "nothing", 8, 3, 1.0, 2)
    assert found.to_dict() == {"halves": share, "bootstrap": 1}


@pytest.mark.parametrize("paired", [True, False])
def test_costs_are_the_median_of_repeats_in_milliseconds(monkeypatch, paired):
    """Of both samples: two of as many rows, or one and the same where rows are paired."""
    clock = iter([0, 1, 10, 12, 20, 29])
    monkeypatch.setattr(S.time, "perf_counter", lambda: next(clock))
    measure = Constant(paired)
    assert S.costs([measure], [(4, 3)]).loc["constant"].tolist() == [2000]
    first, second = (0, 1, 2, 3), (4, 5, 6, 7)
    assert measure.asked == {(first, first if paired else second)}


def test_costs_have_a_column_a_shape():
    table = S.costs(list(similarity.measures().values()), [(16, 8), (16, 64)], 1)
    assert table.shape == (17, 2)
    assert (table > 0).all().all()
