"""What matters in fine-tuning: gains, paired differences and regrets over seeds, from records of ``finetuning``.

Explained in the chapter *What matters*. Seeds take the folds of a data set in turn, so an interval over seeds holds for
other images as far as there are folds, and for another run: an official split has one, mono cells have two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from anomaly_transfer.metrics.aggregate import over_seeds
from anomaly_transfer.studies import finetuning
from anomaly_transfer.training import early_stopping, loop, pseudo_anomalies
from anomaly_transfer.training.early_stopping import VALIDATION

WHERE = ["benchmark", "category"]


def gains(frame: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """What fine-tuning adds to the AUROC of the frozen network, when stopped by a rule.

    Parameters
    ----------
    frame : DataFrame
        Rows of the study ``finetuning``, of any number of tables.
    rules : sequence of str
        Of ``finetuning.RULES``.

    Returns
    -------
    DataFrame
        As :func:`over_seeds`, one row a (benchmark, category, variant, rule), rules as given.
    """
    rows = frame[(frame["kind"] == "rule") & frame["measure"].isin(rules)]
    return _of_rules(rows.assign(value=rows["gain"]), rules)


def over_categories(frame: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """AUROC as papers report it for a benchmark of many categories: mean and standard error over its categories.

    Parameters
    ----------
    frame : DataFrame
        Rows of the study ``finetuning``, of every category and seed.
    rules : sequence of str

    Returns
    -------
    DataFrame
        ``mean``, ``sem`` (NaN for one category) and ``categories``, of means over seeds, indexed by benchmark, variant
        and rule.
    """
    rows = frame[(frame["kind"] == "rule") & frame["measure"].isin(rules)].rename(columns={"measure": "rule"})
    of_category = rows.groupby([*WHERE, "variant", "rule"], sort=False)["value"].mean()
    found = of_category.groupby(["benchmark", "variant", "rule"], sort=False)
    return found.agg(mean="mean", sem="sem", categories="count")


def differences(frame: pd.DataFrame, rule: str, base: str = finetuning.DEFAULT) -> pd.DataFrame:
    """AUROC of each variant minus that of another, stopped by the same rule, on the same test images.

    Parameters
    ----------
    frame : DataFrame
        Rows of the study ``finetuning``.
    rule : str
    base : str
        The variant that all others are compared with; seeds that it does not have are left out.

    Returns
    -------
    DataFrame
        As :func:`over_seeds`, one row a (benchmark, category, variant).
    """
    rows = frame[(frame["kind"] == "rule") & (frame["measure"] == rule)]
    reference = rows[rows["variant"] == base].set_index([*WHERE, "seed"])["value"].rename("reference")
    others = rows[rows["variant"] != base].join(reference, on=[*WHERE, "seed"], how="inner")
    return over_seeds(others.assign(value=others["value"] - others["reference"]), [*WHERE, "variant"])


def regrets(frame: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """AUROC that each rule misses for not knowing the test labels: that of the oracle minus its own.

    Parameters and return value as :func:`gains`. The oracle takes the best of several noisy values, so a part of every
    regret is luck that no rule could have had.
    """
    rows = frame[frame["kind"] == "rule"].set_index([*WHERE, "variant", "seed"])
    best = rows.loc[rows["measure"] == finetuning.ORACLE, "value"]
    missed = rows[rows["measure"].isin(rules)]
    return _of_rules(missed.assign(value=best - missed["value"]).reset_index(), rules)


def _of_rules(rows: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """Means over seeds, one row a (benchmark, category, variant, rule), rules in the order given."""
    rows = rows.rename(columns={"measure": "rule"})
    rows = rows.sort_values("rule", key=lambda rule: rule.map(list(rules).index), kind="stable")
    return over_seeds(rows, [*WHERE, "variant", "rule"])


def by_patience(frame: pd.DataFrame, patiences: Sequence[int | None]) -> pd.DataFrame:
    """Regret of the validation with more or less patience, and of an epoch drawn at random.

    Read off the curves: the test AUROC at the epoch that is chosen, mean over the folds of a seed.

    Parameters
    ----------
    frame : DataFrame
        Rows of the study ``finetuning``.
    patiences : sequence of int or None
        See ``early_stopping.best``; None looks at all epochs.

    Returns
    -------
    DataFrame
        As :func:`over_seeds`, one row a (benchmark, category, variant, rule).
    """
    wide = _paths(frame).pivot_table(
        index=[*WHERE, "variant", "seed", "epoch"], columns="measure", values="value", sort=False
    )
    rows = []
    for case, run in wide.groupby([*WHERE, "variant", "seed"], sort=False):
        test = run[finetuning.TEST].to_numpy()
        named = {
            f"patience {patience}" if patience else "no patience": early_stopping.best(
                run[VALIDATION].to_list(), patience
            )
            for patience in patiences
        }
        found = {name: test.max() - test[epoch] for name, epoch in named.items()}
        found["random epoch"] = test.max() - test.mean()
        key = dict(zip([*WHERE, "variant", "seed"], case, strict=True))
        rows += [{**key, "rule": name, "value": value} for name, value in found.items()]
    return over_seeds(pd.DataFrame(rows), [*WHERE, "variant", "rule"])


def paths(frame: pd.DataFrame) -> pd.DataFrame:
    """How test AUROC and validation change from the frozen network on, epoch by epoch.

    Parameters
    ----------
    frame : DataFrame
        Rows of the study ``finetuning``.

    Returns
    -------
    DataFrame
        As :func:`over_seeds`, one row a (benchmark, category, variant, ``measure``, ``epoch``); measures are
        ``finetuning.TEST`` and :data:`VALIDATION`, both for all levels together.
    """
    found = _paths(frame)
    return over_seeds(found, [*WHERE, "variant", "measure", "epoch"])


def agreement(frame: pd.DataFrame) -> pd.DataFrame:
    """Whether the validation rises where the test AUROC does: rank correlation of their steps, epoch by epoch.

    Parameters
    ----------
    frame : DataFrame
        Rows of the study ``finetuning``.

    Returns
    -------
    DataFrame
        As :func:`over_seeds`, one row a (benchmark, category, variant), with intervals within -1..1; runs in which one
        of the two does not change are left out.
    """
    case = [*WHERE, "variant", "seed"]
    wide = _paths(frame).pivot_table(index=[*case, "epoch"], columns="measure", values="value", sort=False)
    # Two curves that merely drift correlate as well, so it is their steps that are compared.
    # Rounded, so that equal steps are ties, whatever the last digit of a mean is.
    wide = wide.groupby(case, sort=False).diff().dropna().round(12)
    known = wide.groupby(case, sort=False).filter(lambda run: run.nunique().min() > 1)
    ranks = known.groupby(case, sort=False).rank()
    found = ranks.groupby(case, sort=False).apply(lambda run: run[VALIDATION].corr(run[finetuning.TEST]))
    mean = over_seeds(found.rename("value").reset_index(), [*WHERE, "variant"])
    return mean.assign(low=mean["low"].clip(lower=-1), high=mean["high"].clip(upper=1))


def _paths(frame: pd.DataFrame) -> pd.DataFrame:
    """Test AUROC and validation less those of the frozen network; mean over the folds of a seed."""
    rows = frame[(frame["kind"] == "curve") & (frame["level"] == loop.SUM)]
    rows = rows[rows["measure"].isin([finetuning.TEST, *pseudo_anomalies.KINDS])]
    rows = rows.assign(measure=rows["measure"].where(rows["measure"] == finetuning.TEST, VALIDATION))
    key = [*WHERE, "variant", "seed", "measure"]
    mean = rows.groupby([*key, "epoch"], sort=False)["value"].mean().reset_index()
    frozen = mean[mean["epoch"] == 0].set_index(key)["value"].rename("frozen")
    joined = mean.join(frozen, on=key)
    return joined.assign(value=joined["value"] - joined["frozen"])


def changes(frame: pd.DataFrame) -> pd.DataFrame:
    """What happened on the way, mean over folds and seeds: one row a (benchmark, category, variant).

    Parameters
    ----------
    frame : DataFrame
        Rows of the study ``finetuning``.

    Returns
    -------
    DataFrame
        ``objective`` and ``held-out``: relative change from the frozen network to the last epoch, of the objective and
        of the distance of held-out normal images; ``validation``: change of the mean AUROC against stand-ins; for each
        measure of likeness with the frozen network its value at the last epoch, mean over levels.
    """
    curves = frame[frame["kind"] == "curve"]
    case = [*WHERE, "variant", "seed", "fold"]
    end = curves.groupby(case)["epoch"].transform("max")
    sums = curves["level"] == loop.SUM

    def at(rows: pd.Series, measure: str) -> pd.Series:
        return curves[rows & (curves["measure"] == measure)].groupby(case, sort=False)["value"].mean()

    first, last = curves["epoch"] == 0, curves["epoch"] == end
    found = {
        "objective": at(sums & last, loop.LOSS) / at(sums & first, loop.LOSS) - 1,
        "held-out": at(sums & last, loop.HELD_OUT) / at(sums & first, loop.HELD_OUT) - 1,
        VALIDATION: sum(at(sums & last, kind) - at(sums & first, kind) for kind in pseudo_anomalies.KINDS)
        / len(pseudo_anomalies.KINDS),
    }
    for measure in (*finetuning.MEASURES, finetuning.WHITENED, finetuning.RANKS):
        found[measure] = at(~sums & last, measure)
    return pd.DataFrame(found).groupby([*WHERE, "variant"], sort=False).mean().reset_index()


def signs(found: pd.DataFrame) -> pd.Series:
    """How many rows are above zero, below zero, or cannot be told apart from it, by their 95 % interval."""
    verdict = np.select([found["low"] > 0, found["high"] < 0], ["above zero", "below zero"], "not told apart from zero")
    return pd.Series(verdict, index=found.index)


def formatted(found: pd.DataFrame, digits: int = 4) -> pd.Series:
    """Each row in words: the mean over seeds with its interval, or the one seed's value."""
    form = f"+.{digits}f"
    rows = found[["value", "low", "high"]].itertuples(index=False)
    words = [
        f"{value:{form}} (one seed)" if np.isnan(low) else f"{value:{form}} [{low:{form}}, {high:{form}}]"
        for value, low, high in rows
    ]
    return pd.Series(words, index=found.index, dtype=str)


