"""Where is the defect, before and after fine-tuning? Patch detectors on the feature maps of tuned networks.

Explained in the chapter *Where is the defect?*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from anomaly_transfer import benchmarks, detectors, profiles
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.data.splits import Fold
from anomaly_transfer.detectors.base import Localiser, pixel_scores
from anomaly_transfer.errors import DataError
from anomaly_transfer.features import cached
from anomaly_transfer.features.extraction import map_levels
from anomaly_transfer.features.features import Features
from anomaly_transfer.metrics.bootstrap import Interval
from anomaly_transfer.metrics.localisation import localisation, paired_localisation
from anomaly_transfer.metrics.ranking import evaluate, paired_difference
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, finetuning, protocol
from anomaly_transfer.studies.base import Request, Study
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import early_stopping
from anomaly_transfer.training.early_stopping import FROZEN, LAST, VALIDATION

#: A Gaussian at every position, and one for all positions.
DETECTORS = ("patch-gaussian", "patch-shared")
STOPPED = f"stopped by {VALIDATION}"
STATES = (FROZEN, STOPPED, LAST)


@dataclass(frozen=True)
class Heat:
    """Anomaly maps of one fold.

    Attributes
    ----------
    rows : int array, shape (n,)
        Test images, as rows of the category: normal ones and those with a mask.
    masks : list of bool arrays, shape (side, side)
    epochs : dict
        State of the network (one of :data:`STATES`) to the epoch it is of.
    maps : dict
        (Detector, state) to the scores of all pixels, float32, shape (n, side, side).
    scores : dict
        (Detector, state) to the scores of whole images, shape (n,).
    """

    rows: np.ndarray
    masks: list[np.ndarray]
    epochs: dict[str, int]
    maps: dict[tuple[str, str], np.ndarray]
    scores: dict[tuple[str, str], np.ndarray]

    @property
    def positive(self) -> np.ndarray:
        """Which images have a defect, shape (n,)."""
        return np.array([mask.any() for mask in self.masks])

    def by_image(self, detector: str) -> pd.DataFrame:
        """Pixel AUROC of each defective image alone: one row an image, one column a state; indexed by position."""
        places = np.flatnonzero(self.positive)
        return pd.DataFrame(
            {
                state: [roc_auc_score(self.masks[i].ravel(), self.maps[detector, state][i].ravel()) for i in places]
                for state in STATES
            },
            index=places,
        )

    def inner(self, margin: float = 1 / 8) -> Heat:
        """The same without the pixels at the border: ``margin`` is a share of the side, left out at each end."""
        side = self.masks[0].shape[0]
        keep = slice(round(margin * side), side - round(margin * side))
        maps = {key: found[:, keep, keep] for key, found in self.maps.items()}
        return replace(self, masks=[mask[keep, keep] for mask in self.masks], maps=maps)

    def border(self, detector: str, state: str = FROZEN, margin: float = 1 / 8) -> float:
        """Mean score of normal images at the border divided by that inside it; 1 if the border is like the rest."""
        normal = self.maps[detector, state][~self.positive]
        inside = self.inner(margin).maps[detector, state][~self.positive]
        return float((normal.sum() - inside.sum()) / (normal.size - inside.size) / inside.mean())


def request(asked: Experiment, store: Store) -> Request:
    """Localise with the frozen network, with that at the stop, and with that of the last epoch.

    Needs masks. A variant is how the network is tuned, one of ``finetuning.VARIANTS``; the seed is as there, so that
    finished trainings in the store are used.

    Returns
    -------
    Request
        One row a (detector, state, metric): the metric over all folds with its interval, its paired gain on
        :data:`FROZEN` with its interval, and the mean epoch. Metrics: ``pixel_auroc``, ``pro``, and ``auroc`` of whole
        images by their worst patch.

    Raises
    ------
    DataError
        If no defect has a mask.
    """
    sizes = profiles.get(asked.profile)
    whole = benchmarks.get(asked.benchmark).load(asked.category, sizes.limit)
    if not whole.annotations.has_masks:
        raise DataError(f"{asked.benchmark}/{asked.category} has no masks: there is nothing to compare a map with.")

    def compute() -> pd.DataFrame:
        return _rows(whole, asked.variant, asked.seed, sizes, store)

    return base.request(STUDY, asked, finetuning.SIZES, whole, sizes, compute)


def heat(category: Category, fold: Fold, variant: str, seed: int, sizes: Profile, store: Store) -> Heat:
    """Fine-tune in one fold, fit the detectors on the maps of the tuning images, and score the test images."""
    tuning, images = finetuning.train(category, fold, variant, seed, sizes, store)
    side = category.input_side(sizes.tuned_image_size)
    stop = early_stopping.best(tuning.validation(), finetuning.PATIENCE)
    epochs = dict(zip(STATES, (0, stop, tuning.epochs), strict=True))
    levels = map_levels(tuning.start)
    maps, scores = {}, {}
    masks = category.masks(fold.test, side)
    known = np.flatnonzero([mask is not None for mask in masks])
    test = category.images.take(fold.test[known])
    for state, epoch in epochs.items():
        network = tuning.network(epoch)
        train, new = (cached.features(store, part, network, side, levels) for part in (images, test))
        for name in DETECTORS:
            scores[name, state], maps[name, state] = _scored(name, train, new, side)
    return Heat(fold.test[known], [mask for mask in masks if mask is not None], epochs, maps, scores)


def over_epochs(
    category: Category,
    fold: Fold,
    variant: str,
    seed: int,
    sizes: Profile,
    rows: np.ndarray,
    detector: str = "patch-shared",
    store: Store | None = None,
) -> np.ndarray:
    """Heat maps of some images by the network of every epoch of a fine-tuning, epoch 0 first.

    Parameters
    ----------
    category, fold, variant, seed, sizes, store
        As in ``finetuning.run``, whose finished training is used.
    rows : int array, shape (n,)
        The images, as rows of the category.
    detector : str
        One of :data:`DETECTORS`, fitted anew in each epoch on the images that the network was tuned on.

    Returns
    -------
    float32 array, shape (n_epochs + 1, n, side, side)
    """
    store = store or Store()
    tuning, images = finetuning.train(category, fold, variant, seed, sizes, store)
    side, levels = category.input_side(sizes.tuned_image_size), map_levels(tuning.start)
    found = []
    for epoch in tqdm(range(tuning.epochs + 1), desc="epochs", leave=False):
        network = tuning.network(epoch)
        train, new = (
            cached.features(store, part, network, side, levels) for part in (images, category.images.take(rows))
        )
        found.append(_scored(detector, train, new, side)[1])
    return np.stack(found)


def _scored(name: str, train: Features, new: Features, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of images and of their pixels by a detector that is fitted on others."""
    detector = detectors.make(name)
    assert isinstance(detector, Localiser)
    scores, maps = detector.fit(train).scored(new)
    return scores, np.stack([pixel_scores(one, side).astype(np.float32) for one in maps])


