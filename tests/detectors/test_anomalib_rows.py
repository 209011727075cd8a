"""Of the detectors of other packages, what can be tested without them."""

import numpy as np
import pytest
from tests.conftest import map_features

from anomaly_transfer.detectors.anomalib import AnomalibPaDiM
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features


def test_only_the_rows_fitted_on_are_checked():
    """Training images that are all the same are found, whatever test images lie in the same arrays."""
    good = map_features(30)
    beside = {name: np.concatenate([np.ones_like(array), array]) for name, array in good.arrays.items()}
    with pytest.raises(DataError, match="do not vary"):
        AnomalibPaDiM().fit(Features.of(**beside).take(np.arange(30)))
