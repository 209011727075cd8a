"""Effects that claims are judged by, each computed from recorded runs: one row a case, with its 95 % interval.

``claims.yml`` names them, with their further arguments. The chapters explain how each is measured; here they are
brought to one form: an effect takes the recorded rows of the studies that :data:`EFFECTS` names, one frame each,
and gives a frame with the columns :data:`CASE`, differences of AUROC in -1..1 if nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anomaly_transfer import benchmarks, similarity
from anomaly_transfer.analysis import ablation, hypothesis, transfer_prediction
from anomaly_transfer.benchmarks.surfaces import CONTROL
from anomaly_transfer.metrics import aggregate
from anomaly_transfer.metrics.decision import cost_weight
from anomaly_transfer.similarity import simulation
from anomaly_transfer.studies import (
    anomalib_comparison,
    comparison,
    decisions,
    detection,
    finetuning,
    linear_probe,
    localisation,
    normal_similarity,
)
from anomaly_transfer.training import pseudo_anomalies
from anomaly_transfer.training.early_stopping import VALIDATION, validation_by

CASE = ["case", "value", "low", "high"]
#: Sizes of samples like those of anomaly classes, and channels like those of a network's last level.
SIMULATED_SIZES, SIMULATED_CHANNELS, SIMULATED_REPEATS = (16, 32, 64), 512, 100


@dataclass(frozen=True)
class Effect:
    """How to compute an effect.

    Attributes
    ----------
    compute : callable
        Takes what :attr:`reads` names, in that order, and the claim's arguments; gives the columns :data:`CASE`.
    reads : tuple of str
        Studies whose recorded rows it takes.
    """

    compute: Callable[..., pd.DataFrame]
    reads: tuple[str, ...]


def nearness(related: pd.DataFrame, region: str) -> pd.DataFrame:
    """Nearness of each class of defects that has a scale, in the network from ImageNet (P1.a, P1.b).

    Parameters
    ----------
    related : DataFrame
        Rows of the study ``normal_similarity``.
    region : {"image", "defect"}
        Whole images at the last level, or the patch on the defect.
    """
    found = _certain(normal_similarity.verdicts(related))
    found = found[found["start"] == "imagenet"]
    found = hypothesis.last_level(found) if region == "image" else found[found["region"] == region]
    return _cases(found.dropna(subset="low").assign(value=lambda rows: rows["nearness"]))


def separability(related: pd.DataFrame, what: str) -> pd.DataFrame:
    """AUROC or margin of a linear classifier at the last level, for each class of defects (P1.d).

    Parameters
    ----------
    related : DataFrame
        Rows of the study ``normal_similarity``.
    what : {"separability", "margin"}
        The margin is given of classes that are separated with an AUROC above ``hypothesis.SEPARABLE``.
    """
    found = _certain(normal_similarity.verdicts(related))
    found = hypothesis.last_level(found[found["start"] == "imagenet"])
    if what == "margin":
        found = found[found["separability"] > hypothesis.SEPARABLE]
    found = found.dropna(subset=what)
    return _cases(found.assign(value=found[what], low=found[f"low of {what}"], high=found[f"high of {what}"]))


def few_shot_gain(shots: pd.DataFrame, start: str, over: str) -> pd.DataFrame:
    """AUROC from one start minus that from another with ``hypothesis.SHOTS`` labels a class, paired by draw (P1.c)."""
    found = _certain(hypothesis.detection(shots))
    found = found[found["k"] == hypothesis.SHOTS]
    index = ["benchmark", "category", "draw"]
    draws = found.pivot_table(index=index, columns="start", values="value")
    apart = (draws[start] - draws[over]).rename("value").dropna().reset_index()
    return _cases(aggregate.mean_over_draws(apart, ["benchmark", "category"]))


def similarity_and_gain(related: pd.DataFrame, shots: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of nearness with the gain by normal images over the classes of a category.

    It is taken within a level, so that levels cannot pose as classes, and averaged over levels; a benchmark's
    categories and starts take the place of seeds. Categories with fewer than five classes have none.
    """
    found = transfer_prediction.join(related, shots).dropna(subset=transfer_prediction.GAIN)
    found = found[found["anomaly_class"] != CONTROL]
    rows = []
    for (benchmark, category, start), part in found.groupby(["benchmark", "category", "start"]):
        ranks = transfer_prediction.correlations(part, transfer_prediction.GAIN, "level").loc["nearness"].dropna()
        if len(ranks):
            rows.append({"case": benchmark, "seed": f"{category} {start}", "value": ranks.mean()})
    return aggregate.over_seeds(pd.DataFrame(rows), ["case"])[CASE]


def rules_apart(found: pd.DataFrame, rule: str, over: str, variant: str = finetuning.DEFAULT) -> pd.DataFrame:
    """Test AUROC of fine-tuning by one of ``finetuning.RULES`` minus that by another, paired by seed (P2.a, P2.b)."""
    rows = found[(found["kind"] == "rule") & (found["variant"] == variant)]
    wide = rows.pivot_table(index=[*ablation.WHERE, "seed"], columns="measure", values="value", sort=False)
    apart = (wide[rule] - wide[over]).rename("value").dropna().reset_index()
    return _cases(aggregate.over_seeds(apart, ablation.WHERE))


