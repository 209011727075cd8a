"""The claims of the papers and of this book, and the verdicts that recorded runs return on them.

A claim (``book/claims.yml``) names an effect, a threshold and the recorded runs that decide. Each *case* (a data set,
an anomaly class, ...) meets it, misses it or leaves it open by its 95 % interval, and the cases make the verdict.
Verdicts are kept in ``results/verdicts.json``: the pages show them, and a test recomputes them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.stats import t as student

from anomaly_transfer import atomic
from anomaly_transfer.errors import StoreError
from anomaly_transfer.settings import claims_file, results_folder
from anomaly_transfer.studies import records

PROFILE = "study"
VERDICTS = "verdicts.json"
DIGITS = 4
Verdict = Literal["supported", "partly", "not supported", "inconclusive", "not tested here"]
State = Literal["met", "missed", "open"]


class Claim(BaseModel):
    """One claim, made measurable. The field names are those of ``claims.yml``.

    Attributes
    ----------
    id : str
        Such as ``P1a-images``; papers' claims begin with P, our own with W.
    title : str
    paper : str
        Key in ``book/references.bib``; empty for a claim of our own.
    quotation : str
        The paper's own words, from its abstract; empty for our own.
    statement : str
        What would have to be measured for the claim to hold.
    comparator : str
        What the effect is measured against.
    effect : str or None
        Name in ``effects.EFFECTS``; None if the claim is not tested here.
    arguments : dict
        Of the effect.
    measure : str
        What the effect is, with its unit or range.
    between : tuple of float
        Lowest and highest value that it can have: intervals end there.
    interval : str
        What the 95 % interval of a case is over.
    holds : {"above", "below", "within"}
        Where the effect must lie: above the threshold, below it, or nearer to zero than it.
    threshold : float
    reason : str
        Why this threshold.
    fixed : {"beforehand", "afterwards"}
        Whether the threshold was set before the measurements were seen.
    scope : {"every", "most"}
        Whether the claim is about every case, or more than half of them.
    benchmarks : list of str
        Whose recorded runs are read.
    without : list of str
        Cases that are left out, as ``limits`` says why.
    refuted_by : str
        What would refute it.
    limits : str
        What the verdict does not cover; for a claim that is not tested, why, and how it could be.
    chapter : str
        The notebook that explains it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^(P\d[a-z]|W)-[a-z0-9-]+$")
    title: str = Field(min_length=5)
    paper: str = ""
    quotation: str = ""
    statement: str = Field(min_length=20)
    comparator: str = Field(min_length=5)
    effect: str | None = None
    arguments: dict[str, Any] = {}
    measure: str = Field(min_length=5)
    between: tuple[float, float] = (-math.inf, math.inf)
    interval: str = "none"
    holds: Literal["above", "below", "within"] = "above"
    threshold: float
    reason: str = Field(min_length=10)
    fixed: Literal["beforehand", "afterwards"]
    scope: Literal["every", "most"]
    benchmarks: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    refuted_by: str = Field(min_length=10)
    limits: str = Field(min_length=10)
    chapter: str

    @model_validator(mode="after")
    def _quoted(self) -> Claim:
        if bool(self.paper) != bool(self.quotation) or bool(self.paper) != self.id.startswith("P"):
            raise ValueError(f"{self.id}: a paper's claim begins with P and quotes it; one of our own does neither.")
        return self

    def state(self, low: float, high: float) -> State:
        """Whether a case meets the claim, misses it, or leaves it open, by its interval (NaN: open)."""
        above, below = low > self.threshold, high < self.threshold
        if self.holds == "within":
            met, missed = low > -self.threshold and below, above or high < -self.threshold
        else:
            met, missed = (above, below) if self.holds == "above" else (below, above)
        return "met" if met else "missed" if missed else "open"

    @property
    def condition(self) -> str:
        """Where the effect must lie, in words."""
        return f"within ±{self.threshold:g}" if self.holds == "within" else f"{self.holds} {self.threshold:g}"


class Case(BaseModel):
    """One case of a claim: its effect with the 95 % interval (None if there is none), and what it says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    value: float
    low: float | None
    high: float | None
    state: State


class Finding(BaseModel):
    """What recorded runs say of a claim.

    Attributes
    ----------
    id : str
    verdict : Verdict
    value, low, high : float or None
        Mean effect over cases, with Student's 95 % interval over cases as if they were independent; of a single case,
        its own.
    cases : tuple of Case
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    cases: tuple[Case, ...] = ()

    def count(self, state: State) -> int:
        """How many cases are in a state."""
        return sum(case.state == state for case in self.cases)


