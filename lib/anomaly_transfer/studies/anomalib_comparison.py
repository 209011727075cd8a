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
from anomaly_transfer.studies.records import Experiment

#: See ``detectors.anomalib``.
PEERS = ("anomalib-padim", "anomalib-patchcore")


def request(asked: Experiment, store: Store) -> Request:
    """The same against detectors of other packages, with what each took on the first fold, one after the other.

    Needs the extra ``peers``.

    Returns
    -------
    Request
        As of ``comparison``, with ``fit`` (seconds), ``score`` (milliseconds an image) and ``memory`` (MB) of the
        peer and ``own fit``, ``own score`` and ``own memory`` of the detector (see :func:`costs`).
    """
    sizes = profiles.get(asked.profile)
    known = benchmarks.get(asked.benchmark)
    whole = known.load(asked.category, sizes.limit)

    def compute() -> pd.DataFrame:
        found = paired(whole, asked.variant, PEERS, asked.seed, sizes, store)
        fold = SPLITS[known.splits[0]](whole.annotations.open(), asked.seed)[0]
        taken = costs(whole, fold, [asked.variant, *PEERS], sizes, store)[["fit", "score", "memory"]]
        for column in taken:
            found[column] = taken.loc[found["rival"], column].to_numpy()
            found[f"own {column}"] = taken.loc[asked.variant, column]
        return found

    return base.request(STUDY, asked, SETTINGS, whole, sizes, compute)


STUDY = Study(
    "anomalib_comparison",
    request,
    tuple(detectors.methods()),
    DEFAULT,
    lambda method: (method, *PEERS),
    package="anomalib",
)
run = STUDY.run
