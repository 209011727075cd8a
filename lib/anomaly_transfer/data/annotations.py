"""What is known about each image, sealed while a detector is at work.

Test labels must not reach fitting, model selection or stopping. Detectors are therefore never handed them, and
every fit and every scoring runs inside :func:`sealed`, where opening any annotations is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import pandas as pd

from anomaly_transfer.data.images import Masks
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
    """Labels, groups, grades and masks of a set of images; only splitting and evaluation open them.

    Parameters
    ----------
    table : DataFrame, one row an image, with the columns

        - ``id`` (str): unique name of the image;
        - ``group`` (str): images of one object share it, and a grouped split keeps them together;
        - ``anomaly_class`` (str): ``"normal"`` or the kind of anomaly;
        - ``grade`` (float): degree of anomaly in 0..1, NaN where the benchmark has none.

        - ``part`` (str), only where there is an official split: ``"train"`` or ``"test"``.

        Further columns are kept.
    masks : Masks, optional
        Defect masks in the same order; None among them where a defective image has none.
    """

    def __init__(self, table: pd.DataFrame, masks: Masks | None = None):
        missing = set(COLUMNS) - set(table.columns)
        if missing:
            raise ValueError(f"Annotations lack the columns {sorted(missing)}.")
        if table["id"].duplicated().any():
            raise ValueError("Annotations need one unique id per image.")
        if masks is not None and len(masks) != len(table):
            raise ValueError(f"There are {len(masks)} masks for {len(table)} images.")
        self._table = table.reset_index(drop=True)
        self._masks = masks

    def __len__(self) -> int:
        return len(self._table)

    def take(self, rows: np.ndarray) -> Annotations:
        """The annotations of some rows."""
        return Annotations(self._table.iloc[rows], None if self._masks is None else self._masks.take(rows))

    def open(self) -> pd.DataFrame:
        """A copy of the table.

        Raises
        ------
        LabelLeakError
            While a detector is being fitted or is scoring.
        """
        self._check_open()
        return self._table.copy()

    @property
    def has_masks(self) -> bool:
        """Whether the benchmark comes with defect masks."""
        return self._masks is not None

    def mask(self, row: int) -> np.ndarray | None:
        """The defect mask of one image, bool (height, width); None if it has none.

        Raises
        ------
        DataError
            If the mask cannot be read.
        LabelLeakError
            While a detector is being fitted or is scoring.
        """
        self._check_open()
        return None if self._masks is None else self._masks[row]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole table and of the masks."""
        table = self._table.to_csv(index=False)
        return digest(table if self._masks is None else [table, self._masks.fingerprint])

    def _check_open(self) -> None:
        if _SEALED.get():
            raise LabelLeakError("A detector tried to open the annotations: it may see images only.")
