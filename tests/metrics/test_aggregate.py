"""One number of several: what its interval covers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from anomaly_transfer.metrics import aggregate


def test_the_interval_of_a_mean_over_draws_is_student_s():
    frame = pd.DataFrame({"k": 1, "draw": [0, 0, 1, 1, 2, 2], "value": [0.1, 0.3, 0.3, 0.5, 0.5, 0.7]})
    found = aggregate.mean_over_draws(frame, ["k"]).iloc[0]
    low, high = student.interval(0.95, 2, loc=0.4, scale=0.2 / np.sqrt(3))
    assert (found["value"], found["low"], found["high"]) == pytest.approx((0.4, low, high))


def test_the_range_over_draws_holds_the_middle_95_per_cent_of_them():
    """Of 41 draws the first and the last are outside; the classes of a draw are averaged first."""
    values = np.random.default_rng(0).permutation(np.linspace(0, 1, 41))
    rows = [{"k": k, "draw": d, "value": k + v + c} for k in (1, 5) for d, v in enumerate(values) for c in (-0.3, 0.3)]
    found = aggregate.range_over_draws(pd.DataFrame(rows), ["k"]).set_index("k")
    for k in (1, 5):
        assert found.loc[k].to_list() == pytest.approx([k + 0.5, k + 0.025, k + 0.975])


def test_divisions_that_overlap_widen_the_interval():
    values = [0.1, 0.2, 0.4, 0.3]
    frame = pd.DataFrame({"where": "a", "seed": range(4), "value": values})
    found = aggregate.over_seeds(frame, ["where"], overlap=2 / 3).iloc[0]
    # Nadeau and Bengio (2003): the variance of the mean is (1/n + tested/others) times that of the values.
    reach = student.ppf(0.975, 3) * np.std(values, ddof=1) * np.sqrt(1 / 4 + 2 / 3)
    assert (found["low"], found["high"]) == pytest.approx((0.25 - reach, 0.25 + reach))
