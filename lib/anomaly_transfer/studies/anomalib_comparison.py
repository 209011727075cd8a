"""A detector beside those of anomalib, with what each takes.

Explained in the chapter *Side by side*.
"""

from __future__ import annotations

import pandas as pd

from anomaly_transfer import benchmarks, detectors, profiles
from anomaly_transfer.data.splits import SPLITS
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base
from anomaly_transfer.studies.base import Request, Study
from anomaly_transfer.studies.comparison import DEFAULT, SETTINGS, costs, paired

#: See ``detectors.anomalib``.
PEERS = ("anomalib-padim", "anomalib-patchcore")


def request(benchmark: str, category: str, variant: str, seed: int, profile: str, store: Store) -> Request:
    """The same against detectors of other packages, with what each took on the first fold, one after the other.

    Needs the extra ``peers``.

    Parameters
    ----------
    benchmark, category, variant, seed, profile, store
        See :func:`run`.

    Returns
    -------
    Request
        As of :func:`run`, with ``fit`` (seconds), ``score`` (milliseconds an image) and ``memory`` (megabytes) of the
        peer and ``own fit``, ``own score`` and ``own memory`` of the detector (see :func:`costs`).
    """
    sizes = profiles.get(profile)
    known = benchmarks.get(benchmark)
    whole = known.load(category, sizes.limit)

    def compute() -> pd.DataFrame:
        found = paired(whole, variant, PEERS, seed, sizes, store)
        fold = SPLITS[known.splits[0]](whole.annotations.open(), seed)[0]
        taken = costs(whole, fold, [variant, *PEERS], sizes, store)[["fit", "score", "memory"]]
        for column in taken:
            found[column] = taken.loc[found["rival"], column].to_numpy()
            found[f"own {column}"] = taken.loc[variant, column]
        return found

    return base.request(STUDY, SETTINGS, whole, variant, seed, sizes, compute)


STUDY = Study(
    "anomalib_comparison",
    request,
    tuple(detectors.methods()),
    DEFAULT,
    lambda method: (method, *PEERS),
    package="anomalib",
)
run = STUDY.run
