"""Measures of how two sets of images are related, each with its null and its interval (Part I).

A measure is looked up by name: ``similarity.get("mmd")``. :func:`relate` gives a value with a permutation test and an
interval; ``transferability`` scores how well features serve a labelled task.
"""

from anomaly_transfer.similarity.base import Measure
from anomaly_transfer.similarity.paired import PAIRED
from anomaly_transfer.similarity.resampling import Relation, relate
from anomaly_transfer.similarity.unpaired import UNPAIRED

__all__ = ["PAIRED", "UNPAIRED", "Measure", "Relation", "get", "measures", "relate"]


def measures() -> dict[str, Measure]:
    """All measures by name: first those of two samples, then those of paired rows."""
    return {measure.name: measure for measure in (*UNPAIRED, *PAIRED)}


def get(name: str) -> Measure:
    """The measure called ``name``.

    Raises
    ------
    ValueError
        If there is none; the message lists those that are.

    >>> get("mmd").title
    'MMD, one bandwidth'
    """
    known = measures()
    if name not in known:
        raise ValueError(f"There is no measure {name!r}; choose from {', '.join(known)}.")
    return known[name]
