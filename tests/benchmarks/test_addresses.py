"""Do the addresses still answer? Needs the internet: pytest -m network tests/benchmarks/test_addresses.py"""

import pytest
import requests

from anomaly_transfer import benchmarks
from anomaly_transfer.benchmarks import cifar10, crackforest, magnetic_tile, mvtec_features

pytestmark = pytest.mark.network

FILES = [source.url for source in (cifar10.SOURCE, crackforest.SOURCE, magnetic_tile.SOURCE)]
FILES += [
    mvtec_features.ADDRESS.format(model=model, object=name)
    for model in mvtec_features.MODELS.values()
    for name in mvtec_features.COUNTS
]
for idx_set in ("mnist", "fashion_mnist"):
    mirror, resources = benchmarks.get(idx_set).web()
    FILES += [mirror + name for name, _ in resources]


@pytest.mark.parametrize("url", FILES)
def test_the_file_is_there(url):
    with requests.get(url, stream=True, timeout=30) as answer:
        assert answer.status_code == 200
        assert next(answer.iter_content(1000))


@pytest.mark.parametrize("name", ["mnist", "magnetic_tile", "crackforest", "fashion_mnist", "cifar10"])
def test_a_fetched_set_loads(name):
    benchmark = benchmarks.get(name)
    benchmark.fetch()
    category = benchmark.load(benchmark.categories[0])
    published = benchmark.published(category.name)
    assert published is None or category.annotations.open()["anomaly_class"].value_counts().to_dict() == published
