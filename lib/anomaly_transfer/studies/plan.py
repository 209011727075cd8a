"""What is recorded: the plan of all experiments as jobs that run on their own, in any order, on any machine.

Explained in the chapter *Limits*.
"""

from __future__ import annotations

import csv
import itertools
import math
from functools import cache
from importlib.util import find_spec
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from anomaly_transfer import benchmarks, fingerprint, profiles, settings

PLAN = "plan.yml"
#: The module whose code the numbers of a study depend on.
MODULES = {
    "run": "experiments",
    "relations": "relations",
    "few_shot": "few_shot",
    "twins": "twins",
    "tuned": "tuned",
    "localised": "localised",
    "oneclass": "transferred",
    "labelled": "labelled",
    "supervised": "supervised",
    "cracks": "cracks",
    "rivals": "rivals",
    "peers": "rivals",
}


#: Measured cases of ``results/memory.csv``, by their first word, of which the largest stands for a study at the profile
#: ``full``; for one that is not here those of ``run``.
MEASURED = {
    "tuned": ("tuned",),
    "localised": ("tuned", "localised"),
    "oneclass": ("oneclass",),
    "supervised": ("oneclass",),
    "cracks": ("cracks", "tuned"),
}
#: Memory of a job at smaller profiles, and what is added to a measured peak.
MEMORY_MB, HEADROOM = 8000, 1.25


class Entry(BaseModel):
    """A line of the plan; the field names are those of ``plan.yml``, which explains them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: Literal[tuple(MODULES)]  # type: ignore[valid-type]
    variants: tuple[str, ...] = Field(min_length=1)
    data: tuple[str, ...] = Field(min_length=1)
    splits: Literal["recommended", "all"] | tuple[str, ...] = "recommended"
    seeds: Literal["first", "all"] = "first"


class Job(BaseModel):
    """One experiment, or one with several splits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    benchmark: str
    category: str
    variant: str
    seed: int
    profile: str
    splits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique in a profile, and a file name."""
        return "__".join([self.study, self.benchmark, self.category, self.variant, str(self.seed)])

    def words(self, results: str = "results") -> list[str]:
        """The arguments of ``anomaly-transfer`` that run it and copy what it finds below the folder ``results``."""
        where = ["--benchmark", self.benchmark, "--category", self.category, "--seed", str(self.seed)]
        where += ["--profile", self.profile]
        if self.study == "run":
            splits = [word for split in self.splits for word in ("--split", split)]
            return ["run", "--method", self.variant, *where, *splits, "--export", f"{results}/{self.profile}"]
        kind = ["tables", self.study, "--variant", self.variant]
        return [*kind, *where, "--export", f"{results}/tables/{self.profile}"]

    def memory_mb(self) -> int:
        """Memory to ask a cluster for, MB: at the profile ``full`` as measured on data of that size."""
        if self.profile != "full":
            return MEMORY_MB
        with (settings.results_folder() / "memory.csv").open(encoding="utf-8", newline="") as file:
            peaks = [(row["case"].split()[0], int(row["peak_mb"])) for row in csv.DictReader(file)]
        return math.ceil(HEADROOM * max(peak for case, peak in peaks if case in MEASURED.get(self.study, ("run",))))

    def fingerprint(self) -> str:
        """Changes when the job has to be run again: with its code, its sizes, or what it runs.

        Data count by name, as for the chapters: they are fixed by their checksums.
        """
        return fingerprint.digest([self.model_dump(), profiles.get(self.profile).model_dump(), _code(self.study)])


@cache
def _code(study: str) -> str:
    return fingerprint.code_hash(f"anomaly_transfer.{MODULES[study]}", with_entries=True)


def entries() -> list[Entry]:
    """The plan as it stands in ``results/plan.yml``.

    Raises
    ------
    pydantic.ValidationError
        If an entry is not one; it names the entry and the field.
    """
    text = (settings.results_folder() / PLAN).read_text(encoding="utf-8")
    return TypeAdapter(list[Entry]).validate_python(yaml.safe_load(text))


def jobs(
    profile: str,
    study: str | None = None,
    benchmark: str | None = None,
    variant: str | None = None,
    everywhere: bool = False,
) -> list[Job]:
    """All jobs of a profile, in the order of the plan.

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
    found: dict[str, Job] = {}
    seeds = profiles.get(profile).seeds
    for entry in entries():
        for place in entry.data:
            name, _, only = place.partition("/")
            known = benchmarks.get(name)
            if only and only not in known.categories:
                raise ValueError(f"{PLAN}: {name} has no category {only!r}; choose from {', '.join(known.categories)}.")
            categories = [c for c in (known.categories if everywhere else known.available()) if only in ("", c)]
            named = {"recommended": known.splits[:1], "all": known.splits}
            splits = named[entry.splits] if isinstance(entry.splits, str) else entry.splits
            several = seeds if entry.seeds == "all" else seeds[:1]
            for category, each, seed in itertools.product(categories, entry.variants, several):
                job = Job(
                    study=entry.study, benchmark=name, category=category, variant=each, seed=seed, profile=profile
                )
                if entry.study == "run":
                    before = found[job.name].splits if job.name in found else ()
                    job = job.model_copy(update={"splits": tuple(dict.fromkeys((*before, *splits)))})
                found[job.name] = job
    return [
        job
        for job in found.values()
        if study in (None, job.study)
        and benchmark in (None, job.benchmark)
        and variant in (None, job.variant)
        and (everywhere or job.study != "peers" or find_spec("anomalib"))
    ]
