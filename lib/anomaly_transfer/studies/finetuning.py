"""What fine-tuning on normal images does to detection: the experiments of Part II.

In each fold a network is fine-tuned on normal images (``mahalanobis.tune``, which reads no label). Only then are the
labels of the test images opened, and the test AUROC of every epoch is revealed. All stopping rules are read off the
same run. Explained in the chapter *Fine-tuning without forgetting*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from anomaly_transfer import benchmarks, profiles, similarity
from anomaly_transfer.benchmarks.base import Category, evenly_spaced
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import Images
from anomaly_transfer.data.splits import N_FOLDS, Fold
from anomaly_transfer.metrics.ranking import evaluate, paired_difference
from anomaly_transfer.networks.backbones import Backbone, pretrained
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, protocol
from anomaly_transfer.studies.base import Request, Study, Work
from anomaly_transfer.studies.protocol import clusters_of, folds, hold_out
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import early_stopping, loop, mahalanobis, pseudo_anomalies
from anomaly_transfer.training.early_stopping import LAST, ORACLE, VALIDATION, validation_by
from anomaly_transfer.training.loop import Tuning
from anomaly_transfer.training.mahalanobis import MahalanobisRecipe

#: Our protocol, said beforehand, since the paper's settings are unknown to us: what is varied, one thing at a time.
DEFAULT = "mahalanobis"
RECIPES: dict[str, dict] = {
    DEFAULT: {},
    "statistics-crossed": {"statistics": "crossed"},
    "statistics-score": {"statistics": "score"},
    "statistics-fixed": {"statistics": "fixed"},
    "squared": {"squared": True},
    "diagonal": {"covariance": "diagonal"},
    "euclidean": {"covariance": "identity"},
    "euclidean-anchored": {"covariance": "identity", "statistics": "score", "anchor": 1e4},
    "rate-3e-6": {"learning_rate": 3e-6},
    "rate-1e-4": {"learning_rate": 1e-4},
    "rate-3e-4": {"learning_rate": 3e-4},
    "batch-norms-trained": {"batch_norm": "trained"},
    "late-levels": {"levels": ("stage5", "stage6", "stage7", "head"), "trained_from": "stage5"},
    "last-level": {"levels": ("head",)},
}
#: These vary the number of normal images or of epochs, which are the profile's.
FEWER, MORE, LONGER = "quarter-of-images", "all-images", "three-times-as-long"
VARIANTS = (*RECIPES, FEWER, MORE, LONGER)


#: What is told of a fold and epoch besides the history of the run: the test AUROC, and how alike features and
#: distances of the test images are to those of the frozen network.
TEST = "test AUROC"
#: What is followed epoch by epoch, and how figures call it.
CURVES = {
    loop.LOSS: "objective (training)",
    loop.HELD_OUT: "distance, held-out normal",
    VALIDATION: "validation (AUROC)",
    TEST: "test (AUROC), revealed",
}
#: Measures of Part I; CKA also of whitened features, in which the Mahalanobis distance is the Euclidean one.
MEASURES = ("cka", "svcca", "rsa")
WHITENED, RANKS = "cka, whitened", "rank correlation of distances"
#: The frozen network: all levels together, or the one that validation prefers.
FROZEN, FROZEN_LEVEL = f"{early_stopping.FROZEN}, sum", f"{early_stopping.FROZEN}, level by {VALIDATION}"
PATIENCE = 2


@dataclass(frozen=True)
class _Fold:
    """One fold: the finished run, the test images, and every score."""

    tuning: Tuning
    test: np.ndarray
    positive: np.ndarray
    #: Of each epoch, image and level.
    distances: np.ndarray
    #: Of each epoch, by measure: one value a level.
    likeness: list[dict[str, list[float]]]


def request(asked: Experiment, store: Store) -> Request:
    """Fine-tune on one category by one variant of the protocol, fold by fold, and tell what came of it.

    The seed is that of the split, of the held-out images, of the order of training and of the stand-ins. A run that was
    broken off goes on from the last epoch that the store holds.

    Returns
    -------
    Request
        Rows of the kind ``curve``: a value of one fold and epoch (``measure`` is one of the run's history, or
        :data:`TEST`, :data:`WHITENED`, :data:`RANKS` or one of :data:`MEASURES`, by level). Rows of the kind ``rule``:
        the AUROC over all folds of what a rule chose (``measure``), with its interval, and its paired gain on
        :data:`FROZEN`, with its interval.
    """
    sizes = profiles.get(asked.profile)
    whole = benchmarks.get(asked.benchmark).load(asked.category, sizes.limit)

    def compute() -> pd.DataFrame:
        parts = folds(whole, asked.seed, sizes.tuned_folds, sizes.tuned_test)
        done = [evaluate_fold(whole, fold, asked.variant, asked.seed, sizes, store) for fold in parts]
        rows = [row for number, part in enumerate(done) for row in _curves(part, number)]
        return pd.DataFrame([*rows, *_rules(done, whole, sizes)])

    return base.request(STUDY, asked, SIZES, whole, sizes, compute)


#: What of a profile these experiments depend on.
SIZES = (
    "backbone",
    "images_per_category",
    "bootstrap",
    "tuned_image_size",
    "tuned_images",
    "tuned_epochs",
    "tuned_folds",
    "tuned_test",
)


def train(
    category: Category, fold: Fold, variant: str, seed: int, sizes: Profile, store: Store
) -> tuple[Tuning, Images]:
    """Fine-tune in one fold; gives the finished run, and the normal images that it was tuned on."""
    at_most = 0 if variant == MORE else sizes.tuned_images
    rows = evenly_spaced(fold.train, at_most or len(fold.train))
    train, held = hold_out(category, rows, seed)
    if variant == FEWER:
        train = evenly_spaced(train, max(2, len(train) // 4))
    epochs = sizes.tuned_epochs * (3 if variant == LONGER else 1)
    recipe = MahalanobisRecipe(**{"epochs": epochs, **RECIPES.get(variant, {})})
    images, held_out = category.images.take(train), category.images.take(held)
    return tune(
        images, held_out, pretrained(sizes.backbone), category.input_side(sizes.tuned_image_size), recipe, seed, store
    ), images


def evaluate_fold(category: Category, fold: Fold, variant: str, seed: int, sizes: Profile, store: Store) -> _Fold:
    """Fine-tune in one fold, then score its test images with the network of every epoch."""
    tuning, images = train(category, fold, variant, seed, sizes, store)
    test, image_size = category.images.take(fold.test), category.input_side(sizes.tuned_image_size)
    # From here on, labels may be known: nothing is trained or chosen by them any more, but the oracle.
    kinds = category.annotations.open()["anomaly_class"].to_numpy()[fold.test]
    frozen = mahalanobis.gaussians(tuning.start, images, image_size)
    is_fixed = RECIPES.get(variant, {}).get("statistics") == "fixed"
    distances, likeness = [], []
    first: tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray] | None = None
    for epoch in tqdm(range(tuning.epochs + 1), desc="tested epochs", leave=False):
        network = tuning.network(epoch)
        found = frozen if is_fixed else mahalanobis.gaussians(network, images, image_size)
        seen = mahalanobis.pooled(network, test, image_size)
        white = found.of(seen)
        distances.append(np.stack([np.linalg.norm(x, axis=1) for x in white.values()], axis=1))
        first = first or (seen, white, distances[0])
        likeness.append(_likeness(first, (seen, white, distances[-1])))
    return _Fold(tuning, fold.test, kinds != NORMAL, np.stack(distances), likeness)


def _likeness(first, now) -> dict[str, list[float]]:
    """How alike two networks' features, whitened features and distances of the same images are, level by level."""
    seen, white, distances = zip(first, now, strict=True)
    cka = similarity.get("cka")
    return {
        **{
            name: [similarity.get(name)(a, b) for a, b in zip(*(x.values() for x in seen), strict=True)]
            for name in MEASURES
        },
        WHITENED: [cka(a, b) for a, b in zip(*(x.values() for x in white), strict=True)],
        RANKS: [float(spearmanr(a, b).statistic) for a, b in zip(*(x.T for x in distances), strict=True)],
    }


