"""Features of images, by level of the network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np


def standardised(x: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Each channel in standard deviations of normal images, which need no label.

    Parameters
    ----------
    x : float array, shape (n, d)
    normal : float array, shape (n_normal, d)

    Returns
    -------
    float array, shape (n, d)
    """
    deviation = normal.std(axis=0)
    return (x - normal.mean(axis=0)) / np.maximum(deviation, 0.1 * np.median(deviation) + 1e-6)


@dataclass(frozen=True)
class Features:
    """Features of some images at some levels; rows are images.

    Attributes
    ----------
    arrays : dict of level name to float32 array
        Pooled features (images, channels) or spatial maps (images, channels, height, width), possibly mapped
        from disk; ``rows`` chooses among their rows, so that a subset costs nothing.
    rows : int array, shape (n_images,)
    """

    arrays: dict[str, np.ndarray]
    rows: np.ndarray

    @classmethod
    def of(cls, **arrays: np.ndarray) -> Features:
        """Features straight from arrays, one a level.

        >>> len(Features.of(head=np.zeros((3, 8), np.float32)))
        3
        """
        return cls(arrays, np.arange(len(next(iter(arrays.values())))))

    @property
    def levels(self) -> tuple[str, ...]:
        """Level names, from the input to the output."""
        return tuple(self.arrays)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over levels, shapes and values of the chosen rows."""
        total = hashlib.sha256()
        for level in self.levels:
            values = self[level]
            total.update(f"{level} {values.dtype} {values.shape}".encode() + values.tobytes())
        return total.hexdigest()

    def take(self, rows: np.ndarray) -> Features:
        """The features of some rows, e.g. of the training images."""
        return replace(self, rows=self.rows[rows])

    def select(self, levels: Sequence[str]) -> Features:
        """The features of some levels.

        Raises
        ------
        ValueError
            If a level is not there; the message lists those that are.
        """
        missing = [level for level in levels if level not in self.arrays]
        if missing:
            raise ValueError(f"There is no level {missing[0]!r}; choose from {', '.join(self.arrays)}.")
        return replace(self, arrays={level: self.arrays[level] for level in levels})

    def __getitem__(self, level: str) -> np.ndarray:
        """The array of one level at the chosen rows, in memory."""
        return np.asarray(self.arrays[level][self.rows])

    def batches(self, size: int = 64) -> Iterator[Features]:
        """The same features in pieces of at most ``size`` images, for what must not hold all in memory."""
        for start in range(0, len(self), size):
            yield replace(self, rows=self.rows[start : start + size])