def claims(path: Path | None = None) -> list[Claim]:
    """All claims, in the order of the file.

    Parameters
    ----------
    path : Path, optional
        Default: ``book/claims.yml``, or the copy that travels in the package.

    Raises
    ------
    ValueError
        If an entry breaks the schema, or two have the same id.
    """
    try:
        entries = yaml.safe_load((path or claims_file()).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"claims.yml is no YAML: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("claims.yml must be a list of claims, each with its fields.")
    found = []
    for entry in entries:
        try:
            found.append(Claim(**entry))
        except ValidationError as error:
            raise ValueError(f"claims.yml, {entry.get('id', 'an entry without id')}: {error}") from error
    twice = [name for name, count in Counter(claim.id for claim in found).items() if count > 1]
    if twice:
        raise ValueError(f"claims.yml has more than one entry called {', '.join(twice)}.")
    return found


def verdict(states: Sequence[State], scope: str) -> Verdict:
    """What the cases of a claim say together.

    *Supported*: all cases meet it (scope ``every``), or more than half of them do (``most``). *Not supported*: more
    than half miss it. *Partly*: neither, but some meet it, and at most half are open. *Inconclusive*: otherwise.

    Examples
    --------
    >>> verdict(["met", "met", "open"], "most"), verdict(["met", "met", "open"], "every")
    ('supported', 'partly')
    """
    n, met, missed = len(states), states.count("met"), states.count("missed")
    if not n:
        return "not tested here"
    if met == n or (scope == "most" and met > n / 2):
        return "supported"
    if missed > n / 2:
        return "not supported"
    return "partly" if met and met + missed >= n / 2 else "inconclusive"


def judge(claim: Claim, cases: pd.DataFrame) -> Finding:
    """The finding on a claim, from its cases.

    Parameters
    ----------
    claim : Claim
    cases : DataFrame
        With ``case``, ``value``, ``low`` and ``high``.
    """
    lowest, highest = claim.between
    cases = cases.assign(low=cases["low"].clip(lower=lowest), high=cases["high"].clip(upper=highest))
    rows = [
        Case(case=case, value=_short(value), low=_known(low), high=_known(high), state=claim.state(low, high))
        for case, value, low, high in cases[["case", "value", "low", "high"]].itertuples(index=False)
    ]
    reached = verdict([row.state for row in rows], claim.scope)
    if len(rows) < 2:
        return Finding(
            id=claim.id, verdict=reached, cases=tuple(rows), **rows[0].model_dump(include={"value", "low", "high"})
        )
    values = cases["value"]
    reach = float(values.sem() * student.ppf(0.975, len(values) - 1))
    mean = float(values.mean())
    low, high = max(mean - reach, lowest), min(mean + reach, highest)
    numbers = {"value": _short(mean), "low": _short(low), "high": _short(high)}
    return Finding(id=claim.id, verdict=reached, cases=tuple(rows), **numbers)


def evaluate(claim: Claim) -> Finding:
    """The finding on a claim, computed from recorded runs.

    Raises
    ------
    StoreError
        If a benchmark that the claim names has no recorded run, or nothing recorded bears on it.
    ValueError
        If there is no such effect, or a case that is to be left out is none.
    """
    if claim.effect is None:
        return Finding(id=claim.id, verdict="not tested here")
    # Here, so that pages which only show verdicts need not wait for torch.
    from anomaly_transfer.claims.effects import EFFECTS

    if claim.effect not in EFFECTS:
        raise ValueError(f"{claim.id}: there is no effect {claim.effect!r}; choose from {', '.join(EFFECTS)}.")
    effect = EFFECTS[claim.effect]
    try:
        cases = effect.compute(*(_read(claim, study) for study in effect.reads), **claim.arguments)
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"{claim.id}: the effect {claim.effect!r} with {claim.arguments} failed ({error!r})."
        ) from error
    unknown = sorted(set(claim.without) - set(cases["case"]))
    if unknown:
        raise ValueError(f"{claim.id} leaves out {', '.join(unknown)}, which is no case of it.")
    cases = cases[~cases["case"].isin(claim.without)]
    if cases.empty:
        raise StoreError(f"{claim.id}: no recorded run bears on it.")
    return judge(claim, cases)


def verdict_under(claim: Claim, finding: Finding, scope: str, widen: float = 1.0) -> Verdict:
    """What the verdict would be under another rule, from the same cases.

    Parameters
    ----------
    claim : Claim
    finding : Finding
        On that claim.
    scope : {"every", "most"}
    widen : float
        Factor by which intervals are made longer.
    """
    states: list[State] = []
    for case in finding.cases:
        low, high = (
            math.nan if bound is None else case.value + widen * (bound - case.value) for bound in (case.low, case.high)
        )
        states.append(claim.state(low, high))
    return verdict(states, scope)


