"""What the whole plan would take where it was not run: hours and storage, from measured unit costs.

Explained in the chapter *Limits*.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from functools import cache

import pandas as pd
import timm
import torch
from pydantic import BaseModel
from tqdm import tqdm

from anomaly_transfer import benchmarks, profiles, studies
from anomaly_transfer.device import default_device
from anomaly_transfer.networks import backbones
from anomaly_transfer.profiles import Profile
from anomaly_transfer.settings import results_folder
from anomaly_transfer.studies import plan, records
from anomaly_transfer.studies.base import SELF_SUPERVISED, Work
from anomaly_transfer.training.starts import TRAINING_SIZE

#: Sides of the network's input at which a job may pass images: sizes of the profile, and one that is the same at all.
SIDES = ("image_size", "tuned_image_size", "oneclass_image_size")
#: Methods that search a memory of patches, whose size is another of the profile's.
SEARCHED = ("patch-memory", "combined")
#: Images passed together: one alone has no variance for a batch norm on the last map of a small input.
BATCH = 2
GIGABYTE = 1e9
HOUR = 3600


class Units(BaseModel):
    """What one image takes at the sizes of a profile, on the machine at hand, and what is kept of it.

    Attributes
    ----------
    forward : dict of str to float
        Seconds to pass an image through the network, by the side of its input: :data:`SIDES`, :data:`SELF_SUPERVISED`.
    training : dict of str to float
        Seconds to pass it through, and its gradient back.
    features : int
        Bytes of its features: all levels pooled, and the maps of strides 8 and 16.
    network : int
        Bytes of the network.
    device : str
    """

    forward: dict[str, float]
    training: dict[str, float]
    features: int
    network: int
    device: str


def units(sizes: Profile, repeats: int = 3) -> Units:
    """Measure what an image takes, with a network of random weights: no download is needed, and time does not differ.

    Parameters
    ----------
    sizes : Profile
    repeats : int
        The median of so many passes counts, after one to warm up.
    """
    device = default_device()
    packaged = backbones.PACKAGED.get(sizes.backbone)
    name = packaged.timm_model if packaged else sizes.backbone
    stages = timm.create_model(name, pretrained=False, features_only=True).feature_info
    network = timm.create_model(name, pretrained=False).to(device)

    @cache
    def seconds(side: int, training: bool) -> float:
        images = torch.rand(BATCH, 3, side, side, device=device)
        network.train(training)
        taken = []
        for _ in range(1 + repeats):
            start = time.perf_counter()
            with torch.set_grad_enabled(training):
                out = network(images)
                if training:
                    out.square().mean().backward()
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[1:]) / BATCH

    sides = {field: getattr(sizes, field) for field in SIDES} | {SELF_SUPERVISED: TRAINING_SIZE}
    values = sum(stages.channels())
    for channels, stride in zip(stages.channels(), stages.reduction(), strict=True):
        if stride in (8, 16):
            values += channels * (sizes.image_size // stride) ** 2
    return Units(
        forward={field: seconds(side, training=False) for field, side in sides.items()},
        training={
            field: seconds(side, training=True) for field, side in tqdm(sides.items(), desc="timed steps", leave=False)
        },
        features=4 * values,
        network=sum(tensor.nbytes for tensor in network.state_dict().values()),
        device=device,
    )


def forecast(profile: str, units_of: dict[str, Units], recorded: str = "study") -> pd.DataFrame:
    """What the whole plan takes at a profile, from what was recorded at another and what an image takes at both.

    A job that trains grows with the seconds of a training pass, the images, the epochs and the folds; a search in a
    memory of patches with the memory and with the values of an image; everything else with the seconds of a forward
    pass. A job that was not recorded counts as the median of its variant, or of its study.

    Parameters
    ----------
    profile : str
    units_of : dict of str to Units
        Of both profiles, measured on the same device.
    recorded : str
        The profile of the recorded runs.

    Returns
    -------
    DataFrame
        Indexed by study: ``jobs``; ``own`` (the share of them whose own time was recorded); ``hours recorded``, and
        ``hours`` at the profile, both of one process of the machine that recorded; ``gigabytes`` of checkpoints.
    """
    now, then = profiles.get(profile), profiles.get(recorded)
    seconds: dict[tuple, list[float]] = defaultdict(list)
    for key, taken in _recorded_seconds(recorded).items():
        for length in (4, 2, 1):
            seconds[key[:length]] += taken
    rows = []
    for job in plan.experiments(profile, everywhere=True):
        exact = (job.study, job.variant, job.benchmark, job.category)
        levels = [seconds[key] for key in (exact, exact[:2], exact[:1]) if key in seconds]
        if not levels:
            raise ValueError(f"Nothing of the study {job.study!r} is recorded, so its time cannot be forecast.")
        base = statistics.median(levels[0])
        work_of = studies.get(job.study).work
        kept, work = 0.0, work_of(job, now)
        if work is not None:
            growth = grown(work_of(job, then), work, units_of[recorded], units_of[profile])
            kept = units_of[profile].network * work.folds * (work.epochs + 1 if work.kept else 1) / GIGABYTE
        elif job.variant in SEARCHED:
            growth = units_of[profile].features / units_of[recorded].features * now.memory_bank / then.memory_bank
        else:
            growth = units_of[profile].forward["image_size"] / units_of[recorded].forward["image_size"]
        rows.append((job.study, exact in seconds, base / HOUR, base * growth / HOUR, kept))
    found = pd.DataFrame(rows, columns=["study", "own", "hours recorded", "hours", "gigabytes"])
    grouped = found.groupby("study", sort=False)
    return pd.concat(
        [grouped.size().rename("jobs"), grouped["own"].mean(), grouped[list(found.columns[2:])].sum()], axis=1
    )


def coverage(profile: str) -> pd.DataFrame:
    """Which share of the plan is recorded at a profile: one row a study, one column a benchmark, NaN for no jobs."""
    here = {record.experiment.name for record in records.load(results_folder() / profile)}
    rows = [(job.study, job.benchmark, job.name in here) for job in plan.experiments(profile, everywhere=True)]
    found = pd.DataFrame(rows, columns=["study", "benchmark", "recorded"])
    return found.pivot_table(index="study", columns="benchmark", values="recorded", sort=False)


def features_gigabytes(units_at: Units) -> float:
    """What the features of the plan's images take in the store, in gigabytes, each benchmark's images counted once.

    Benchmarks whose authors give no number of images (small ones) are left out.
    """
    images = 0
    for name in {job.benchmark for job in plan.experiments("study", everywhere=True)}:
        known = benchmarks.get(name)
        counts = [sum((known.published(category) or {}).values()) for category in known.categories]
        # One-class sets are one set of pictures, seen ten times.
        images += (max(counts) if known.anomalies == "other classes" else sum(counts)) * known.pictures
    return images * units_at.features / GIGABYTE


def _recorded_seconds(profile: str) -> dict[tuple[str, str, str, str, int], list[float]]:
    """Seconds of the recorded experiments, by (study, variant, benchmark, category, seed)."""
    found: dict[tuple[str, str, str, str, int], list[float]] = defaultdict(list)
    for record in records.load(results_folder() / profile):
        e = record.experiment
        found[e.study, e.variant, e.benchmark, e.category, e.seed].append(sum(record.provenance.seconds.values()))
    return found


def grown(then: Work | None, now: Work, units_then: Units, units_now: Units) -> float:
    """How many times longer a training takes than another of the same study."""
    if then is None:
        raise ValueError("A job that trains no network has no training to compare with.")

    def seconds(work: Work, units_at: Units) -> float:
        # Of the small network only the ratio is known, and the same at every profile: gradients take twice a pass.
        back, forth = (3.0, 1.0) if work.side is None else (units_at.training[work.side], units_at.forward[work.side])
        return work.epochs * work.folds * (work.images * (back if work.trained else forth) + work.looked * forth)

    return seconds(now, units_now) / seconds(then, units_then)
