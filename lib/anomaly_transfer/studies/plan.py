"""What is recorded: the plan of all experiments, which can be run one by one, in any order, on any machine.

Explained in the chapter *Limits*.
"""

from __future__ import annotations

import csv
import itertools
import math
from importlib.util import find_spec
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from anomaly_transfer import benchmarks, fingerprint, profiles, settings, studies
from anomaly_transfer.studies.records import Experiment

PLAN = "plan.yml"
#: Memory of an experiment at smaller profiles than ``full``, and what is added to a measured peak.
MEMORY_MB, HEADROOM = 8000, 1.25


def _known(study: str) -> str:
    studies.get(study)
    return study


class Entry(BaseModel):
    """A line of the plan; the field names are those of ``plan.yml``, which explains them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: Annotated[str, AfterValidator(_known)]
    variants: tuple[str, ...] = Field(min_length=1)
    data: tuple[str, ...] = Field(min_length=1)
    splits: Literal["recommended", "all"] | tuple[str, ...] = "recommended"
    seeds: Literal["first", "all"] = "first"


def entries() -> list[Entry]:
    """The plan as it stands in ``results/plan.yml``.

    Raises
    ------
    pydantic.ValidationError
        If an entry is not one; it names the entry and the field.
    """
    text = (settings.results_folder() / PLAN).read_text(encoding="utf-8")
    return TypeAdapter(list[Entry]).validate_python(yaml.safe_load(text))


def experiments(
    profile: str,
    study: str | None = None,
    benchmark: str | None = None,
    variant: str | None = None,
    everywhere: bool = False,
) -> list[Experiment]:
    """All experiments of a profile, in the order of the plan.

    Parameters
    ----------
    profile : str
    study, benchmark, variant : str, optional
        Keep to one of each.
    everywhere : bool
        Also those whose data or packages are not at hand.

    Raises
    ------
    ValueError
        If the plan names what does not exist.
    """
    found: dict[str, Experiment] = {}
    seeds = profiles.get(profile).seeds
    for entry in entries():
        asked = studies.get(entry.study)
        if not everywhere and asked.package and not find_spec(asked.package):
            continue
        for place in entry.data:
            name, _, only = place.partition("/")
            known = benchmarks.get(name)
            if only and only not in known.categories:
                raise ValueError(f"{PLAN}: {name} has no category {only!r}; choose from {', '.join(known.categories)}.")
            categories = [c for c in (known.categories if everywhere else known.available()) if only in ("", c)]
            named = {"recommended": known.splits[:1], "all": known.splits}
            splits = named[entry.splits] if isinstance(entry.splits, str) else entry.splits
            several = seeds if entry.seeds == "all" else seeds[:1]
            axes = itertools.product(categories, entry.variants, several, splits if asked.by_split else [""])
            for category, each, seed, split in axes:
                experiment = asked.experiment(name, category, each, seed, profile, split)
                found[experiment.name] = experiment
    return [
        experiment
        for experiment in found.values()
        if study in (None, experiment.study)
        and benchmark in (None, experiment.benchmark)
        and variant in (None, experiment.variant)
    ]


def words(experiment: Experiment, results: str = "results") -> list[str]:
    """The arguments of ``anomaly-transfer`` that run it and copy what it finds below the folder ``results``."""
    e = experiment
    where = ["--variant", e.variant, "--benchmark", e.benchmark, "--category", e.category, "--seed", str(e.seed)]
    split = ["--split", e.split] if e.split else []
    return ["record", e.study, *where, *split, "--profile", e.profile, "--export", f"{results}/{e.profile}"]


def memory_mb(experiment: Experiment) -> int:
    """Memory to ask a cluster for, MB: at the profile ``full`` as measured on data of that size."""
    if experiment.profile != "full":
        return MEMORY_MB
    with (settings.results_folder() / "memory.csv").open(encoding="utf-8", newline="") as file:
        peaks = [(row["case"].split()[0], int(row["peak_mb"])) for row in csv.DictReader(file)]
    return math.ceil(HEADROOM * max(peak for case, peak in peaks if case in studies.get(experiment.study).memory))


def content(experiment: Experiment) -> str:
    """A hash that changes when the experiment has to be run again: with its code, its sizes, or what it runs.

    Data count by name, as for the chapters: they are fixed by their checksums.
    """
    sizes = profiles.get(experiment.profile).model_dump()
    code = studies.get(experiment.study).code(experiment.variant)
    return fingerprint.digest([experiment.model_dump(), sizes, code.hash])
