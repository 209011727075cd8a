"""Networks trained with a few labelled anomalies: how deep the labels may reach (P3.a).

In ``labelled`` a linear head is fitted on frozen features. Here the head alone, the last block or the whole network is
trained, from random parameters or from ImageNet. Explained in the chapter *Labels or transfer?*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from anomaly_transfer import backbones, benchmarks, domains, profiles, selfsupervised, sources, stopping, training
from anomaly_transfer.backbones import Backbone, spatial_mean
from anomaly_transfer.benchmarks.base import evenly_spaced
from anomaly_transfer.device import default_device
from anomaly_transfer.domains import Domains
from anomaly_transfer.errors import DataError
from anomaly_transfer.evaluation import evaluate
from anomaly_transfer.experiments import pretrained
from anomaly_transfer.images import ImageArray, Images
from anomaly_transfer.labelled import ALL, EXPOSURE, N_UNRELATED, SEEN, UNSEEN, drawn, usable
from anomaly_transfer.labels import NORMAL
from anomaly_transfer.oneclass import width
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.tables import Request, Study
from anomaly_transfer.training import NOTHING, Run, Schedule
from anomaly_transfer.transferred import FROM, IMAGENET, LAST, RANDOM, SIZES, VALIDATION
from anomaly_transfer.tuned import clusters_of, parted

#: Labelled anomalies to train with.
SHOTS = (5, 50, ALL)
#: How much of the network is trained, as ``Recipe.trained_from``.
DEPTHS = {"head": NOTHING, "block": "stage7", "whole": None}
FOCAL = f"{IMAGENET}-whole-focal"
VARIANTS = (*(f"{start}-{depth}" for start in (RANDOM, IMAGENET) for depth in DEPTHS), FOCAL)
DEFAULT = f"{IMAGENET}-block"
BATCH = 16


class Recipe(Schedule):
    """How a network is trained with labels."""

    loss: Literal["weighted", "focal"] = Field(
        "weighted", description="cross-entropy in which both classes weigh the same, or its focal form"
    )


class LabelledRun(Run):
    """Normal against labelled anomalies: a linear head on the mean of the last level's map, and what is under it.

    Parameters
    ----------
    images : Images
        All to train on, normal and anomalous.
    anomalous : bool array, shape (n_images,)
        Of both kinds.
    held_out, start, image_size, recipe, folder, seed, device
        See :class:`anomaly_transfer.training.Run`.

    Raises
    ------
    DataError
        If there is no image of one kind.
    """

    levels = ("last",)

    def __init__(
        self,
        images: Images,
        anomalous: np.ndarray,
        held_out: Images,
        start: Backbone,
        image_size: int,
        recipe: Recipe,
        folder: Path,
        seed: int,
        device: str | None = None,
    ):
        if anomalous.all() or not anomalous.any():
            raise DataError(
                f"{int(anomalous.sum())} of {len(anomalous)} training images are labelled anomalous: both kinds are "
                "needed."
            )
        device = device or default_device()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = nn.Linear(width(start, image_size), 1)
        super().__init__(images, held_out, start, image_size, recipe, folder, seed, device, head)
        self.recipe = recipe
        self.anomalous = torch.from_numpy(anomalous.astype(np.float32)).to(device)

    def loss(self, batch: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Binary cross-entropy in which normal and anomalous weigh the same over all images."""
        logits, labels = self._logits(batch), self.anomalous[rows]
        share = self.anomalous.mean()
        if self.recipe.loss == "focal":
            return sigmoid_focal_loss(logits, labels, alpha=float(1 - share), reduction="mean")
        weights = torch.where(labels > 0, 0.5 / share, 0.5 / (1 - share))
        return F.binary_cross_entropy_with_logits(logits, labels, weights)

    def scored(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """The logit of "anomalous", one column."""
        with torch.inference_mode():
            found = [self._logits(torch.from_numpy(batch).to(self.device)).cpu() for batch in batches]
        return torch.cat(found).double().numpy()[:, None]

    def _logits(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(spatial_mean(self.backbone.level_maps(batch)[-1]))[:, 0]


def request(benchmark: str, category: str, variant: str, seed: int, profile: str, store: Store) -> Request:
    """Train by one variant with few and with all labels, on types that are tested and on others.

    Source, target and, where all types are known, the drawn labels are those of the first draw of ``labelled``, but
    pictures are smaller, so that all depths can be trained.

    Parameters
    ----------
    benchmark, category : str
        Of a benchmark with pictures.
    variant : str
        One of :data:`VARIANTS`.
    seed : int
        Of the division, of the labels that are drawn, of which types are left out, and of training.
    profile : str
    store : Store
        A run that was broken off goes on from the last epoch it holds.

    Returns
    -------
    Request
        One row a (method, k, measure): ``method`` as in ``labelled``, ``measure`` a rule that chose the ``epoch``, and
        the AUROC of the tested types against normal images with its interval. For :data:`UNSEEN` every other type is
        labelled, and the rest is tested.
    """
    sizes = profiles.get(profile)
    domain = domains.divide(benchmarks.get(benchmark).load(category, sizes.limit), seed)

    def compute() -> pd.DataFrame:
        types = usable(domain)
        left_out = types[seed % 2 :: 2]
        tasks: list[tuple[str, int, list[str], list[str]]] = [(EXPOSURE, 0, [], types)]
        for k in SHOTS:
            tasks.append((SEEN, k, types, types))
            if len(types) > 1:
                tasks.append((UNSEEN, k, [name for name in types if name not in left_out], left_out))
        return pd.DataFrame([row for task in tasks for row in _tested(domain, variant, seed, sizes, store, *task)])

    return domains.request(STUDY, SIZES, domain.category, variant, seed, sizes, compute)


def trained(
    domain: Domains, variant: str, seed: int, sizes: Profile, store: Store, k: int, known: Sequence[str]
) -> LabelledRun:
    """Train with ``k`` labelled anomalies of the known types; without any, with unrelated pictures in their place."""
    images = domain.category.images
    normal = domain.rows(domain.source, NORMAL)
    train, held = parted(domain.category, evenly_spaced(normal, sizes.oneclass_images or len(normal)), seed)
    side = domain.category.input_side(sizes.oneclass_image_size)
    start_name, depth = variant.removesuffix("-focal").split("-")
    start = pretrained(sizes.backbone)
    if start_name == RANDOM:
        start = selfsupervised.calibrated(backbones.untrained(start, seed), images.take(train), side)
    if known:
        of_known = [domain.rows(domain.source, name) for name in known]
        chosen = drawn(
            of_known, k if k != ALL else sum(map(len, of_known)), np.random.default_rng([seed, max(k, 0), 0])
        )
        pictures: Images = images.take(np.concatenate([train, chosen]))
    else:
        pictures = _beside(images.take(train), f"{domain.category.benchmark}/{domain.category.name}", side, start, seed)
    anomalous = np.arange(len(pictures)) >= len(train)
    settings = FROM[start_name] | {
        "loss": "focal" if variant == FOCAL else "weighted",
        "trained_from": DEPTHS[depth],
        # What is not trained keeps its statistics, too.
        **({} if depth == "whole" else {"batch_norm": "frozen"}),
    }
    recipe = Recipe(**{"epochs": sizes.oneclass_epochs, "batch": BATCH, **settings})
    held_out = images.take(held)
    # By kind, since which images are called anomalous matters.
    parts = (pictures.take(np.flatnonzero(~anomalous)), pictures.take(np.flatnonzero(anomalous)), held_out)
    with training.stored(store, f"{__name__}:LabelledRun", parts, start, side, recipe, seed) as folder:
        made = LabelledRun(pictures, anomalous, held_out, start, side, recipe, folder, seed)
        made.run()
    return made


def _beside(normal: Images, where: str, side: int, start: Backbone, seed: int) -> ImageArray:
    """Normal images and, after them, unrelated pictures, all at the size at which they are seen."""
    unrelated = sources.beside(normal, where, N_UNRELATED, seed)
    parts = [normal, unrelated["photographs"], unrelated["materials"]]
    return ImageArray(np.stack([start.preprocess(image, side) for part in parts for image in part]))


def _tested(
    domain: Domains,
    variant: str,
    seed: int,
    sizes: Profile,
    store: Store,
    method: str,
    k: int,
    known: Sequence[str],
    tested: Sequence[str],
) -> list[dict]:
    """Train for one task, then score the target's normal images and those of the tested types."""
    if not known and method != EXPOSURE:
        return []
    made = trained(domain, variant, seed, sizes, store, k, known)
    rows = [domain.rows(domain.target, name) for name in (NORMAL, *tested)]
    positive = np.repeat([False, True], [len(rows[0]), sum(map(len, rows[1:]))])
    test = domain.category.images.take(np.concatenate(rows))
    clusters = clusters_of(domain.category, np.concatenate(rows))
    found = []
    for rule, epoch in ((VALIDATION, stopping.best(made.validation())), (LAST, made.epoch)):
        made.load(epoch)
        reached = evaluate(made.score(test), positive, None, sizes.bootstrap, clusters=clusters)["auroc"]
        found.append({"method": method, "k": k, "measure": rule, "epoch": epoch, **reached.model_dump()})
    return found


STUDY = Study("supervised", request, VARIANTS, DEFAULT)
run = STUDY.run