def tune(
    images: Images,
    held_out: Images,
    start: Backbone,
    image_size: int,
    recipe: MahalanobisRecipe,
    seed: int,
    store: Store,
) -> Tuning:
    """``mahalanobis.tune`` in the store: a finished run is read, one that was broken off goes on."""
    parts = (images, held_out)
    with loop.training_folder(
        store, "anomaly_transfer.training.mahalanobis:tune", parts, start, image_size, recipe, seed
    ) as folder:
        return mahalanobis.tune(images, held_out, start, image_size, recipe, folder, seed)


def _curves(part: _Fold, number: int) -> list[dict]:
    """Everything of one fold along its epochs."""
    rows = [{"kind": "curve", "fold": number, **row} for row in part.tuning.history]
    levels = part.tuning.start.levels
    for epoch, (distances, likeness) in enumerate(zip(part.distances, part.likeness, strict=True)):
        columns = {loop.SUM: distances.sum(axis=1), **dict(zip(levels, distances.T, strict=True))}
        told = [(TEST, level, roc_auc_score(part.positive, values)) for level, values in columns.items()]
        told += [(name, *pair) for name, values in likeness.items() for pair in zip(levels, values, strict=True)]
        rows += [
            {"kind": "curve", "fold": number, "epoch": epoch, "measure": name, "level": level, "value": float(value)}
            for name, level, value in told
        ]
    return rows


