import numpy as np
import pandas as pd
import pytest

from anomaly_transfer.data.annotations import Annotations, sealed
from anomaly_transfer.data.images import MaskArray
from anomaly_transfer.errors import LabelLeakError


def table(**changes):
    base = {"id": ["a", "b"], "group": ["g", "g"], "anomaly_class": ["normal", "hole"], "grade": [np.nan, np.nan]}
    return pd.DataFrame(base | changes)


def test_open_gives_a_copy():
    annotations = Annotations(table())
    opened = annotations.open()
    opened.loc[0, "anomaly_class"] = "hole"
    assert annotations.open().loc[0, "anomaly_class"] == "normal"


def test_sealed_annotations_cannot_be_opened_and_open_again_after():
    annotations = Annotations(table())
    with sealed(), pytest.raises(LabelLeakError):
        annotations.open()
    assert len(annotations.open()) == 2


def test_the_seal_ends_with_an_error_inside():
    annotations = Annotations(table())
    with pytest.raises(RuntimeError), sealed():
        raise RuntimeError
    annotations.open()


def test_ids_must_be_unique_and_columns_complete():
    with pytest.raises(ValueError, match="unique id"):
        Annotations(table(id=["a", "a"]))
    with pytest.raises(ValueError, match="grade"):
        Annotations(table().drop(columns="grade"))


def test_fingerprint_follows_the_content():
    first = Annotations(table()).fingerprint
    assert Annotations(table()).fingerprint == first
    assert Annotations(table(anomaly_class=["hole", "normal"])).fingerprint != first


def test_masks_are_sealed_too():
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 1] = True
    annotations = Annotations(table(), MaskArray(masks))
    assert annotations.has_masks
    assert np.array_equal(annotations.mask(1), masks[1])
    assert np.array_equal(annotations.take(np.array([1])).mask(0), masks[1])
    with sealed(), pytest.raises(LabelLeakError):
        annotations.mask(1)
    assert Annotations(table()).mask(1) is None
    assert annotations.fingerprint != Annotations(table(), MaskArray(~masks)).fingerprint
    with pytest.raises(ValueError, match="1 masks for 2 images"):
        Annotations(table(), MaskArray(masks[:1]))
