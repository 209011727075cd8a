"""A category of a benchmark, ready to work on."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from anomaly_transfer import benchmarks
from anomaly_transfer.data.images import Images
from anomaly_transfer.data.splits import SPLITS, Fold


class Task(NamedTuple):
    """A category of a benchmark by its recommended split.

    Attributes
    ----------
    images : Images
    annotations : DataFrame
        One row an image, in the same order: ``id``, ``group``, ``anomaly_class``, ``grade`` and what else there is.
    folds : list of Fold
        Rows to fit on (``train``, normal images alone) and to score (``test``).
    """

    images: Images
    annotations: pd.DataFrame
    folds: list[Fold]


def load_benchmark(name: str, category: str, seed: int = 0) -> Task:
    """Load a category of a benchmark, and divide it by the split that is recommended for it.

    Parameters
    ----------
    name : str
        One of those that ``anomaly-transfer benchmarks`` lists.
    category : str
        One of the benchmark's.
    seed : int
        Of the split.

    Returns
    -------
    Task
        ``images``, ``annotations`` and ``folds``.

    Raises
    ------
    ValueError
        If there is no such benchmark or category; the message lists those that are.
    DataError
        If the data are not at hand, or are features without pictures; the message says what to do.

    Examples
    --------
    >>> import anomaly_transfer as at
    >>> images, annotations, folds = at.load_benchmark("elpv", "mono")
    >>> len(images) == len(annotations), len(folds)
    (True, 5)
    >>> set(annotations["anomaly_class"][folds[0].train])
    {'normal'}
    """
    benchmark = benchmarks.get(name)
    whole = benchmark.load(category)
    annotations = whole.annotations.open()
    return Task(whole.images, annotations, SPLITS[benchmark.splits[0]](annotations, seed))
