"""When training stops, and at which epoch: the rules against what they say in words."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomaly_transfer.training import early_stopping, loop
from anomaly_transfer.training.loop import HELD_OUT, LOSS, SUM, Recipe, Tuning

values = st.lists(st.integers(0, 6).map(lambda value: value / 6), min_size=1, max_size=12)
patiences = st.integers(1, 12)


def seen(validation, patience):
    """Epochs one after the other, until the best of those seen lies so many back."""
    for epoch in range(len(validation)):
        if epoch - int(np.argmax(validation[: epoch + 1])) >= patience:
            break
    return epoch


@given(values, patiences)
def test_patience_counts_epochs_since_the_best(validation, patience):
    last = seen(validation, patience)
    assert early_stopping.until(validation, patience) == last
    chosen = early_stopping.best(validation, patience)
    assert validation[chosen] == max(validation[: last + 1])
    assert validation[chosen] not in validation[:chosen]


@given(values)
def test_without_patience_every_epoch_is_seen(validation):
    assert early_stopping.until(validation) == len(validation) - 1
    assert early_stopping.best(validation) == validation.index(max(validation))


@given(values, patiences)
def test_an_epoch_after_the_last_changes_nothing(validation, patience):
    last = early_stopping.until(validation, patience)
    assert early_stopping.best(validation[: last + 1], patience) == early_stopping.best(validation, patience)
    assert early_stopping.until(validation, patience + 1) >= last


@given(values, patiences)
def test_training_ends_where_the_rule_says(validation, patience):
    def stopped(epoch, patience):
        run = SimpleNamespace(recipe=Recipe(patience=patience), epoch=epoch, validation=lambda: validation[: epoch + 1])
        return loop.Run._stopped(run)

    epochs = range(len(validation))
    assert next((e for e in epochs if stopped(e, patience)), epochs[-1]) == early_stopping.until(validation, patience)
    assert not any(stopped(epoch, None) for epoch in epochs)


def test_what_was_seen_on_the_way_is_told_by_kind_and_level():
    """One row an epoch, kind and level; its value tells which."""
    kinds, levels = ("a", "b", "c"), ("stem", SUM)
    history = [
        {"epoch": epoch, "measure": kind, "level": level, "value": 100 * epoch + 10 * number + place}
        for epoch in range(3)
        for number, kind in enumerate((LOSS, HELD_OUT, *kinds))
        for place, level in enumerate(levels if kind in kinds else (SUM,))
    ]
    tuning = Tuning(history, None, None)
    assert tuning.epochs == 2
    assert tuning.losses() == [0, 100, 200]
    assert tuning.validation(kinds) == [31, 131, 231]
    assert tuning.validation(("a", "c"), "stem") == [30, 130, 230]
    assert tuning.validation(("b",)) == [31, 131, 231]
