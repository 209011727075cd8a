"""What a Gaussian of the normal knows: where its power lies, how many images it needs, whether its thresholds hold.

Explained in the chapter *The Gaussian of the normal*.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from anomaly_transfer import benchmarks
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.splits import SPLITS, Fold
from anomaly_transfer.detectors.base import threshold
from anomaly_transfer.detectors.gaussian import GaussianDetector, Moments, chi_square_threshold, mahalanobis
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features
from anomaly_transfer.metrics import bootstrap, ranking

#: Resamples behind intervals of these tables.
N_BOOTSTRAP = 100


@dataclass(frozen=True)
class Folds:
    """Pooled features of a category with the folds of a split.

    Attributes
    ----------
    features : Features
        Of all images, pooled.
    folds : list of Fold
        Test images are normal ones and those of the headline classes.
    positive : bool array
        Of all images: anomalous or not.
    """

    features: Features
    folds: list[Fold]
    positive: np.ndarray

    @classmethod
    def of(cls, category: Category, features: Features, split: str | None = None, seed: int = 0) -> Folds:
        """The folds of a category, by default of its recommended split; DataError if none has both labels."""
        known = benchmarks.get(category.benchmark)
        table = category.annotations.open()
        kinds = table["anomaly_class"].to_numpy()
        wanted = {NORMAL, *(known.target_classes or set(kinds))}
        positive = kinds != NORMAL
        found = SPLITS[split or known.splits[0]](table, seed)
        folds = [Fold(fold.train, fold.test[np.isin(kinds[fold.test], list(wanted))]) for fold in found]
        folds = [fold for fold in folds if 0 < positive[fold.test].sum() < len(fold.test)]
        if not folds:
            raise DataError(f"{category.benchmark}/{category.name}: no fold has both normal and anomalous test images.")
        return cls(features, folds, positive)

    def pairs(self, level: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Training features, test features and test labels of each fold, at one level."""
        for fold in self.folds:
            train, test = (self.features.take(rows)[level] for rows in (fold.train, fold.test))
            yield train, test, self.positive[fold.test]

    def auroc(self, scores: Sequence[np.ndarray], n_bootstrap: int = N_BOOTSTRAP) -> bootstrap.Interval:
        """AUROC of scores given fold by fold, compared within folds."""
        strata = np.repeat(np.arange(len(self.folds)), [len(fold.test) for fold in self.folds])
        positive = np.concatenate([self.positive[fold.test] for fold in self.folds])
        return ranking.evaluate(np.concatenate(scores), positive, strata, n_bootstrap)["auroc"]


def by_component(data: Folds, level: str, n_blocks: int = 10) -> pd.DataFrame:
    """How well equal blocks of principal components tell anomalies, from the largest variance to the smallest.

    The squared Mahalanobis distance is a sum over principal components. Each block's part of the sum is used as a
    score of its own.

    Parameters
    ----------
    data : Folds
    level : str
    n_blocks : int

    Returns
    -------
    DataFrame
        ``block`` (1 has the largest variance), ``variance`` (its share, mean over folds), ``value``, ``low``, ``high``
        (AUROC).
    """
    shares, scores = [], []
    for train, test, _ in data.pairs(level):
        moments = Moments().update(train)
        values, vectors = (part.flip(-1).numpy() for part in torch.linalg.eigh(moments.covariance()))
        white = (test - moments.mean.numpy()) @ vectors / np.sqrt(values)
        blocks = np.array_split(np.arange(len(values)), n_blocks)
        shares.append([values[block].sum() / values.sum() for block in blocks])
        scores.append([np.square(white[:, block]).sum(axis=1) for block in blocks])
    rows = [
        {"block": number + 1, "variance": share, **data.auroc([fold[number] for fold in scores]).model_dump()}
        for number, share in enumerate(np.mean(shares, axis=0))
    ]
    return pd.DataFrame(rows)


def by_size(
    data: Folds, level: str, sizes: Sequence[int], covariances: Sequence[str], draws: int = 5, seed: int = 0
) -> pd.DataFrame:
    """AUROC of one level, by number of normal images and estimate of the covariance.

    Parameters
    ----------
    data : Folds
    level : str
    sizes : sequence of int
        Training images, drawn at random in each fold; a size that some fold does not have is left out.
    covariances : sequence of str
        See ``detectors.gaussian.COVARIANCES``.
    draws : int
        All estimates get the same draws.
    seed : int

    Returns
    -------
    DataFrame
        ``n``, ``covariance``, ``value`` (median draw), ``low`` and ``high`` (lowest and highest draw).
    """
    rows = []
    for n in tqdm(sizes, desc="numbers of images", leave=False):
        if n > min(len(fold.train) for fold in data.folds):
            continue
        for covariance in covariances:
            found = []
            for draw in range(draws):
                rng = np.random.default_rng([seed, n, draw])
                chosen = [rng.permutation(fold.train)[:n] for fold in data.folds]
                fitted = [GaussianDetector((level,), covariance).fit(data.features.take(rows)) for rows in chosen]
                scored = zip(fitted, data.folds, strict=True)
                scores = [detector.anomaly_score(data.features.take(fold.test)) for detector, fold in scored]
                found.append(data.auroc(scores, n_bootstrap=2).value)
            rows.append(
                {"n": n, "covariance": covariance, "value": np.median(found), "low": min(found), "high": max(found)}
            )
    return pd.DataFrame(rows)


def calibration(data: Folds, levels: Sequence[str], promised: float = 0.05) -> pd.DataFrame:
    """False alarms at each level: promised by a threshold, and found on normal images.

    Two thresholds: that of the chi-square distribution, for which images would have to be Gaussian and the Gaussian be
    known; and the quantile of out-of-fold distances of the training images (``base.threshold``).

    Parameters
    ----------
    data : Folds
    levels : sequence of str
    promised : float

    Returns
    -------
    DataFrame indexed by level
        Dimensions, training images (mean over folds), ratio of the mean distance of new normal images to that of
        training images, and false alarms: chi-square on training images and on new ones, out-of-fold on new ones.
    """
    rows = {}
    for level in levels:
        inside, outside, alarms, n_train = [], [], [], []
        for fold in data.folds:
            train = data.features.select((level,)).take(fold.train)
            new = data.features.select((level,)).take(fold.test[~data.positive[fold.test]])
            mean, whitening = Moments().update(train[level]).gaussian(level)
            inside.append(mahalanobis(train[level], mean, whitening))
            outside.append(mahalanobis(new[level], mean, whitening))
            limit = threshold(GaussianDetector(), train, promised)
            alarms.append(outside[-1] > limit if limit is not None else np.full(len(new), np.nan))
            n_train.append(len(train))
        dimensions = data.features[level].shape[1]
        expected = chi_square_threshold(promised, dimensions)
        within, beyond = np.concatenate(inside), np.concatenate(outside)
        rows[level] = {
            "dimensions": dimensions,
            "images fitted on": round(float(np.mean(n_train))),
            "distance, new / fitted": beyond.mean() / within.mean(),
            "chi-square, fitted": np.mean(within > expected),
            "chi-square, new": np.mean(beyond > expected),
            "out-of-fold, new": np.mean(np.concatenate(alarms)),
        }
    return pd.DataFrame(rows).T.rename_axis("level")
