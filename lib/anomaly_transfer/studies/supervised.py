"""Networks trained with a few labelled anomalies: how deep the labels may reach (P3.a).

In ``labelled`` a linear head is fitted on frozen features. Here the head alone, the last block or the whole network is
trained, from random parameters or from ImageNet. Explained in the chapter *Labels or transfer?*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.benchmarks import reference
from anomaly_transfer.benchmarks.base import evenly_spaced
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import ImageArray, Images
from anomaly_transfer.metrics.ranking import evaluate
from anomaly_transfer.networks import backbones
from anomaly_transfer.networks.backbones import Backbone, pretrained
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, protocol
from anomaly_transfer.studies.base import Request, Study, Work
from anomaly_transfer.studies.deep_one_class import FROM, IMAGENET, LAST, RANDOM, SIZES, VALIDATION
from anomaly_transfer.studies.linear_probe import ALL, EXPOSURE, N_UNRELATED, SEEN, UNSEEN
from anomaly_transfer.studies.protocol import Domains, clusters_of, draw_in_turn, hold_out, usable
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import early_stopping, loop, simclr
from anomaly_transfer.training.classifier import ClassifierRecipe, LabelledRun
from anomaly_transfer.training.loop import NOTHING

#: Labelled anomalies to train with.
SHOTS = (5, 50, ALL)
#: How much of the network is trained, as ``ClassifierRecipe.trained_from``.
DEPTHS = {"head": NOTHING, "block": "stage7", "whole": None}
FOCAL = f"{IMAGENET}-whole-focal"
VARIANTS = (*(f"{start}-{depth}" for start in (RANDOM, IMAGENET) for depth in DEPTHS), FOCAL)
DEFAULT = f"{IMAGENET}-block"
BATCH = 16


def request(asked: Experiment, store: Store) -> Request:
    """Train by one variant with few and with all labels, on types that are tested and on others.

    The seed is that of the division, of the labels that are drawn, of which types are left out, and of training. A run
    that was broken off goes on from the last epoch that the store holds.

    Source, target and, where all types are known, the drawn labels are those of the first draw of ``labelled``, but
    pictures are smaller, so that all depths can be trained.

    Returns
    -------
    Request
        One row a (method, k, measure): ``method`` as in ``labelled``, ``measure`` a rule that chose the ``epoch``, and
        the AUROC of the tested types against normal images with its interval. For :data:`UNSEEN` every other type is
        labelled, and the rest is tested.
    """
    sizes = profiles.get(asked.profile)
    domain = protocol.divide(benchmarks.get(asked.benchmark).load(asked.category, sizes.limit), asked.seed)

    def compute() -> pd.DataFrame:
        types = usable(domain)
        left_out = types[asked.seed % 2 :: 2]
        tasks: list[tuple[str, int, list[str], list[str]]] = [(EXPOSURE, 0, [], types)]
        for k in SHOTS:
            tasks.append((SEEN, k, types, types))
            if len(types) > 1:
                tasks.append((UNSEEN, k, [name for name in types if name not in left_out], left_out))
        return pd.DataFrame(
            [row for task in tasks for row in _tested(domain, asked.variant, asked.seed, sizes, store, *task)]
        )

    return base.request(STUDY, asked, SIZES, domain.category, sizes, compute)


def train(
    domain: Domains, variant: str, seed: int, sizes: Profile, store: Store, k: int, known: Sequence[str]
) -> LabelledRun:
    """Train with ``k`` labelled anomalies of the known types; without any, with unrelated pictures in their place."""
    images = domain.category.images
    normal = domain.rows(domain.source, NORMAL)
    train, held = hold_out(domain.category, evenly_spaced(normal, sizes.oneclass_images or len(normal)), seed)
    side = domain.category.input_side(sizes.oneclass_image_size)
    start_name, depth = variant.removesuffix("-focal").split("-")
    start = pretrained(sizes.backbone)
    if start_name == RANDOM:
        start = simclr.calibrated(backbones.untrained(start, seed), images.take(train), side)
    if known:
        of_known = [domain.rows(domain.source, name) for name in known]
        chosen = draw_in_turn(
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
    recipe = ClassifierRecipe(**{"epochs": sizes.oneclass_epochs, "batch_size": BATCH, **settings})
    held_out = images.take(held)
    # By kind, since which images are called anomalous matters.
    parts = (pictures.take(np.flatnonzero(~anomalous)), pictures.take(np.flatnonzero(anomalous)), held_out)
    with loop.training_folder(
        store, "anomaly_transfer.training.classifier:LabelledRun", parts, start, side, recipe, seed
    ) as folder:
        made = LabelledRun(pictures, anomalous, held_out, start, side, recipe, folder, seed)
        made.run()
    return made


def _beside(normal: Images, where: str, side: int, start: Backbone, seed: int) -> ImageArray:
    """Normal images and, after them, unrelated pictures, all at the size at which they are seen."""
    unrelated = reference.comparison_sets(normal, where, N_UNRELATED, seed)
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
    made = train(domain, variant, seed, sizes, store, k, known)
    rows = [domain.rows(domain.target, name) for name in (NORMAL, *tested)]
    positive = np.repeat([False, True], [len(rows[0]), sum(map(len, rows[1:]))])
    test = domain.category.images.take(np.concatenate(rows))
    clusters = clusters_of(domain.category, np.concatenate(rows))
    found = []
    for rule, epoch in ((VALIDATION, early_stopping.best(made.validation())), (LAST, made.epoch)):
        made.load(epoch)
        reached = evaluate(made.score(test), positive, None, sizes.bootstrap, clusters=clusters)["auroc"]
        found.append({"method": method, "k": k, "measure": rule, "epoch": epoch, **reached.model_dump()})
    return found


def work(experiment: Experiment, sizes: Profile) -> Work:
    """One training for each number of labels."""
    number = protocol.at_hand(experiment, sizes.oneclass_images)
    whole = not experiment.variant.endswith("-head")
    return Work("oneclass_image_size", number, sizes.oneclass_epochs, looked=protocol.validated(number), trained=whole)


STUDY = Study("supervised", request, VARIANTS, DEFAULT, work=work, memory=("oneclass",))
run = STUDY.run
