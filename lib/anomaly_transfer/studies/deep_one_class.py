"""What training a network on one class does to detection, from scratch and from ImageNet: Part III's deep methods.

As in ``tuned``, a run sees normal images only, and the labels of the test images are opened when it has ended.
Explained in the chapter *Deep transfer for one class*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.benchmarks import reference
from anomaly_transfer.benchmarks.base import Category, evenly_spaced
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import Images
from anomaly_transfer.data.splits import Fold
from anomaly_transfer.metrics.ranking import evaluate
from anomaly_transfer.networks import backbones
from anomaly_transfer.networks.backbones import Backbone, pretrained
from anomaly_transfer.networks.lenet import SIDE, lenet
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, protocol
from anomaly_transfer.studies.base import Request, Study, Work
from anomaly_transfer.studies.protocol import clusters_of, folds, hold_out
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import early_stopping, loop, one_class, simclr
from anomaly_transfer.training.early_stopping import LAST, ORACLE, UNTRAINED, VALIDATION
from anomaly_transfer.training.loop import Tuning
from anomaly_transfer.training.one_class import OneClassRecipe, OneClassRun

#: Where networks start: a small one at random (with biases where its guards are to be taken away), or the profile's
#: backbone at random or from ImageNet.
SCRATCH, RANDOM, IMAGENET = "scratch", "random", "imagenet"
#: The rate at random was lowered once, since the loss of one digit rose (chapter *Deep transfer for one class*).
#: A pre-trained network takes small steps and keeps its batch norms; at random there is nothing to keep.
FROM: dict[str, dict[str, Any]] = {
    SCRATCH: {"learning_rate": 3e-4, "batch_norm": "trained"},
    RANDOM: {"learning_rate": 3e-4, "batch_norm": "trained"},
    IMAGENET: {"learning_rate": 1e-4, "batch_norm": "frozen"},
}
#: Our protocol: start and what differs from the defaults of ``one_class.OneClassRecipe``.
RECIPES: dict[str, tuple[str, dict]] = {
    "svdd-scratch": (SCRATCH, {}),
    "svdd-unguarded": (SCRATCH, {"guarded": False}),
    "svdd-random": (RANDOM, {}),
    "svdd-imagenet": (IMAGENET, {}),
    "negatives-random": (RANDOM, {"objective": "pseudo-negatives"}),
    "negatives-imagenet": (IMAGENET, {"objective": "pseudo-negatives"}),
    "compact-random": (RANDOM, {"objective": "compactness"}),
    "compact-imagenet": (IMAGENET, {"objective": "compactness"}),
    "compact-alone": (IMAGENET, {"objective": "compactness", "descriptive": False}),
}
#: The first on all normal training images and all test images, as the literature has it.
WHOLE = "svdd-scratch-whole"
VARIANTS = (*RECIPES, WHOLE)
DEFAULT = "svdd-imagenet"

BATCH = 16
#: The small network costs little and has all to learn: so many times the epochs of the profile.
LONGER = 5
#: Crops of photographs for descriptiveness.
N_REFERENCE = 140

#: What is told of a fold and epoch besides the history of the run: the test AUROC, and the features' variance over
#: held-out images as a share of that before training.
TEST, VARIANCE = "test AUROC", "variance"

#: What of a profile these experiments depend on.
SIZES = (
    "backbone",
    "images_per_category",
    "bootstrap",
    "oneclass_image_size",
    "oneclass_images",
    "oneclass_epochs",
    "oneclass_test",
)


@dataclass(frozen=True)
class _Fold:
    """One fold: the finished run, the test images, and the score of each after each epoch."""

    tuning: Tuning
    test: np.ndarray
    positive: np.ndarray
    scores: np.ndarray
    variances: list[float]


def request(asked: Experiment, store: Store) -> Request:
    """Train on one class by one variant, and tell what came of it.

    The seed is that of the split, of the network where it starts at random, of the order of training and of all that is
    drawn. A run that was broken off goes on from the last epoch that the store holds.

    Returns
    -------
    Request
        Rows of the kind ``curve``: a value of one epoch (``measure`` is one of the run's history, :data:`TEST` or
        :data:`VARIANCE`). Rows of the kind ``rule``: the AUROC at the epoch that a rule chose, with its interval.
    """
    sizes = profiles.get(asked.profile)
    if asked.variant == WHOLE:
        sizes = sizes.model_copy(update={"oneclass_images": 0, "oneclass_test": 0})
    whole = benchmarks.get(asked.benchmark).load(asked.category, sizes.limit)

    def compute() -> pd.DataFrame:
        (fold,) = folds(whole, asked.seed, 1, sizes.oneclass_test)
        found = _tested(whole, fold, asked.variant, asked.seed, sizes, store)
        return pd.DataFrame([*_curves(found), *_rules(found, whole, sizes)])

    return base.request(STUDY, asked, SIZES, whole, sizes, compute)


def train(category: Category, fold: Fold, variant: str, seed: int, sizes: Profile, store: Store) -> OneClassRun:
    """Train in one fold; a run that is finished is read, one that was broken off goes on."""
    rows = evenly_spaced(fold.train, sizes.oneclass_images or len(fold.train))
    train, held = hold_out(category, rows, seed)
    images, held_out = category.images.take(train), category.images.take(held)
    name, settings = RECIPES["svdd-scratch" if variant == WHOLE else variant]
    start, side = _start(name, settings, category, images, seed, sizes)
    epochs = sizes.oneclass_epochs * (LONGER if name == SCRATCH and variant != WHOLE else 1)
    recipe = OneClassRecipe(**{"epochs": epochs, "batch_size": BATCH, **FROM[name], **settings})
    described = None
    if recipe.objective == "compactness" and recipe.descriptive:
        where = f"{category.benchmark}/{category.name}"
        crops = reference.comparison_sets(images, where, N_REFERENCE, seed)["photographs"]
        described = crops, reference.photograph_of(N_REFERENCE)
    parts = (images, held_out, *([described[0]] if described else []))
    with loop.training_folder(
        store, "anomaly_transfer.training.one_class:prepare", parts, start, side, recipe, seed
    ) as folder:
        made = one_class.prepare(images, held_out, start, side, recipe, folder, seed, described)
        made.run()
    return made


def _start(
    name: str, settings: dict, category: Category, images: Images, seed: int, sizes: Profile
) -> tuple[Backbone, int]:
    """The network before training, and the side of its input in pixels.

    Networks at random get batch norms with the statistics of the images, else their first features say nothing.
    """
    if name == SCRATCH:
        return simclr.calibrated(lenet(seed, bias=not settings.get("guarded", True)), images, SIDE), SIDE
    side = category.input_side(sizes.oneclass_image_size)
    backbone = pretrained(sizes.backbone)
    if name == RANDOM:
        backbone = simclr.calibrated(backbones.untrained(backbone, seed), images, side)
    return backbone, side


def _tested(category: Category, fold: Fold, variant: str, seed: int, sizes: Profile, store: Store) -> _Fold:
    made = train(category, fold, variant, seed, sizes, store)
    tuning = Tuning(made.history, made.start, made.folder)
    # From here on, labels may be known: nothing is trained or chosen by them any more, but the oracle.
    kinds = category.annotations.open()["anomaly_class"].to_numpy()[fold.test]
    test, scores, variances = category.images.take(fold.test), [], []
    for epoch in range(tuning.epochs + 1):
        made.load(epoch)
        scores.append(made.score(test))
        variances.append(made.variance())
    return _Fold(tuning, fold.test, kinds != NORMAL, np.stack(scores), variances)


def _curves(found: _Fold) -> list[dict]:
    rows = [{"kind": "curve", **row} for row in found.tuning.history if row["level"] == loop.SUM]
    told = {
        TEST: [roc_auc_score(found.positive, scores) for scores in found.scores],
        VARIANCE: [value / found.variances[0] for value in found.variances],
    }
    rows += [
        {"kind": "curve", "epoch": epoch, "measure": name, "level": loop.SUM, "value": float(value)}
        for name, values in told.items()
        for epoch, value in enumerate(values)
    ]
    return rows


def _rules(found: _Fold, category: Category, sizes: Profile) -> list[dict]:
    """What each rule reaches."""
    chosen = {
        UNTRAINED: 0,
        VALIDATION: early_stopping.best(found.tuning.validation()),
        LAST: found.tuning.epochs,
        ORACLE: early_stopping.best([roc_auc_score(found.positive, scores) for scores in found.scores]),
    }
    clusters = clusters_of(category, found.test)
    return [_rule(name, epoch, found, clusters, sizes.bootstrap) for name, epoch in chosen.items()]


def _rule(name: str, epoch: int, found: _Fold, clusters: np.ndarray | None, n_bootstrap: int) -> dict:
    reached = evaluate(found.scores[epoch], found.positive, None, n_bootstrap, clusters=clusters)["auroc"]
    return {"kind": "rule", "measure": name, "epoch": epoch, **reached.model_dump()}


def ended(frame: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The last epoch's value of one measure of the curves: one row a run, with its coordinates."""
    # Numbered anew: tables that were put together repeat their row numbers.
    rows = frame[(frame["kind"] == "curve") & (frame["measure"] == measure)].reset_index(drop=True)
    return rows.loc[rows.groupby(_RUN, sort=False)["epoch"].idxmax()]


def collapsed(frame: pd.DataFrame) -> pd.Series:
    """Which runs have collapsed by the last epoch: variance below ``one_class.COLLAPSED``; bool, by run."""
    found = ended(frame, VARIANCE).set_index(_RUN)["value"]
    return found < one_class.COLLAPSED


_RUN: Sequence[str] = ["benchmark", "category", "variant", "seed"]


def work(experiment: Experiment, sizes: Profile) -> Work:
    """One training."""
    number = protocol.at_hand(experiment, 0 if experiment.variant == WHOLE else sizes.oneclass_images)
    tested = protocol.at_hand(experiment, 0 if experiment.variant == WHOLE else sizes.oneclass_test)
    looked = protocol.validated(number) + 2 * tested
    if experiment.variant == WHOLE:
        return Work(None, number, sizes.oneclass_epochs, looked=looked)
    if RECIPES[experiment.variant][0] == SCRATCH:
        return Work(None, number, LONGER * sizes.oneclass_epochs, looked=looked)
    return Work("oneclass_image_size", number, sizes.oneclass_epochs, looked=looked)


STUDY = Study("deep_one_class", request, VARIANTS, DEFAULT, work=work, memory=("oneclass",))
run = STUDY.run
