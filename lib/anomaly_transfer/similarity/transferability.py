"""How well frozen features will serve a labelled task: estimates, and the truth they estimate.

``hscore``, ``logme`` and ``leep`` need no training and no held-out images; ``probe_accuracy`` and ``knn_accuracy`` are
what they try to predict. Explained in the chapter *Does similarity predict transfer?*.
"""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_transfer.data.splits import N_FOLDS
from anomaly_transfer.errors import DataError


def hscore(features: np.ndarray, labels: np.ndarray) -> float:
    """H-score: how much of the features' variance the class means explain, in the features' own metric.

    ``tr(S^-1 B)`` with S the covariance of the features, Ledoit-Wolf shrunk, and B that of their class means. Source:
    Bao et al. (2019), equation 3; the shrinkage is that of Ibrahim et al. (2022), who also shrink B by the same share,
    and without which it grows with the dimension.

    Parameters
    ----------
    features : float array, shape (n, d)
    labels : array, shape (n,), of at least two classes

    Returns
    -------
    float, 0 (nothing) to number of classes - 1
    """
    x, y = _checked(features, labels)
    shrunk, shrinkage = ledoit_wolf(x)
    means = np.stack([x[y == label].mean(axis=0) for label in range(y.max() + 1)])[y]
    between = np.cov(means, rowvar=False, bias=True)
    return float((1 - shrinkage) * np.trace(np.linalg.solve(shrunk, np.atleast_2d(between))))


def logme(features: np.ndarray, labels: np.ndarray, n_iterations: int = 100, tolerance: float = 1e-6) -> float:
    """Log maximum evidence of a Bayesian linear regression from the features to each class indicator.

    For each class the prior precision alpha and the noise precision beta are set by the fixed-point equations of the
    evidence; the result is the log evidence per image, averaged over classes. Source: You et al. (2021), algorithm 1.

    Parameters
    ----------
    features : float array, shape (n, d)
    labels : array, shape (n,), of at least two classes
    n_iterations : int
    tolerance : float
        Stop when alpha / beta changes by less than this share.

    Returns
    -------
    float, larger is better; only differences between features for the same labels mean something
    """
    x, y = _checked(features, labels)
    n, d = x.shape
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    squares = s**2
    found = []
    for label in range(y.max() + 1):
        target = (y == label).astype(float)
        along = (u.T @ target) ** 2
        outside = max(float(target @ target - along.sum()), 0.0)
        alpha = beta = 1.0
        for _ in range(n_iterations):
            ratio = alpha / beta
            gamma = (squares / (squares + ratio)).sum()
            weight = (squares * along / (squares + ratio) ** 2).sum()
            error = (along * (ratio / (squares + ratio)) ** 2).sum() + outside
            alpha, beta = gamma / max(weight, 1e-12), (n - gamma) / max(error, 1e-12)
            if abs(alpha / beta - ratio) <= tolerance * ratio:
                break
        ratio = alpha / beta
        weight = (squares * along / (squares + ratio) ** 2).sum()
        error = (along * (ratio / (squares + ratio)) ** 2).sum() + outside
        log_determinant = np.log(alpha + beta * squares).sum() + (d - len(squares)) * np.log(alpha)
        evidence = d * np.log(alpha) + n * np.log(beta) - log_determinant - n * np.log(2 * np.pi)
        found.append((evidence - beta * error - alpha * weight) / (2 * n))
    return float(np.mean(found))


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """LEEP: mean log-likelihood of the labels, predicted from the source head's own classes.

    Source: Nguyen et al. (2020), equation 2.

    Parameters
    ----------
    probabilities : float array, shape (n, n_source_classes)
        The source head's class probabilities; each row sums to 1.
    labels : array, shape (n,), of at least two classes

    Returns
    -------
    float, at most 0; larger is better
    """
    _, y = _checked(probabilities, labels)
    if (probabilities < 0).any() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4):
        raise DataError("LEEP needs probabilities: rows of the source head that are positive and sum to one.")
    joint = np.stack([probabilities[y == label].sum(axis=0) for label in range(y.max() + 1)]) / len(y)
    conditional = joint / np.maximum(joint.sum(axis=0), 1e-300)
    return float(np.log((probabilities @ conditional.T)[np.arange(len(y)), y]).mean())


def probe_accuracy(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> float:
    """Cross-validated balanced accuracy of a linear probe (ridge classifier on standardised features).

    Parameters
    ----------
    features : float array, shape (n, d)
    labels : array, shape (n,), of at least two classes
    groups : array, shape (n,), optional
        Rows of one group stay in one fold.

    Returns
    -------
    float in 0..1
    """
    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=np.shape(features)[1], class_weight="balanced"))
    return _accuracy(probe, features, labels, groups)


def knn_accuracy(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, k: int = 5) -> float:
    """Cross-validated balanced accuracy of ``k`` nearest neighbours.

    Parameters
    ----------
    features : float array, shape (n, d)
    labels : array, shape (n,), of at least two classes
    groups : array, shape (n,), optional
        Rows of one group stay in one fold.
    k : int

    Returns
    -------
    float in 0..1
    """
    return _accuracy(make_pipeline(StandardScaler(), KNeighborsClassifier(k)), features, labels, groups)


def _accuracy(classifier, features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None) -> float:
    x, y = _checked(features, labels)
    groups = np.arange(len(y)) if groups is None else np.asarray(groups)
    told = cross_val_predict(classifier, x, y, groups=groups, cv=StratifiedGroupKFold(N_FOLDS))
    return float(np.mean([(told[y == label] == label).mean() for label in np.unique(y)]))


def _checked(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features in double precision, and labels as 0, 1, ..."""
    x = np.asarray(features, dtype=np.float64)
    names, y = np.unique(np.asarray(labels), return_inverse=True)
    if x.ndim != 2 or len(x) != len(y):
        raise DataError(f"Features have shape {x.shape}, labels {np.shape(labels)}: one label a row is needed.")
    if not np.isfinite(x).all():
        raise DataError("The features have values that are not finite.")
    if len(names) < 2:
        raise DataError("A transferability estimate needs labels of at least two classes.")
    return x, y
