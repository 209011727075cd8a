"""What is known about each image, sealed while a detector is at work.

Test labels must not reach fitting, model selection or stopping. Detectors are therefore never handed them, and
every fit and every scoring runs inside :func:`sealed`, where opening any annotations is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pandas as pd

from anomaly_transfer.errors import LabelLeakError
from anomaly_transfer.fingerprint import digest

_SEALED: ContextVar[bool] = ContextVar("sealed", default=False)

#: The value of ``anomaly_class`` for an image without anomaly.
NORMAL = "normal"

COLUMNS = ["id", "group", "anomaly_class", "grade"]


@contextmanager
def sealed() -> Iterator[None]:
    """Within this block no annotations can be opened: a detector is at work."""
    token = _SEALED.set(True)
    try:
        yield
    finally:
        _SEALED.reset(token)


class Annotations:
    """Labels, groups and grades of a set of images; only splitting and evaluation open them.

    Parameters
    ----------
    table : DataFrame, one row an image, with the columns

        - ``id`` (str): unique name of the image;
        - ``group`` (str): images of one object share it, and a grouped split keeps them together;
        - ``anomaly_class`` (str): ``"normal"`` or the kind of anomaly;
        - ``grade`` (float): degree of anomaly in 0..1, NaN where the benchmark has none.

        Further columns (masks, an official split) are kept.
    """

    def __init__(self, table: pd.DataFrame):
        missing = set(COLUMNS) - set(table.columns)
        if missing:
            raise ValueError(f"Annotations lack the columns {sorted(missing)}.")
        if table["id"].duplicated().any():
            raise ValueError("Annotations need one unique id per image.")
        self._table = table.reset_index(drop=True)

    def __len__(self) -> int:
        return len(self._table)

    def open(self) -> pd.DataFrame:
        """A copy of the table.

        Raises
        ------
        LabelLeakError
            While a detector is being fitted or is scoring.
        """
        if _SEALED.get():
            raise LabelLeakError("A detector tried to open the annotations: it may see images only.")
        return self._table.copy()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole table."""
        return digest(self._table.to_csv(index=False))