def _rows(category: Category, variant: str, seed: int, sizes: Profile, store: Store) -> pd.DataFrame:
    parts = protocol.folds(category, seed, sizes.tuned_folds, sizes.tuned_test)
    done = [heat(category, fold, variant, seed, sizes, store) for fold in parts]
    masks = [mask for part in done for mask in part.masks]
    positive = np.concatenate([part.positive for part in done])
    strata = np.repeat(np.arange(len(done)), [len(part.rows) for part in done])
    clusters = protocol.clusters_of(category, np.concatenate([part.rows for part in done]))
    how: dict[str, Any] = {"strata": strata, "n_bootstrap": sizes.bootstrap, "clusters": clusters}
    rows = []
    for name in DETECTORS:
        maps = {state: [one for part in done for one in part.maps[name, state]] for state in STATES}
        scores = {state: np.concatenate([part.scores[name, state] for part in done]) for state in STATES}
        for state in STATES:
            reached = evaluate(scores[state], positive, **how) | localisation(maps[state], masks, **how)
            gained = paired_difference(scores[state], scores[FROZEN], positive, **how)
            gained |= paired_localisation(maps[state], maps[FROZEN], masks, **how)
            rows += [
                {
                    "detector": name,
                    "state": state,
                    "metric": metric,
                    **reached[metric].model_dump(),
                    **_named(gained[metric]),
                    "epoch": float(np.mean([part.epochs[state] for part in done])),
                }
                for metric in ("pixel_auroc", "pro", "auroc")
            ]
    return pd.DataFrame(rows)


def _named(gain: Interval) -> dict[str, float]:
    return {"gain": gain.value, "gain low": gain.low, "gain high": gain.high}


STUDY = Study(
    "localisation",
    request,
    finetuning.VARIANTS,
    finetuning.DEFAULT,
    lambda variant: DETECTORS,
    work=finetuning.work,
    memory=("tuned", "localised"),
)
run = STUDY.run
