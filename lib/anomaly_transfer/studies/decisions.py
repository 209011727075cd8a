"""Cracks: from images to a decision, with and without labels (P3.b). Explained in the chapter *Concrete cracks*.

A detector is fitted on some photographs, its threshold set on others, and what its decisions cost is measured on a
third part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from anomaly_transfer import benchmarks, detectors, profiles
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.splits import N_FOLDS
from anomaly_transfer.errors import DataError
from anomaly_transfer.metrics import decision
from anomaly_transfer.metrics.aggregate import over_seeds
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, linear_probe, protocol, supervised
from anomaly_transfer.studies.base import Request, Study, Work
from anomaly_transfer.studies.detection import features_for
from anomaly_transfer.studies.protocol import Domains
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import early_stopping

CRACK = "crack"
#: The parts of a division, and their shares of the photographs in folds.
FIT, THRESHOLD, TEST = "fit", "threshold", "test"
PARTS = (FIT, FIT, THRESHOLD, TEST, TEST)
#: Tested images by all others, see ``aggregate.over_seeds``.
OVERLAP = PARTS.count(TEST) / (len(PARTS) - PARTS.count(TEST))
#: Detectors that see no labelled crack.
LABEL_FREE = ("gaussian", "patch-memory", "svm-pixels")
#: A linear head on frozen features with ten labelled cracks, and with all of the part that is fitted on; a network of
#: which everything is trained with them.
HEAD_10, HEAD, NETWORK = "head-10", "head-all", "network-all"
VARIANTS = (*LABEL_FREE, HEAD_10, HEAD, NETWORK)
DEFAULT = LABEL_FREE[0]
FEW = 10
#: Where an inspector may stand, fixed before any cost was computed: the share of images with a crack, and what a miss
#: costs in false alarms.
SCENARIOS: dict[str, tuple[float, float]] = {
    "1 in 100, a miss costs 10": (0.01, 10.0),
    "1 in 100, a miss costs 100": (0.01, 100.0),
    "1 in 10, a miss costs 100": (0.1, 100.0),
}
#: The threshold that the test images would have chosen for themselves: a bound, no rule.
HINDSIGHT = "hindsight"
RULES = (*decision.RULES, HINDSIGHT)
RUN = ["benchmark", "category", "variant", "seed"]


def request(asked: Experiment, store: Store) -> Request:
    """Scores of the images on which thresholds are set, and of those on which they are tested.

    Needs the class :data:`CRACK`; other anomalies are left out. The seed is that of the division, of what is random in
    the detector, and of the ten labelled cracks.

    Returns
    -------
    Request
        One row an image: ``row`` (its number in the category), ``part``, ``group``, ``crack`` (0 or 1), ``area`` (share
        of its pixels that are crack; none where there is no mask) and ``score``.

    Raises
    ------
    DataError
        If the category has no cracks, or too few groups to divide.
    """
    sizes = profiles.get(asked.profile)
    whole = benchmarks.get(asked.benchmark).load(asked.category, sizes.limit)
    settings = ["backbone", "image_size", "images_per_category", "memory_bank"]
    if asked.variant == NETWORK:
        settings += ["oneclass_images", "oneclass_epochs"]

    def compute() -> pd.DataFrame:
        rows, parts = divided(whole, asked.seed)
        part = whole.taken(rows)
        table = part.annotations.open()
        crack = (table["anomaly_class"] == CRACK).to_numpy()
        found = _scores(asked.variant, part, np.flatnonzero(parts == FIT), asked.seed, sizes, store)
        masks = [part.annotations.mask(int(row)) if crack[row] else None for row in range(len(rows))]
        frame = pd.DataFrame(
            {
                "row": rows,
                "part": parts,
                "group": table["group"].to_numpy(),
                "crack": crack.astype(int),
                "area": [np.nan if mask is None else mask.mean() for mask in masks],
                "score": found,
            }
        )
        return frame[frame["part"] != FIT].reset_index(drop=True)

    return base.request(STUDY, asked, settings, whole, sizes, compute)


def divided(category: Category, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal images and cracks in three parts that share no group.

    Parameters
    ----------
    category : Category
    seed : int

    Returns
    -------
    rows : int array, shape (n,)
        Of normal images and cracks.
    parts : str array, shape (n,)
        :data:`FIT`, :data:`THRESHOLD` or :data:`TEST`: two, one and two fifths of the groups, with about the same share
        of cracks.

    Raises
    ------
    DataError
        If there are no cracks, fewer than five groups, or a part lacks one kind.
    """
    table = category.annotations.open()
    rows = np.flatnonzero(table["anomaly_class"].isin([NORMAL, CRACK]))
    crack = (table["anomaly_class"].to_numpy() == CRACK)[rows]
    groups = table["group"].to_numpy()[rows]
    where = f"{category.benchmark}/{category.name}"
    if not crack.any():
        raise DataError(f"{where} has no images of the class {CRACK!r}.")
    if len(np.unique(groups)) < N_FOLDS:
        raise DataError(f"{where} has {len(np.unique(groups))} groups: at least {N_FOLDS} are needed for three parts.")
    parts = np.full(len(rows), TEST, dtype=object)
    folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed).split(rows, crack, groups)
    for name, (_, inside) in zip(PARTS, folds, strict=True):
        parts[inside] = name
    for name in dict.fromkeys(PARTS):
        n_cracks, n = int(crack[parts == name].sum()), int((parts == name).sum())
        if n_cracks in (0, n):
            raise DataError(
                f"{where}: the part {name!r} has {n - n_cracks} normal images and {n_cracks} cracks, both kinds are "
                "needed: use more images."
            )
    return rows, parts


