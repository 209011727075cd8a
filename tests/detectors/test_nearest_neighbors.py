import numpy as np
import pytest
from scipy.spatial.distance import cdist

from anomaly_transfer.detectors.nearest_neighbors import NeighboursDetector
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features


def line(*values):
    return Features.of(level=np.array(values, dtype=np.float32)[:, None])


def test_closed_form_on_a_line():
    """Normal at 0, 1, 3: own distances to the nearest other are 1, 1, 2, so the scale is 4/3."""
    detector = NeighboursDetector(k=1).fit(line(0, 1, 3))
    assert np.allclose(detector.anomaly_score(line(5, 0, 2)), np.array([2, 0, 1]) / (4 / 3))


def test_k_is_at_most_what_there_is():
    detector = NeighboursDetector(k=10).fit(line(0, 2))
    assert np.allclose(detector.anomaly_score(line(1)), [1 / 2])


def test_levels_count_equally_whatever_their_scale():
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(30, 4)).astype("f4"), 1000 * rng.normal(size=(30, 4)).astype("f4")
    features = Features.of(small=small, large=large)
    alone = [NeighboursDetector(levels=(name,)).fit(features).anomaly_score(features) for name in ("small", "large")]
    both = NeighboursDetector().fit(features).anomaly_score(features)
    assert np.allclose(both, sum(alone))
    assert 0.2 < alone[0].mean() / alone[1].mean() < 5


def test_it_is_the_mean_distance_to_the_nearest_over_that_of_normal_images_to_each_other():
    """By definition, at two levels, for every number of neighbours."""
    rng = np.random.default_rng(0)
    train, test = (
        Features.of(a=rng.normal(size=(n, 3)).astype("f4"), b=rng.normal(size=(n, 5)).astype("f4")) for n in (9, 4)
    )
    for k in (1, 2, 5, 8, 9, 20):
        wanted = 0.0
        for level in ("a", "b"):
            own = np.sort(cdist(train[level], train[level]), axis=1)[:, 1 : 1 + min(k, 8)]
            wanted = (
                wanted + np.sort(cdist(test[level], train[level]), axis=1)[:, : min(k, 9)].mean(axis=1) / own.mean()
            )
        assert np.allclose(NeighboursDetector(k=k).fit(train).anomaly_score(test), wanted)
    two = NeighboursDetector(k=2).fit(train).anomaly_score(test)
    assert np.array_equal(NeighboursDetector().fit(train).anomaly_score(test), two)


def test_copies_have_no_distance_to_go_by():
    with pytest.raises(DataError, match="do not vary in level 'level'"):
        NeighboursDetector(k=1).fit(line(2, 2, 2))
    assert NeighboursDetector(k=1).fit(line(2, 2, 2.5)).anomaly_score(line(2)) == 0
