"""Effects that claims are judged by, each computed from recorded runs: one row a case, with its 95 % interval.

``claims.yml`` names them. The chapters explain how each is measured; here they are brought to one form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anomaly_transfer import (
    ablation,
    cracks,
    experiments,
    few_shot,
    hypothesis,
    labelled,
    localised,
    prediction,
    relations,
    rivals,
    similarity,
    tuned,
    vicinal,
)
from anomaly_transfer.benchmarks.surfaces import CONTROL
from anomaly_transfer.costs import cost_weight
from anomaly_transfer.records import Record
from anomaly_transfer.similarity import simulation

CASE = ["case", "value", "low", "high"]
#: Sizes of samples like those of anomaly classes, and channels like those of a network's last level.
SIMULATED_SIZES, SIMULATED_CHANNELS, SIMULATED_REPEATS = (16, 32, 64), 512, 20


@dataclass(frozen=True)
class Effect:
    """How to compute an effect.

    Attributes
    ----------
    compute : callable
        Takes what :attr:`reads` names, in that order, and the claim's arguments; gives the columns :data:`CASE`.
    reads : tuple of str
        Studies whose recorded tables it takes (as one frame each), or ``records``.
    """

    compute: Callable[..., pd.DataFrame]
    reads: tuple[str, ...]


def nearness(related: pd.DataFrame, region: str) -> pd.DataFrame:
    """Nearness of each class of defects that has a scale, in the network from ImageNet (P1.a, P1.b).

    Parameters
    ----------
    related : DataFrame
        Tables of ``relations.run``.
    region : {"image", "defect"}
        Whole images at the last level, or the patch on the defect.
    """
    found = relations.verdicts(related)
    found = found[(found["start"] == "imagenet") & (found["anomaly_class"] != CONTROL)]
    found = hypothesis.last_level(found) if region == "image" else found[found["region"] == region]
    return _cases(hypothesis.of_defects(found.dropna(subset="low")).assign(value=lambda rows: rows["nearness"]))


def separability(related: pd.DataFrame, what: str) -> pd.DataFrame:
    """AUROC or margin of a linear classifier at the last level, for each class of defects (P1.d).

    Parameters
    ----------
    related : DataFrame
        Tables of ``relations.run``.
    what : {"separability", "margin"}
        The margin is given of classes that are separated with an AUROC above ``hypothesis.SEPARABLE``.
    """
    found = relations.verdicts(related)
    found = hypothesis.of_defects(hypothesis.last_level(found[found["start"] == "imagenet"]))
    if what == "margin":
        found = found[found["separability"] > hypothesis.SEPARABLE]
    found = found.dropna(subset=what)
    return _cases(found.assign(value=found[what], low=found[f"low of {what}"], high=found[f"high of {what}"]))


def few_shot_gain(shots: pd.DataFrame, start: str, over: str) -> pd.DataFrame:
    """AUROC from one start minus that from another with ``hypothesis.SHOTS`` labels a class, paired by draw (P1.c)."""
    found = hypothesis.detection(shots)
    found = found[found["k"] == hypothesis.SHOTS]
    index = ["benchmark", "category", "draw"]
    draws = found.pivot_table(index=index, columns="start", values="value")
    apart = (draws[start] - draws[over]).rename("value").dropna().reset_index()
    return _cases(few_shot.over_draws(apart, ["benchmark", "category"]))


def similarity_and_gain(related: pd.DataFrame, shots: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of nearness with the gain by normal images: mean over categories and starts of a benchmark."""
    found = prediction.joined(related, shots).dropna(subset=prediction.GAIN)
    found = found[found["anomaly_class"] != CONTROL]
    rows = []
    for benchmark, part in found.groupby("benchmark"):
        groups = part.assign(group=part["category"] + part["start"])
        ranks = prediction.correlations(groups, prediction.GAIN, "group").loc["nearness"].dropna()
        rows += [{"case": benchmark, "seed": number, "value": value} for number, value in enumerate(ranks)]
    # Groups of a benchmark take the place of seeds.
    return ablation.over_seeds(pd.DataFrame(rows), ["case"])[CASE]