def _scores(variant: str, category: Category, fit: np.ndarray, seed: int, sizes: Profile, store: Store) -> np.ndarray:
    """Scores of all images by a detector that has seen the rows ``fit`` only."""
    rest = np.setdiff1d(np.arange(len(category.annotations)), fit)
    domain = Domains(category, category.annotations.open(), fit, rest)
    normal, cracks = domain.rows(fit, NORMAL), domain.rows(fit, CRACK)
    if variant in LABEL_FREE:
        detector = detectors.make(variant, seed=seed, memory_bank=sizes.memory_bank)
        features = features_for(detector.kind, detector.levels, sizes, category, store)
        return detector.fit(features.take(normal)).anomaly_score(features)
    if variant == NETWORK:
        # At the size at which the frozen features are taken, so that no crack is lost by reduction alone.
        seen = sizes.model_copy(update={"oneclass_image_size": sizes.image_size})
        made = supervised.train(domain, "imagenet-whole", seed, seen, store, linear_probe.ALL, [CRACK])
        made.load(early_stopping.best(made.validation()))
        return made.score(category.images)
    if variant == HEAD_10:
        cracks = protocol.draw_in_turn([cracks], FEW, np.random.default_rng(seed))
    features = features_for("pooled", None, sizes, category, store)
    return linear_probe.head_scores(features, normal, cracks)


def decide(frame: pd.DataFrame, weights: Sequence[float], rules: Sequence[str] = RULES) -> pd.DataFrame:
    """Thresholds by each rule, and what they cost on the test images.

    Parameters
    ----------
    frame : DataFrame
        Rows of this study.
    weights : sequence of float in 0..1
        See ``decision.cost_weight``.
    rules : sequence of str
        Of :data:`RULES`.

    Returns
    -------
    DataFrame
        One row a (:data:`RUN`, weight, rule): ``threshold``, ``false alarms``, ``misses``, ``cost`` (see
        ``decision.expected_cost``) and ``relative`` (that cost as a share of the better blind decision's: above 1 it
        were better not to look).
    """
    rows = []
    for where, part in frame.groupby(RUN, sort=False):
        test, known = (_arrays(part[part["part"] == name]) for name in (TEST, THRESHOLD))
        for weight in weights:
            for rule in rules:
                seen = test if rule == HINDSIGHT else known
                threshold = decision.RULES["cheapest" if rule == HINDSIGHT else rule](*seen, weight)
                rows.append(dict(zip(RUN, where, strict=True)) | {"rule": rule} | _told(*test, threshold, weight))
    return pd.DataFrame(rows)


