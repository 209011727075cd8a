"""What every measure of similarity is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anomaly_transfer.errors import DataError

#: A measure made ready for some data: from row numbers of a first and a second sample to a number.
Statistic = Callable[[np.ndarray, np.ndarray], float]

#: Fewer rows than this have no covariance, and no unbiased estimate of anything squared.
MINIMUM = 4


@dataclass(frozen=True)
class Measure:
    """A measure of the relation between two samples (unpaired), or between two views of one sample (paired).

    Attributes
    ----------
    name, title : str
    paired : bool
        True if row i of the first array and row i of the second are the same image.
    farther : bool
        True for a distance (larger is farther), False for a similarity.
    range : str
        Smallest and largest value, and the value of no difference (unpaired) or of no relation (paired).
    equation, source : str
        LaTeX, and the key of the source in ``book/references.bib``.
    invariant : tuple of str
        Among ``"rotation"`` (orthogonal maps), ``"scale"`` (one factor) and ``"shift"``: what may be done to both
        samples alike (unpaired), or to either view alone (paired), without changing the value.
    symmetric : bool
        Whether the two samples may change places.
    sees, blind : str
        What moves it, and what does not.
    prepare : callable
        Unpaired: (pool, reference, groups) to a :data:`Statistic`; ``pool`` holds the rows of all samples that will
        be compared, so that work is shared, and ``reference`` are the rows that set scales such as a bandwidth.
        Paired: (first, second, groups), and the statistic takes rows of each.
    """

    name: str
    title: str
    paired: bool
    farther: bool
    range: str
    equation: str
    source: str
    invariant: tuple[str, ...]
    sees: str
    blind: str
    prepare: Callable[[np.ndarray, np.ndarray, np.ndarray], Statistic]
    symmetric: bool = True

    def on(self, first: np.ndarray, second: np.ndarray | None = None, groups: np.ndarray | None = None) -> Statistic:
        """Make the measure ready for some data; the work that all comparisons share is done here.

        Parameters
        ----------
        first : float array, shape (n, d)
            Unpaired: the rows of *all* samples that will be compared. Paired: the first view.
        second : float array, optional
            Unpaired, shape (m, d): rows that set scales such as a bandwidth; values can be compared with each other
            only if they share it. Default: ``first``. Paired, shape (n, e): the second view; needed.
        groups : array, shape (n,), optional
            Rows of one group show the same object: a measure that cross-validates keeps them together.

        Returns
        -------
        Statistic
            From rows of the first and of the second sample (paired: of the first and the second view) to a float.

        Raises
        ------
        DataError
            If a value is not finite, shapes do not fit, rows are too few, or nothing varies.
        """
        first = _checked(first)
        if self.paired:
            if second is None or len(second) != len(first):
                raise DataError(f"{self.title} needs two views of the same images: as many rows in both.")
            second = _checked(second)
        else:
            second = first if second is None else _checked(second)
            if second.shape[1] != first.shape[1]:
                raise DataError(f"{self.title} compares samples in one feature space: the columns must agree.")
        statistic = self.prepare(first, second, np.arange(len(first)) if groups is None else np.asarray(groups))

        def checked(a: np.ndarray, b: np.ndarray) -> float:
            if min(len(a), len(b)) < MINIMUM:
                raise DataError(f"{self.title} needs at least {MINIMUM} rows on each side, not {min(len(a), len(b))}.")
            return float(statistic(a, b))

        return checked

    def __call__(self, first: np.ndarray, second: np.ndarray) -> float:
        """The value for two arrays: shapes (n, d) and (m, d), or, paired, (n, d) and (n, e). Errors as :meth:`on`."""
        n = len(first)
        if self.paired:
            return self.on(first, second)(np.arange(n), np.arange(n))
        if np.ndim(second) != 2 or np.shape(second)[1] != np.shape(first)[1]:
            raise DataError(f"{self.title} compares samples in one feature space: the columns must agree.")
        pool = np.concatenate([first, second])
        return self.on(pool)(np.arange(n), np.arange(n, len(pool)))


def _checked(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or len(x) < MINIMUM:
        raise DataError(f"A sample is an array of at least {MINIMUM} rows and of columns, not of shape {x.shape}.")
    if not np.isfinite(x).all():
        raise DataError("A sample has values that are not finite: look for corrupt images or a diverged network.")
    if np.ptp(x, axis=0).max() == 0:
        raise DataError("The rows of a sample do not vary: are they copies of one image?")
    return x