def rules_apart(found: pd.DataFrame, rule: str, over: str, variant: str = tuned.DEFAULT) -> pd.DataFrame:
    """Test AUROC of fine-tuning by one rule of ``tuned.RULES`` minus that by another, paired by seed (P2.a, P2.b)."""
    rows = found[(found["kind"] == "rule") & (found["variant"] == variant)]
    wide = rows.pivot_table(index=[*ablation.WHERE, "seed"], columns="measure", values="value", sort=False)
    apart = (wide[rule] - wide[over]).rename("value").dropna().reset_index()
    return _cases(ablation.over_seeds(apart, ablation.WHERE))


def validation_follows(found: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of the steps of validation and test AUROC from epoch to epoch (P2.b)."""
    return _cases(ablation.agreement(found[found["variant"] == tuned.DEFAULT]))


def stand_ins_apart(found: pd.DataFrame) -> pd.DataFrame:
    """Test AUROC when one kind of stand-in stops minus that when all six do, one case a kind and data set (P2.d)."""
    parts = []
    for kind in vicinal.KINDS:
        part = rules_apart(found, f"validation by {kind}", "validation")
        parts.append(part.assign(case=part["case"] + ", " + kind))
    return pd.concat(parts)


def objective(found: pd.DataFrame, variant: str) -> pd.DataFrame:
    """AUROC at the last epoch with the paper's objective minus that with another, paired by seed (P2.d)."""
    apart = ablation.differences(found[found["variant"].isin([tuned.DEFAULT, variant])], "last epoch")
    return _cases(apart.assign(value=-apart["value"], low=-apart["high"], high=-apart["low"]))


def detectors_apart(records: list[Record], method: str, over: str) -> pd.DataFrame:
    """AUROC of a detector minus that of another by the recommended split, over categories and seeds.

    The recorded runs keep no scores, so the interval is that of unpaired values: rather too wide, since both detectors
    were tested on the same images.
    """
    found = _recommended(records, [method, over])
    wide = found.pivot_table(index=ablation.WHERE, columns="method", values=["value", "low", "high"], sort=False)
    wide = wide.dropna()
    value = wide["value"][method] - wide["value"][over]
    below = np.hypot(wide["value"][method] - wide["low"][method], wide["high"][over] - wide["value"][over])
    above = np.hypot(wide["high"][method] - wide["value"][method], wide["value"][over] - wide["low"][over])
    return _cases(pd.DataFrame({"value": value, "low": value - below, "high": value + above}).reset_index())


def leak(records: list[Record], split: str) -> pd.DataFrame:
    """AUROC by a split that mixes groups minus that by the grouped one, same images, for each data set and detector."""
    found = [r for r in records if r.experiment.split == split and "minus grouped" in r.metrics]
    rows = experiments.mean_over_seeds(experiments.table(found, group="minus grouped"))
    return _cases(rows, "method")


def factorial(found: pd.DataFrame, part: str) -> pd.DataFrame:
    """One part of the factorial of labels and transfer, over seeds (P3.a).

    Parameters
    ----------
    found : DataFrame
        Tables of ``labelled.run``.
    part : str
        As in ``labelled.gains``, or ``labels given transfer`` (all labels minus none, both on transferred features),
        or ``transfer minus labels``.
    """
    wide = labelled.gains(found).pivot(index=labelled.RUN, columns="part", values="value")
    wide["labels given transfer"] = wide["labels"] + wide["interaction"] / 2
    wide["transfer minus labels"] = wide["transfer"] - wide["labels"]
    return _over_divisions(wide[part])


def with_all_labels(found: pd.DataFrame, over: str | None = None) -> pd.DataFrame:
    """AUROC of a head with all labels on transferred features, or its relative gain on another detector (P3.b).

    Parameters
    ----------
    found : DataFrame
        Tables of ``labelled.run``.
    over : str, optional
        A detector without labels of ``labelled.run``.
    """
    values = _by_method(found)
    reached = values[labelled.SEEN, labelled.ALL]
    return _over_divisions(reached if over is None else reached / values[over, 0] - 1)


def unseen_types(found: pd.DataFrame) -> pd.DataFrame:
    """AUROC with all labels of *other* types minus that of the best detector without labels, transferred features."""
    values = _by_method(found)
    free = values[[(method, 0) for method in labelled.LABEL_FREE]].max(axis=1)
    return _over_divisions((values[labelled.UNSEEN, labelled.ALL] - free).dropna())


def localisation(found: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What fine-tuning to the last epoch adds to heat maps: one case a data set and patch detector (P2.c)."""
    rows = found[(found["state"] == localised.LAST) & (found["metric"] == metric)]
    rows = rows.assign(value=rows["gain"])
    return _cases(ablation.over_seeds(rows, [*ablation.WHERE, "detector"]), "detector")


def relative_cost(found: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Expected cost relative to deciding with eyes closed: one case a place and detector."""
    weights = {name: cost_weight(*place) for name, place in cracks.SCENARIOS.items()}
    decisions = cracks.decided(found, list(weights.values()), [rule])
    decisions = decisions.assign(value=decisions["relative"])
    rows = cracks.over_divisions(decisions, ["variant", "weight"])
    places = rows["weight"].map({weight: name for name, weight in weights.items()})
    return rows.assign(case=rows["variant"] + ", " + places)[CASE]


def combination(found: pd.DataFrame, over: str | None = None, without: Sequence[str] = ()) -> pd.DataFrame:
    """AUROC of the combined detector minus that of one of its parts, paired on images.

    Parameters
    ----------
    found : DataFrame
        Tables of ``rivals.run``.
    over : str, optional
        A part; default: on each data set the best of them, chosen in its favour by the test images.
    without : sequence of str
        Data sets (``benchmark category``) on which the combination was chosen.
    """
    parts = found[found["rival"].isin(rivals.PARTS if over is None else [over])].reset_index(drop=True)
    best = parts.loc[parts.groupby([*ablation.WHERE, "seed"], sort=False)["value"].idxmax()]
    rows = _cases(best.assign(value=best["more"], low=best["more low"], high=best["more high"]))
    return rows[~rows["case"].isin(without)]


def from_nothing(measure: str) -> pd.DataFrame:
    """What a paired measure says of two simulated tables that have nothing in common, by the number of images."""
    chosen = [known for known in similarity.PAIRED if known.title == measure]
    found = pd.concat(
        simulation.noise_floor(chosen, SIMULATED_SIZES, SIMULATED_CHANNELS, 1, seed).assign(seed=seed)
        for seed in range(SIMULATED_REPEATS)
    )
    return ablation.over_seeds(found.assign(case="simulated, n = " + found["n"].astype(str)), ["case"])[CASE]


#: By the names that ``claims.yml`` uses.
EFFECTS: dict[str, Effect] = {
    "nearness": Effect(nearness, ("relations",)),
    "separability": Effect(separability, ("relations",)),
    "few_shot_gain": Effect(few_shot_gain, ("few_shot",)),
    "similarity_and_gain": Effect(similarity_and_gain, ("relations", "few_shot")),
    "rules_apart": Effect(rules_apart, ("tuned",)),
    "validation_follows": Effect(validation_follows, ("tuned",)),
    "stand_ins_apart": Effect(stand_ins_apart, ("tuned",)),
    "objective": Effect(objective, ("tuned",)),
    "detectors_apart": Effect(detectors_apart, ("records",)),
    "leak": Effect(leak, ("records",)),
    "factorial": Effect(factorial, ("labelled",)),
    "with_all_labels": Effect(with_all_labels, ("labelled",)),
    "unseen_types": Effect(unseen_types, ("labelled",)),
    "localisation": Effect(localisation, ("localised",)),
    "relative_cost": Effect(relative_cost, ("cracks",)),
    "combination": Effect(combination, ("rivals",)),
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


def _recommended(records: list[Record], methods: list[str]) -> pd.DataFrame:
    """Headline AUROC by the recommended split of each benchmark, mean over seeds."""
    chosen = [record for record in records if record.experiment.method in methods]
    return experiments.mean_over_seeds(experiments.table(experiments.recommended(chosen)))


def _by_method(found: pd.DataFrame) -> pd.DataFrame:
    """AUROC on transferred features, mean over draws and classes: runs by (method, k)."""
    rows = found[found["start"] == labelled.WITH]
    return rows.pivot_table(index=labelled.RUN, columns=["method", "k"], values="value")


def _over_divisions(values: pd.Series) -> pd.DataFrame:
    """Mean over seeds of values that are indexed by ``labelled.RUN``; half of the images are tested in each."""
    rows = values.rename("value").reset_index()
    return _cases(ablation.over_seeds(rows, ablation.WHERE, overlap=1.0))