def with_few(frame: pd.DataFrame, weight: float, shots: Sequence[int], draws: int, seed: int = 0) -> pd.DataFrame:
    """What a threshold costs if only ``k`` labelled cracks help to set it; normal images are all used.

    Parameters
    ----------
    frame : DataFrame
        Rows of this study.
    weight : float in 0..1
    shots : sequence of int
        Numbers of labelled cracks; more than there are means all.
    draws : int
        Choices of cracks.
    seed : int

    Returns
    -------
    DataFrame
        As :func:`decide`, with the columns ``k`` and ``draw``, for the rules that use labels.
    """
    rows = []
    rules = [rule for rule, threshold in decision.RULES.items() if threshold is not decision.quantile]
    for where, part in frame.groupby(RUN, sort=False):
        test = _arrays(part[part["part"] == TEST])
        scores, crack = _arrays(part[part["part"] == THRESHOLD])
        for k in tqdm(shots, desc="labelled cracks", leave=False):
            for draw in range(draws):
                chosen = protocol.draw_in_turn([np.flatnonzero(crack)], k, np.random.default_rng([seed, k, draw]))
                kept = np.concatenate([np.flatnonzero(~crack), chosen])
                for rule in rules:
                    threshold = decision.RULES[rule](scores[kept], crack[kept], weight)
                    told = {"rule": rule, "k": k, "draw": draw} | _told(*test, threshold, weight)
                    rows.append(dict(zip(RUN, where, strict=True)) | told)
    return pd.DataFrame(rows)


def saved(found: pd.DataFrame) -> pd.DataFrame:
    """What each detector that has learnt from labels saves of the relative cost of the best that has not.

    "Best" has the lowest mean over divisions and is chosen by the test images, in favour of doing without labels. Both
    have their threshold by the same rule.

    Parameters
    ----------
    found : DataFrame
        Of :func:`decide`.

    Returns
    -------
    DataFrame
        As ``aggregate.over_seeds``, one row a (benchmark, category, weight, rule, variant): ``value`` above zero if
        labels save, and ``free``, the detector without labels.
    """
    where = ["benchmark", "category", "weight", "rule"]
    is_free = found["variant"].isin(LABEL_FREE)
    means = found[is_free].groupby([*where, "variant"], sort=False)["relative"].mean().reset_index()
    best = means.loc[means.groupby(where, sort=False)["relative"].idxmin(), [*where, "variant"]]
    free = found.merge(best, on=[*where, "variant"])[[*where, "seed", "variant", "relative"]]
    both = found[~is_free].merge(free, on=[*where, "seed"], suffixes=("", " free"))
    both["value"] = both["relative free"] - both["relative"]
    rows = over_seeds(both, [*where, "variant"], OVERLAP)
    return rows.merge(best.rename(columns={"variant": "free"}), on=where)


def at_no_label(frame: pd.DataFrame) -> pd.DataFrame:
    """Tested images with the decision of the threshold that needs no label.

    Parameters
    ----------
    frame : DataFrame
        Rows of this study.

    Returns
    -------
    DataFrame
        The rows of the part :data:`TEST` with the column ``flagged`` (bool).
    """
    parts = []
    for _, part in frame.groupby(RUN, sort=False):
        threshold = decision.quantile(*_arrays(part[part["part"] == THRESHOLD]), 0.5)
        test = part[part["part"] == TEST]
        parts.append(test.assign(flagged=test["score"] > threshold))
    return pd.concat(parts)


def _arrays(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels."""
    return part["score"].to_numpy(), part["crack"].to_numpy(dtype=bool)


def _told(scores: np.ndarray, crack: np.ndarray, threshold: float, weight: float) -> dict[str, float]:
    false_alarms, misses = decision.error_rates(scores, crack, threshold)
    cost = decision.expected_cost(false_alarms, misses, weight)
    blind = decision.blind_cost(weight)
    return {
        "weight": weight,
        "threshold": threshold,
        "false alarms": false_alarms,
        "misses": misses,
        "cost": cost,
        "relative": cost / blind if blind else np.nan,
    }


def work(experiment: Experiment, sizes: Profile) -> Work | None:
    """One training, of the network that is trained with labels."""
    if experiment.variant != NETWORK:
        return None
    number = protocol.at_hand(experiment, sizes.oneclass_images)
    return Work("image_size", number, sizes.oneclass_epochs, looked=protocol.validated(number))


STUDY = Study(
    "decisions",
    request,
    VARIANTS,
    DEFAULT,
    lambda variant: [variant] if variant in LABEL_FREE else [],
    work=work,
    memory=("cracks", "tuned"),
)
run = STUDY.run