def validation_follows(found: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of the steps of validation and test AUROC from epoch to epoch (P2.b)."""
    return _cases(ablation.agreement(found[found["variant"] == finetuning.DEFAULT]))


def stand_ins_apart(found: pd.DataFrame) -> pd.DataFrame:
    """Test AUROC when one kind of stand-in stops minus that when all six do, one case a kind and data set (P2.d)."""
    parts = []
    for kind in pseudo_anomalies.KINDS:
        part = rules_apart(found, validation_by(kind), VALIDATION)
        parts.append(part.assign(case=part["case"] + ", " + kind))
    return pd.concat(parts)


def objective(found: pd.DataFrame, variant: str) -> pd.DataFrame:
    """AUROC at the last epoch with the paper's objective minus that with another, paired by seed (P2.d)."""
    apart = ablation.differences(found[found["variant"].isin([finetuning.DEFAULT, variant])], "last epoch")
    return _cases(apart.assign(value=-apart["value"], low=-apart["high"], high=-apart["low"]))


def detectors_apart(found: pd.DataFrame, method: str, over: str) -> pd.DataFrame:
    """AUROC of a detector minus that of another, by the recommended split and of seed 0.

    The recorded runs keep no scores, so the interval is that of unpaired values: rather too wide, since both detectors
    were tested on the same images.
    """
    rows = detection.recommended(found)
    rows = rows[rows["method"].isin((method, over)) & (rows["seed"] == 0)]
    wide = rows.pivot_table(index=ablation.WHERE, columns="method", values=["value", "low", "high"], sort=False)
    wide = wide.dropna()
    value = wide["value"][method] - wide["value"][over]
    below = np.hypot(wide["value"][method] - wide["low"][method], wide["high"][over] - wide["value"][over])
    above = np.hypot(wide["high"][method] - wide["value"][method], wide["value"][over] - wide["low"][over])
    return _cases(pd.DataFrame({"value": value, "low": value - below, "high": value + above}).reset_index())


def leak(found: pd.DataFrame, split: str) -> pd.DataFrame:
    """AUROC by a split that mixes groups minus that by the grouped one, same images, for each data set and detector."""
    rows = found[(found["split"] == split) & (found["group"] == "minus grouped") & (found["metric"] == "auroc")]
    rows = aggregate.mean_over_seeds(rows)
    return _cases(rows, "method")


def factorial(found: pd.DataFrame, part: str) -> pd.DataFrame:
    """One part of the factorial of labels and transfer (P3.a).

    Parameters
    ----------
    found : DataFrame
        Rows of the study ``linear_probe``.
    part : str
        See ``linear_probe.gains``.
    """
    rows = linear_probe.gains(found)
    return _over_divisions(rows[rows["part"] == part])


def with_all_labels(found: pd.DataFrame, over: str | None = None, average: bool = False) -> pd.DataFrame:
    """AUROC of a head with all labels on transferred features, or its relative gain on another detector (P3.b).

    Parameters
    ----------
    found : DataFrame
        Rows of the study ``linear_probe``.
    over : str, optional
        A detector without labels of ``linear_probe.run``.
    average : bool
        Whether data sets are averaged, seed by seed, to a single case.
    """
    values = _by_method(found)
    reached = values[linear_probe.SEEN, linear_probe.ALL]
    value = reached if over is None else reached / values[over, 0] - 1
    if average:
        value = value.groupby(level=["seed", "draw"]).mean()
        value = pd.concat({("mean over", "data sets"): value}, names=ablation.WHERE)
    return _over_draws_and_divisions(value)


def unseen_types(found: pd.DataFrame) -> pd.DataFrame:
    """AUROC with all labels of *other* types minus that of the best detector without labels, transferred features."""
    values = _by_method(found)
    free = values[[(method, 0) for method in linear_probe.LABEL_FREE]]
    # The best detector of a run, not of a draw.
    best = free.groupby(level=linear_probe.RUN).transform("mean").idxmax(axis=1)
    of_best = pd.Series([free.loc[run, name] for run, name in best.items()], index=free.index)
    return _over_draws_and_divisions((values[linear_probe.UNSEEN, linear_probe.ALL] - of_best).dropna())


def localisation_gain(found: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What fine-tuning to the last epoch adds to heat maps: one case a data set and patch detector (P2.c)."""
    rows = found[(found["state"] == localisation.LAST) & (found["metric"] == metric)]
    rows = rows.assign(value=rows["gain"])
    return _cases(aggregate.over_seeds(rows, [*ablation.WHERE, "detector"]), "detector")


def relative_cost(found: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Expected cost relative to deciding with eyes closed: one case a place and detector."""
    weights = {name: cost_weight(*place) for name, place in decisions.SCENARIOS.items()}
    decided = decisions.decide(found, list(weights.values()), [rule])
    decided = decided.assign(value=decided["relative"])
    rows = aggregate.over_seeds(decided, ["variant", "weight"], decisions.OVERLAP)
    places = rows["weight"].map({weight: name for name, weight in weights.items()})
    return rows.assign(case=rows["variant"] + ", " + places)[CASE]


def combination(found: pd.DataFrame, over: str | None = None) -> pd.DataFrame:
    """AUROC of the combined detector minus that of one of its parts, paired on images.

    Parameters
    ----------
    found : DataFrame
        Rows of the study ``comparison``.
    over : str, optional
        A part; default: on each data set the best of them, chosen in its favour by the test images.
    """
    rows = comparison.best_of(found) if over is None else found[found["rival"] == over]
    return _cases(rows.assign(value=rows["more"], low=rows["more low"], high=rows["more high"]))


def over_peers(found: pd.DataFrame) -> pd.DataFrame:
    """What the combined detector has more than the best detector of other packages.

    Parameters
    ----------
    found : DataFrame
        Rows of ``anomalib_comparison``.
    """
    rows = comparison.best_of(found, anomalib_comparison.PEERS)
    return _cases(rows.assign(value=rows["more"], low=rows["more low"], high=rows["more high"]))


def from_nothing(measure: str) -> pd.DataFrame:
    """What a paired measure says of two simulated tables that have nothing in common, by the number of images."""
    chosen = [known for known in similarity.PAIRED if known.title == measure]
    found = pd.concat(
        simulation.noise_floor(chosen, SIMULATED_SIZES, SIMULATED_CHANNELS, 1, seed).assign(seed=seed)
        for seed in range(SIMULATED_REPEATS)
    )
    return aggregate.over_seeds(found.assign(case="simulated, n = " + found["n"].astype(str)), ["case"])[CASE]


#: By the names that ``claims.yml`` uses.
EFFECTS: dict[str, Effect] = {
    "nearness": Effect(nearness, ("normal_similarity",)),
    "separability": Effect(separability, ("normal_similarity",)),
    "few_shot_gain": Effect(few_shot_gain, ("few_shot",)),
    "similarity_and_gain": Effect(similarity_and_gain, ("normal_similarity", "few_shot")),
    "rules_apart": Effect(rules_apart, ("finetuning",)),
    "validation_follows": Effect(validation_follows, ("finetuning",)),
    "stand_ins_apart": Effect(stand_ins_apart, ("finetuning",)),
    "objective": Effect(objective, ("finetuning",)),
    "detectors_apart": Effect(detectors_apart, ("detection",)),
    "leak": Effect(leak, ("detection",)),
    "factorial": Effect(factorial, ("linear_probe",)),
    "with_all_labels": Effect(with_all_labels, ("linear_probe",)),
    "unseen_types": Effect(unseen_types, ("linear_probe",)),
    "localisation": Effect(localisation_gain, ("localisation",)),
    "relative_cost": Effect(relative_cost, ("decisions",)),
    "combination": Effect(combination, ("comparison",)),
    "over_peers": Effect(over_peers, ("anomalib_comparison",)),
    "from_nothing": Effect(from_nothing, ()),
}


def _cases(rows: pd.DataFrame, *further: str) -> pd.DataFrame:
    """Name each row by its data set, by its anomaly class where there is one, and by further columns."""
    case = rows["benchmark"].str.cat(rows["category"], " ")
    if "anomaly_class" in rows:
        case = case + ": " + rows["anomaly_class"]
    for name in further:
        case = case + ", " + rows[name]
    return rows.assign(case=case)[CASE]


def _certain(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of classes that count as defects: no controls, no doubtful grades, no other classes of things."""
    rows = hypothesis.of_defects(rows[rows["anomaly_class"] != CONTROL])
    targets = {name: benchmarks.get(name).target_classes for name in rows["benchmark"].unique()}
    known = [not targets[b] or c in targets[b] for b, c in zip(rows["benchmark"], rows["anomaly_class"], strict=True)]
    return rows[known]


def _by_method(found: pd.DataFrame) -> pd.DataFrame:
    """AUROC on transferred features, mean over classes: (run, draw) by (method, k)."""
    rows = found[found["start"] == linear_probe.WITH]
    return rows.pivot_table(index=[*linear_probe.RUN, "draw"], columns=["method", "k"], values="value")


def _over_draws_and_divisions(by_draw: pd.Series) -> pd.DataFrame:
    """Cases from values that are indexed by run and draw."""
    rows = by_draw.rename("value").reset_index()
    return _over_divisions(aggregate.range_over_draws(rows, linear_probe.RUN))


def _over_divisions(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with the wider of two intervals.

    One is Student's over seeds, widened since half of the same images are tested in each; the other the mean band over
    resamples of the test images, for data sets that a seed does not divide anew.
    """
    seeds = aggregate.over_seeds(runs, ablation.WHERE, overlap=1.0).set_index(ablation.WHERE)
    images = runs.groupby(ablation.WHERE, sort=False)[["value", "low", "high"]].mean()
    low = np.fmin(seeds["low"], images["low"])
    high = np.fmax(seeds["high"], images["high"])
    return _cases(seeds.assign(low=low, high=high).reset_index())