def _rules(done: Sequence[_Fold], category: Category, sizes: Profile) -> list[dict]:
    """What each rule reaches over all folds, and its gain on the frozen network, paired on the same images."""
    strata = np.repeat(np.arange(len(done)), [len(part.test) for part in done])
    positive = np.concatenate([part.positive for part in done])
    clusters = clusters_of(category, np.concatenate([part.test for part in done]))
    chosen = {name: [rule(part) for part in done] for name, rule in RULES.items()}
    scores = {name: _chosen(done, picks) for name, picks in chosen.items()}
    rows = []
    for name, values in scores.items():
        reached = evaluate(values, positive, strata, sizes.bootstrap, clusters=clusters)["auroc"]
        gain = paired_difference(values, scores[FROZEN], positive, strata, sizes.bootstrap, clusters=clusters)["auroc"]
        rows.append(
            {
                "kind": "rule",
                "measure": name,
                **reached.model_dump(),
                "gain": gain.value,
                "gain low": gain.low,
                "gain high": gain.high,
                "epoch": float(np.mean([epoch for epoch, _ in chosen[name]])),
            }
        )
    return rows


def _chosen(done: Sequence[_Fold], picks: Sequence[tuple[int, list[int]]]) -> np.ndarray:
    """Scores of all folds at the epochs and levels that a rule picked."""
    parts = zip(done, picks, strict=True)
    return np.concatenate([part.distances[epoch][:, levels].sum(axis=1) for part, (epoch, levels) in parts])


#: A rule chooses an epoch and the levels to sum over, from a finished fold.
Rule = Callable[[_Fold], tuple[int, list[int]]]


def _all(part: _Fold) -> list[int]:
    return list(range(part.distances.shape[2]))


def _fixed(epoch: int) -> Rule:
    return lambda part: (min(epoch, part.tuning.epochs), _all(part))


def _validated(kinds: Sequence[str]) -> Rule:
    return lambda part: (early_stopping.best(part.tuning.validation(kinds), PATIENCE), _all(part))


def _by_loss(part: _Fold) -> tuple[int, list[int]]:
    return early_stopping.best([-loss for loss in part.tuning.losses()]), _all(part)


def _by_test(part: _Fold) -> tuple[int, list[int]]:
    return early_stopping.best([roc_auc_score(part.positive, d.sum(axis=1)) for d in part.distances]), _all(part)


def _best_level(part: _Fold, epoch: int) -> int:
    """The level that tells held-out normal images from their stand-ins best, at an epoch."""
    values = [part.tuning.validation(level=level)[epoch] for level in part.tuning.start.levels]
    return int(np.argmax(values))


def _level(of: Rule) -> Rule:
    return lambda part: (of(part)[0], [_best_level(part, of(part)[0])])


#: Rules, in the order in which they are shown.
RULES: dict[str, Rule] = {
    FROZEN: _fixed(0),
    FROZEN_LEVEL: _level(_fixed(0)),
    VALIDATION: _validated(tuple(pseudo_anomalies.KINDS)),
    f"{VALIDATION}, level by {VALIDATION}": _level(_validated(tuple(pseudo_anomalies.KINDS))),
    **{validation_by(kind): _validated((kind,)) for kind in pseudo_anomalies.KINDS},
    "training loss": _by_loss,
    "1 epoch": _fixed(1),
    "3 epochs": _fixed(3),
    LAST: _fixed(10_000),
    ORACLE: _by_test,
}


def work(experiment: Experiment, sizes: Profile) -> Work:
    """One training a fold."""
    n_folds = sizes.tuned_folds or (1 if benchmarks.get(experiment.benchmark).splits[0] == "official" else N_FOLDS)
    number = protocol.at_hand(experiment, 0 if experiment.variant == MORE else sizes.tuned_images)
    images = number // (4 if experiment.variant == FEWER else 1)
    epochs = sizes.tuned_epochs * (3 if experiment.variant == LONGER else 1)
    # Gaussians are estimated after an epoch, and again when it is tested.
    looked = 2 * images + protocol.validated(number) + 2 * protocol.at_hand(experiment, sizes.tuned_test)
    return Work("tuned_image_size", images, epochs, n_folds, looked)


STUDY = Study("finetuning", request, VARIANTS, DEFAULT, work=work, memory=("tuned",))
run = STUDY.run
