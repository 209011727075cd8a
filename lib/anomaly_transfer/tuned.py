"""What fine-tuning on normal images does to detection: the experiments of Part II.

In each fold a network is fine-tuned on normal images (``finetune.tune``, which cannot read a label). Only then are the
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
from sklearn.model_selection import GroupShuffleSplit, KFold, ShuffleSplit
from tqdm import tqdm

from anomaly_transfer import benchmarks, domains, finetune, profiles, similarity, stopping, training, vicinal
from anomaly_transfer.backbones import Backbone
from anomaly_transfer.benchmarks.base import Category, evenly_spaced
from anomaly_transfer.errors import DataError
from anomaly_transfer.evaluation import evaluate, paired_difference
from anomaly_transfer.experiments import pretrained
from anomaly_transfer.finetune import Recipe
from anomaly_transfer.images import Images
from anomaly_transfer.labels import NORMAL
from anomaly_transfer.profiles import Profile
from anomaly_transfer.splits import N_FOLDS, SPLITS, Fold
from anomaly_transfer.store import Store
from anomaly_transfer.tables import Request, Study
from anomaly_transfer.training import Tuning

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
    "rate-3e-6": {"rate": 3e-6},
    "rate-1e-4": {"rate": 1e-4},
    "rate-3e-4": {"rate": 3e-4},
    "batch-norms-trained": {"batch_norm": "trained"},
    "late-levels": {"levels": ("stage5", "stage6", "stage7", "head"), "trained_from": "stage5"},
    "last-level": {"levels": ("head",)},
}
#: These vary the number of normal images or of epochs, which are the profile's.
FEWER, MORE, LONGER = "quarter-of-images", "all-images", "three-times-as-long"
VARIANTS = (*RECIPES, FEWER, MORE, LONGER)

#: Held-out normal images: this share of those at hand, but within these bounds.
HELD_OUT_SHARE, HELD_OUT_BOUNDS = 0.2, (8, 64)

#: Normal and anomalous test images below which a fold tells too little to stand alone.
FEWEST = 20

#: What is told of a fold and epoch besides the history of the run: the test AUROC, and how alike features and
#: distances of the test images are to those of the frozen network.
TEST = "test AUROC"
#: What is followed epoch by epoch, and how figures call it.
CURVES = {
    training.LOSS: "objective (training)",
    training.HELD_OUT: "distance, held-out normal",
    "validation": "validation (AUROC)",
    TEST: "test (AUROC), revealed",
}
#: Measures of Part I; CKA also of whitened features, in which the Mahalanobis distance is the Euclidean one.
MEASURES = ("cka", "svcca", "rsa")
WHITENED, RANKS = "cka, whitened", "rank correlation of distances"
#: Rules, in the order in which they are shown. The oracle looks at the test labels: it is no method.
FROZEN, FROZEN_LEVEL, ORACLE = "frozen, sum", "frozen, level by validation", "oracle"
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


def request(benchmark: str, category: str, variant: str, seed: int, profile: str, store: Store) -> Request:
    """Fine-tune on one category by one variant of the protocol, fold by fold, and tell what came of it.

    Parameters
    ----------
    benchmark, category : str
        Of a benchmark with pictures.
    variant : str
        One of :data:`VARIANTS`.
    seed : int
        Of the split, of the held-out images, of the order of training and of the stand-ins.
    profile : str
    store : Store
        A run that was broken off goes on from the last epoch it holds.

    Returns
    -------
    Request
        Rows of the kind ``curve``: a value of one fold and epoch (``measure`` is one of the run's history, or
        :data:`TEST`, :data:`WHITENED`, :data:`RANKS` or one of :data:`MEASURES`, by level). Rows of the kind ``rule``:
        the AUROC over all folds of what a rule chose (``measure``), with its interval, and its paired gain on
        :data:`FROZEN`, with its interval.
    """
    sizes = profiles.get(profile)
    whole = benchmarks.get(benchmark).load(category, sizes.limit)

    def compute() -> pd.DataFrame:
        parts = folds(whole, seed, sizes.tuned_folds, sizes.tuned_test)
        done = [tested(whole, fold, variant, seed, sizes, store) for fold in parts]
        rows = [row for number, part in enumerate(done) for row in _curves(part, number)]
        return pd.DataFrame([*rows, *_rules(done, whole, sizes)])

    return domains.request(STUDY, SIZES, whole, variant, seed, sizes, compute)


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


def folds(category: Category, seed: int, n_folds: int, n_test: int) -> list[Fold]:
    """The folds in which a network is trained: ``n_folds`` of them, with at most ``n_test`` test images; 0 means all.

    Normal and anomalous ones count apart, and every class of anomaly has the same share.

    Folds of the benchmark's recommended split that have both normal images and anomalies of the headline classes, those
    with most of both first. Where fewer of them are wanted, each seed takes those that follow on the ones of the
    seed before, so that over the seeds all are tested that have :data:`FEWEST` of either.
    """
    table = category.annotations.open()
    known = benchmarks.get(category.benchmark)
    kinds = table["anomaly_class"].to_numpy()
    wanted = set(known.target_classes) or set(kinds) - {NORMAL}
    found = []
    for fold in SPLITS[known.splits[0]](table, seed):
        of_class = [fold.test[kinds[fold.test] == name] for name in (NORMAL, *sorted(wanted))]
        normal, *anomalous = (rows for rows in of_class if len(rows) or rows is of_class[0])
        if len(normal) and anomalous:
            share = -(-n_test // len(anomalous))
            fewer = [evenly_spaced(normal, n_test or len(normal))]
            fewer += [evenly_spaced(rows, share or len(rows)) for rows in anomalous]
            found.append(Fold(fold.train, np.sort(np.concatenate(fewer))))
    if not found:
        raise DataError(f"{category.benchmark}/{category.name}: no fold has both normal and anomalous test images.")

    def both(fold: Fold) -> int:
        is_normal = kinds[fold.test] == NORMAL
        return min(is_normal.sum(), (~is_normal).sum())

    found.sort(key=both, reverse=True)
    if not n_folds:
        return found
    telling = [fold for fold in found if both(fold) >= FEWEST] or found[:1]
    n = min(n_folds, len(telling))
    return [telling[number % len(telling)] for number in range(seed * n, (seed + 1) * n)]


def parted(category: Category, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal rows to train on, and others to validate with.

    Where there is one official split, five seeds are five folds over its training images, and each validates with the
    images that it leaves out. Else validation images are of other groups, where groups are more than a handful.
    """
    low, high = HELD_OUT_BOUNDS
    n = int(np.clip(round(HELD_OUT_SHARE * len(rows)), low, high))
    if len(rows) < n + 2:
        raise DataError(
            f"{category.benchmark}/{category.name}: {len(rows)} normal images are too few to fine-tune on some and "
            f"validate with {n}."
        )
    table = category.annotations.open()
    if "part" in table:
        fifths = KFold(N_FOLDS, shuffle=True, random_state=seed // N_FOLDS).split(rows)
        train, held = list(fifths)[seed % N_FOLDS]
        return rows[train], rows[held[:high]]
    groups = table["group"].to_numpy()[rows]
    if len(np.unique(groups)) > N_FOLDS:
        share = max(n / len(rows), 1 / len(np.unique(groups)))
        train, held = next(GroupShuffleSplit(1, test_size=share, random_state=seed).split(rows, groups=groups))
        # Groups differ in size, so there may be more than were asked for.
        return rows[train], rows[held[:n]]
    train, held = next(ShuffleSplit(1, test_size=n, random_state=seed).split(rows))
    return rows[np.sort(train)], rows[np.sort(held)]


def trained(
    category: Category, fold: Fold, variant: str, seed: int, sizes: Profile, store: Store
) -> tuple[Tuning, Images]:
    """Fine-tune in one fold; gives the finished run, and the normal images that it was tuned on."""
    at_most = 0 if variant == MORE else sizes.tuned_images
    rows = evenly_spaced(fold.train, at_most or len(fold.train))
    train, held = parted(category, rows, seed)
    if variant == FEWER:
        train = evenly_spaced(train, max(2, len(train) // 4))
    epochs = sizes.tuned_epochs * (3 if variant == LONGER else 1)
    recipe = Recipe(**{"epochs": epochs, **RECIPES.get(variant, {})})
    images, held_out = category.images.take(train), category.images.take(held)
    return tune(
        images, held_out, pretrained(sizes.backbone), category.input_side(sizes.tuned_image_size), recipe, seed, store
    ), images


def tested(category: Category, fold: Fold, variant: str, seed: int, sizes: Profile, store: Store) -> _Fold:
    """Fine-tune in one fold, then score its test images with the network of every epoch."""
    tuning, images = trained(category, fold, variant, seed, sizes, store)
    test, image_size = category.images.take(fold.test), category.input_side(sizes.tuned_image_size)
    # From here on, labels may be known: nothing is trained or chosen by them any more, but the oracle.
    kinds = category.annotations.open()["anomaly_class"].to_numpy()[fold.test]
    frozen = finetune.gaussians(tuning.start, images, image_size)
    is_fixed = RECIPES.get(variant, {}).get("statistics") == "fixed"
    distances, likeness = [], []
    first: tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray] | None = None
    for epoch in tqdm(range(tuning.epochs + 1), desc="tested epochs", leave=False):
        network = tuning.network(epoch)
        found = frozen if is_fixed else finetune.gaussians(network, images, image_size)
        seen = finetune.pooled(network, test, image_size)
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
    images: Images, held_out: Images, start: Backbone, image_size: int, recipe: Recipe, seed: int, store: Store
) -> Tuning:
    """``finetune.tune`` in the store: a finished run is read, one that was broken off goes on."""
    parts = (images, held_out)
    with training.stored(store, "anomaly_transfer.finetune:tune", parts, start, image_size, recipe, seed) as folder:
        return finetune.tune(images, held_out, start, image_size, recipe, folder, seed)


def _curves(part: _Fold, number: int) -> list[dict]:
    """Everything of one fold along its epochs."""
    rows = [{"kind": "curve", "fold": number, **row} for row in part.tuning.history]
    levels = part.tuning.start.levels
    for epoch, (distances, likeness) in enumerate(zip(part.distances, part.likeness, strict=True)):
        columns = {training.SUM: distances.sum(axis=1), **dict(zip(levels, distances.T, strict=True))}
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


def clusters_of(category: Category, rows: np.ndarray) -> np.ndarray | None:
    """Groups that are resampled as wholes: not where they are few, and each is a fold of its own."""
    groups = category.annotations.open()["group"].to_numpy()[rows]
    return groups if len(np.unique(groups)) > N_FOLDS else None


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
    return lambda part: (stopping.best(part.tuning.validation(kinds), PATIENCE), _all(part))


def _by_loss(part: _Fold) -> tuple[int, list[int]]:
    return stopping.best([-loss for loss in part.tuning.losses()]), _all(part)


def _by_test(part: _Fold) -> tuple[int, list[int]]:
    return stopping.best([roc_auc_score(part.positive, d.sum(axis=1)) for d in part.distances]), _all(part)


def _best_level(part: _Fold, epoch: int) -> int:
    """The level that tells held-out normal images from their stand-ins best, at an epoch."""
    values = [part.tuning.validation(level=level)[epoch] for level in part.tuning.start.levels]
    return int(np.argmax(values))


def _level(of: Rule) -> Rule:
    return lambda part: (of(part)[0], [_best_level(part, of(part)[0])])


RULES: dict[str, Rule] = {
    FROZEN: _fixed(0),
    FROZEN_LEVEL: _level(_fixed(0)),
    "validation": _validated(tuple(vicinal.KINDS)),
    "validation, level by validation": _level(_validated(tuple(vicinal.KINDS))),
    **{f"validation by {kind}": _validated((kind,)) for kind in vicinal.KINDS},
    "training loss": _by_loss,
    "1 epoch": _fixed(1),
    "3 epochs": _fixed(3),
    "last epoch": _fixed(10_000),
    ORACLE: _by_test,
}

STUDY = Study("tuned", request, VARIANTS, DEFAULT)
run = STUDY.run