def recorded(folder: Path | None = None) -> dict[str, Finding]:
    """The committed findings by the id of their claim.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    path = (folder or results_folder()) / VERDICTS
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {entry["id"]: Finding.model_validate(entry) for entry in entries}
    except FileNotFoundError as error:
        raise StoreError(f"There is no {path}: `make verdicts` makes it.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Not to be computed anew: then nobody would hear of a verdict that has moved.
        raise StoreError(f"{path} is damaged ({error}): restore it from the repository.") from error


def write(findings: Sequence[Finding], folder: Path | None = None) -> Path:
    """Write findings for :func:`recorded`, all or nothing; returns the file."""
    path = (folder or results_folder()) / VERDICTS
    text = json.dumps([finding.model_dump() for finding in findings], indent=1, ensure_ascii=False)
    with atomic.file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return path


def changes_since(now: Finding, then: Finding | None, tolerance: float = 1e-3) -> list[str]:
    """What differs between two findings on a claim, in words: verdict, states of cases, and numbers beyond a tolerance.

    The tolerance is for other processors, whose last digits differ.
    """
    if then is None:
        return ["it has no recorded verdict"]
    changes = [] if now.verdict == then.verdict else [f"verdict {then.verdict!r} became {now.verdict!r}"]
    old, new = ({case.case: case for case in finding.cases} for finding in (then, now))
    changes += [f"{name} is new" for name in new if name not in old]
    changes += [f"{name} is gone" for name in old if name not in new]
    for name in old.keys() & new.keys():
        was, became = _numbers(old[name]), _numbers(new[name])
        if old[name].state != new[name].state:
            changes.append(f"{name}: {old[name].state} became {new[name].state}")
        elif not np.allclose(was, became, rtol=tolerance, atol=tolerance, equal_nan=True):
            changes.append(f"{name}: " + " became ".join("{:g} [{:g}, {:g}]".format(*row) for row in (was, became)))
    return sorted(changes)


def board(claims: Sequence[Claim], findings: dict[str, Finding]) -> pd.DataFrame:
    """Every claim with its verdict at a glance.

    Returns
    -------
    DataFrame
        Indexed by id: ``claim``, ``verdict``, ``effect`` (mean over cases with its interval), ``must be``, ``met``
        (cases that meet the claim, of all), ``missed``.
    """
    rows = {}
    for claim in claims:
        finding = findings[claim.id]
        rows[claim.id] = {
            "claim": claim.title,
            "verdict": finding.verdict,
            "effect": formatted(claim, finding),
            "must be": claim.condition if finding.cases else "",
            "met": f"{finding.count('met')} of {len(finding.cases)}" if finding.cases else "",
            "missed": finding.count("missed") if finding.cases else "",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("id")


def formatted(claim: Claim, finding: Finding | Case) -> str:
    """A value with its interval, in words, with a sign if it can be negative; empty where nothing was measured."""
    if finding.value is None:
        return ""
    form = "+.3f" if claim.between[0] < 0 else ".3f"
    interval = f" [{finding.low:{form}}, {finding.high:{form}}]" if finding.low is not None else ""
    return f"{finding.value:{form}}{interval}"


def frame(finding: Finding) -> pd.DataFrame:
    """The cases as a table with ``case``, ``value``, ``low``, ``high`` (NaN for none) and ``state``."""
    return pd.DataFrame([case.model_dump() for case in finding.cases]).astype({"low": float, "high": float})


def _read(claim: Claim, study: str) -> pd.DataFrame:
    """Recorded rows of the benchmarks that a claim names."""
    chosen = [_recorded(study)[name] for name in claim.benchmarks if name in _recorded(study)]
    missing = [name for name in claim.benchmarks if name not in _recorded(study)]
    if missing or not chosen:
        raise StoreError(f"{claim.id} reads {study!r} of {', '.join(missing) or 'no benchmark'}: nothing is recorded.")
    return pd.concat(chosen)


@cache
def _recorded(study: str) -> dict[str, pd.DataFrame]:
    """Recorded rows of a study by benchmark, read once: several claims are about the same."""
    return dict(list(records.frame(study, PROFILE).groupby("benchmark", sort=False)))


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _numbers(case: Case) -> list[float]:
    return [math.nan if number is None else number for number in (case.value, case.low, case.high)]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else _short(value)
