"""When to stop fine-tuning: rules that choose an epoch from what was seen on the way.

Explained in the chapter *Fine-tuning without forgetting*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Rules by which a network is chosen, as records and the ledger call them. The oracle looks at test labels, and is no
#: method.
FROZEN, UNTRAINED, VALIDATION, LAST, ORACLE = "frozen", "untrained", "validation", "last epoch", "oracle"


def validation_by(kind: str) -> str:
    """The rule that validates by one kind of stand-ins alone."""
    return f"{VALIDATION} by {kind}"


def best(validation: Sequence[float], patience: int | None = None) -> int:
    """The epoch with the best validation value, the first of equals.

    Parameters
    ----------
    validation : sequence of float
        One value an epoch, the first before any training; more is better.
    patience : int, optional
        Look no further once so many epochs in a row have not improved on the best.

    Returns
    -------
    int
        0 means: do not train at all.

    >>> best([0.80, 0.84, 0.83, 0.82, 0.90], patience=2)
    1
    >>> best([0.80, 0.84, 0.83, 0.82, 0.90])
    4
    """
    return int(np.argmax(validation[: until(validation, patience) + 1]))


def until(validation: Sequence[float], patience: int | None = None) -> int:
    """The last epoch that training with this patience would see: see :func:`best`."""
    record = 0
    for epoch, value in enumerate(validation):
        if value > validation[record]:
            record = epoch
        if patience is not None and epoch - record >= patience:
            return epoch
    return len(validation) - 1
