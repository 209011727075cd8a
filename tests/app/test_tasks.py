"""A category of a benchmark, ready to work on."""

import numpy as np
import pytest

from anomaly_transfer import benchmarks
from anomaly_transfer.app.tasks import load_benchmark
from anomaly_transfer.data.splits import grouped_folds


def test_a_benchmark_comes_with_its_annotations_and_the_folds_of_its_recommended_split():
    images, annotations, folds = load_benchmark("elpv", "mono", seed=1)
    whole = benchmarks.get("elpv").load("mono")
    assert images.fingerprint == whole.images.fingerprint
    assert annotations.equals(whole.annotations.open())
    for fold, expected in zip(folds, grouped_folds(annotations, 1), strict=True):
        assert np.array_equal(fold.train, expected.train)
        assert np.array_equal(fold.test, expected.test)


@pytest.mark.parametrize(
    ("name", "category", "message"), [("imagenet", "mono", "no benchmark 'imagenet'"), ("elpv", "m", "no category 'm'")]
)
def test_what_is_there_is_named(name, category, message):
    with pytest.raises(ValueError, match=message):
        load_benchmark(name, category)
