"""What a few labels buy, from four starts (P1.c). Explained in the chapter *Normal data as a source domain*.

A linear classifier is fitted on the frozen features of k labelled images a class, drawn from the source, and tested on
the target, which shares no group with it. The same draws are used for every start, so that starts can be compared
draw by draw.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from anomaly_transfer import benchmarks, profiles
from anomaly_transfer.benchmarks.surfaces import CONTROL
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.splits import are_few
from anomaly_transfer.features.features import standardised
from anomaly_transfer.similarity import transferability
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, protocol
from anomaly_transfer.studies.base import Request, Study
from anomaly_transfer.studies.protocol import Domains
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import starts

SHOTS = (1, 2, 5, 10, 20)
#: Shots at which single levels are compared.
LEVEL_SHOTS = 5
#: Name of all levels together.
ALL = "all"
#: The task of rows with the loss of self-supervision, one an epoch; ``simclr.GUESSING`` is that of no skill.
LOSS = "self-supervised loss"


def request(asked: Experiment, store: Store) -> Request:
    """Few-shot detection and recognition on one category from one start.

    A variant is where the network starts: one of ``starts.STARTS``.

    Returns
    -------
    Request
        One row a (task, anomaly class, level, k, draw), with the column ``value``. Tasks: ``detection`` (AUROC of the
        class against normal), ``recognition`` (balanced accuracy over normal and all classes that have enough images),
        and, for each level, with k = 0 and all labels of the target, ``hscore``, ``logme``, ``leep``, ``probe`` and
        ``knn`` (see ``similarity.transferability``), and :data:`LOSS`, where ``draw`` is the epoch.
    """
    sizes = profiles.get(asked.profile)
    domain = protocol.divide(benchmarks.get(asked.benchmark).load(asked.category, sizes.limit), asked.seed)

    def compute() -> pd.DataFrame:
        normal = domain.category.images.take(domain.rows(domain.source, NORMAL))
        side = domain.category.input_side(sizes.image_size)
        network, history = starts.network(asked.variant, sizes, normal, side, asked.seed, store)
        features = starts.features_of(network, domain.category.images, side, store)
        inside = domain.rows(domain.source, NORMAL)
        arrays = {level: standardised(features[level], features[level][inside]) for level in starts.levels(network)}
        # Each level counts the same, however many channels it has.
        arrays = {level: x / np.sqrt(x.shape[1]) for level, x in arrays.items()}
        rows = few_shot(domain, {ALL: np.hstack(list(arrays.values()))}, SHOTS, sizes.draws, asked.seed)
        rows += few_shot(domain, arrays, (LEVEL_SHOTS,), sizes.draws, asked.seed)
        head = starts.class_probabilities(network, features) if asked.variant == "imagenet" else None
        rows += estimates(domain, arrays, head)
        rows += [_row(LOSS, "", ALL, 0, epoch, value) for epoch, value in enumerate(history)]
        return pd.DataFrame(rows)

    return base.request(STUDY, asked, (*base.SIZES, "draws"), domain.category, sizes, compute)


def few_shot(
    domain: Domains, arrays: dict[str, np.ndarray], shots: tuple[int, ...], draws: int, seed: int
) -> list[dict[str, str | int | float]]:
    """Detection of each class and recognition of all, for some levels.

    Parameters
    ----------
    domain : Domains
    arrays : dict of level to float array, shape (n_rows, d)
    shots : tuple of int
        Labelled images a class, normal included. A class that has fewer in the source is left out.
    draws : int
    seed : int
        The draws depend on it, on k and on the class alone.

    Returns
    -------
    list of rows
    """
    rows: list[dict[str, str | int | float]] = []
    classes = _usable(domain)
    normal = domain.rows(domain.target, NORMAL)
    for k in shots:
        usable = [name for name in classes if len(domain.rows(domain.source, name)) >= k]
        for draw in tqdm(range(draws), desc=f"draws of {k}", leave=False):
            rng = np.random.default_rng([seed, k, draw])
            chosen = {name: rng.permutation(domain.rows(domain.source, name))[:k] for name in (NORMAL, *usable)}
            for level, x in arrays.items():
                for name in usable:
                    anomalous = domain.rows(domain.target, name)
                    scores = _fitted(x, {0: chosen[NORMAL], 1: chosen[name]}).decision_function(
                        x[np.concatenate([normal, anomalous])]
                    )
                    value = roc_auc_score(np.repeat([0, 1], [len(normal), len(anomalous)]), scores)
                    rows.append(_row("detection", name, level, k, draw, value))
                # A control looks like normal by construction: it is no class to be recognised.
                kinds = [NORMAL, *(name for name in usable if name != CONTROL)]
                if len(kinds) > 2:
                    classifier = _fitted(x, {name: chosen[name] for name in kinds})
                    right = [np.mean(classifier.predict(x[domain.rows(domain.target, name)]) == name) for name in kinds]
                    rows.append(_row("recognition", f"{len(kinds)} classes", level, k, draw, np.mean(right)))
    return rows


def estimates(
    domain: Domains, arrays: dict[str, np.ndarray], head: np.ndarray | None
) -> list[dict[str, str | int | float]]:
    """Transferability of each level to the target's labels, by estimate and in truth.

    Parameters
    ----------
    domain : Domains
    arrays : dict of level to float array, shape (n_rows, d)
    head : float array, shape (n_rows, n_source_classes), optional
        Class probabilities of the network's own classifier, for LEEP at the last level.

    Returns
    -------
    list of rows
        Empty if no class has enough images.
    """
    kinds = domain.table["anomaly_class"].to_numpy()[domain.target]
    groups = domain.groups[domain.target]
    # Groups that are few are of both labels; then the folds may cut them.
    groups = None if are_few(groups) else groups
    known = [name for name in _usable(domain) if name != CONTROL]
    if not known:
        return []
    kept_rows = np.isin(kinds, [NORMAL, *known])
    labels, inside = kinds[kept_rows], domain.target[kept_rows]
    groups = None if groups is None else groups[kept_rows]
    rows = []
    for level, x in arrays.items():
        found = {
            "hscore": transferability.hscore(x[inside], labels),
            "logme": transferability.logme(x[inside], labels),
            "probe": transferability.probe_accuracy(x[inside], labels, groups),
            "knn": transferability.knn_accuracy(x[inside], labels, groups),
        }
        if head is not None and level == list(arrays)[-1]:
            found["leep"] = transferability.leep(head[inside], labels)
        rows += [_row(task, "", level, 0, 0, value) for task, value in found.items()]
    return rows


def _usable(domain: Domains) -> list[str]:
    """The classes of which the target has enough."""
    return [name for name in domain.classes if len(domain.rows(domain.target, name)) >= protocol.LEAST]


def _row(task: str, anomaly_class: str, level: str, k: int, draw: int, value: float) -> dict[str, str | int | float]:
    return {"task": task, "anomaly_class": anomaly_class, "level": level, "k": k, "draw": draw, "value": float(value)}


def _fitted(x: np.ndarray, chosen: dict) -> RidgeClassifier:
    rows = np.concatenate(list(chosen.values()))
    labels = np.repeat(list(chosen), [len(part) for part in chosen.values()])
    return RidgeClassifier(alpha=1.0).fit(x[rows], labels)


STUDY = Study("few_shot", request, starts.STARTS, "imagenet", axis="start", work=protocol.self_supervised)
run = STUDY.run