#: Why fine-tuning may gain little, and the variants of the protocol that would mend it.
HYPOTHESES = {
    "the Gaussian flatters the images that it was fitted on": ("statistics-crossed",),
    "the target moves with the network": ("statistics-score", "statistics-fixed"),
    "far images count too little": ("squared",),
    "the covariance is too rich for the images": ("diagonal", "euclidean"),
    "the network must be held where it was": ("euclidean-anchored",),
    "steps are too small": ("rate-1e-4", "rate-3e-4"),
    "steps are too large": ("rate-3e-6",),
    "steps are too few": ("three-times-as-long",),
    "batch norms must follow": ("batch-norms-trained",),
    "early levels disturb": ("late-levels", "last-level"),
    "images are too few": ("all-images",),
}


def hypotheses(frame: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Each hypothesis with the paired difference that its remedies make, and what that says.

    Parameters
    ----------
    frame : DataFrame
        Rows of the study ``finetuning``.
    rule : str
        How the variants and the protocol they are compared with are stopped.

    Returns
    -------
    DataFrame
        As :func:`differences`, with ``hypothesis`` and ``verdict`` (see :func:`signs`), in the order of
        :data:`HYPOTHESES`; variants that were not run are left out.
    """
    of = {variant: why for why, variants in HYPOTHESES.items() for variant in variants}
    found = differences(frame, rule)
    found = found[found["variant"].isin(of)]
    found.insert(0, "hypothesis", found["variant"].map(of))
    found["verdict"] = signs(found)
    return found.sort_values("variant", key=lambda names: names.map(list(of).index), kind="stable")
