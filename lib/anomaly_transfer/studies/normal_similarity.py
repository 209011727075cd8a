"""Is normal close to each kind of anomaly? The experiments of Part I.

For one category and one network: how far is each anomaly class of the target from the normal images of the source, and
how far is that on a scale from *as near as further normal images are* to *as far as natural photographs are*?
Explained in the chapter *The hypothesis*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from anomaly_transfer import benchmarks, profiles, similarity
from anomaly_transfer.benchmarks import reference
from anomaly_transfer.benchmarks.base import Category
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import Images
from anomaly_transfer.detectors.patch import patch_features
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.extraction import map_levels
from anomaly_transfer.features.features import Features
from anomaly_transfer.metrics.bootstrap import Interval
from anomaly_transfer.networks.backbones import Backbone
from anomaly_transfer.profiles import Profile
from anomaly_transfer.similarity import Measure
from anomaly_transfer.similarity.base import MINIMUM, Statistic
from anomaly_transfer.similarity.resampling import half, swapped
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, protocol
from anomaly_transfer.studies.base import Request, Study
from anomaly_transfer.studies.protocol import Domains
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import starts

#: The measure that decides, chosen before any anomaly was looked at: unbiased, bounded, blind to rotation and scale,
#: with one bandwidth for all comparisons. All others are shown beside it.
PRIMARY = "mmd"
DECISIVE = (similarity.get(PRIMARY),)
#: Said beforehand: a class is close to normal if the whole interval of its nearness lies above this.
NEAR = 0.5
#: Said beforehand: a margin (see :func:`separability`) below this is narrow.
NARROW = 1.0
ALPHA = 0.05


def request(asked: Experiment, store: Store) -> Request:
    """How each anomaly class of one category is related to its normal images, as one network sees them.

    A variant is where the network starts: one of ``starts.STARTS``.

    Returns
    -------
    Request
        One row a (region, level, anomaly class, measure), with the columns of :class:`Comparison`, and with
        ``separability`` and ``margin``, each with ``low of`` and ``high of`` it, in the rows of the primary measure
        on images.
    """
    sizes = profiles.get(asked.profile)
    domain = protocol.divide(benchmarks.get(asked.benchmark).load(asked.category, sizes.limit), asked.seed)
    others: list[Category] = []
    if isinstance(domain.category.content, Features):
        if asked.variant != "imagenet":
            raise ValueError(
                f"{asked.benchmark} gives the features of networks trained on ImageNet only, not of {asked.variant!r}."
            )
        others = _others(asked.benchmark, asked.category)

    def compute() -> pd.DataFrame:
        if isinstance(domain.category.content, Features):
            return _of_vectors(domain, others, sizes, asked.seed)
        normal = domain.category.images.take(domain.rows(domain.source, NORMAL))
        network, _ = starts.network(
            asked.variant, sizes, normal, domain.category.input_side(sizes.image_size), asked.seed, store
        )
        return _of_images(domain, asked.variant, network, sizes, asked.seed, store)

    settings = (*base.SIZES, "sample", "permutations", "halves")
    return base.request(STUDY, asked, settings, domain.category, sizes, compute, others)


@dataclass(frozen=True)
class Comparison:
    """One anomaly class on the scale between normal and photographs.

    Attributes
    ----------
    anomaly : float
        Source normal against the class: a value of the measure.
    ceiling : float
        Source normal against as many normal images of the target.
    rivals, scales : dict of str to float
        The class against each other source; and as many normal images of the target against it.
    excess, excess_error : float
        ``anomaly - ceiling`` (its negative for similarities: positive is always farther), and its standard error.
    p_value : float
        Of the null that class and normal images of the target may change places: share of permutations with at
        least the excess. NaN where none were made.
    nearness : dict of str to Interval
        For each rival, ``(rival - anomaly) / (scale - ceiling)``: 1 where the class lies between source and rival as
        normal images do, 0 where it is no nearer to the one than to the other (it may be far from both), -1 where it
        lies as the rival does. The interval is Fieller's (1954), and unbounded (NaN) where normal images are not
        clearly nearer to normal images than to the rival: then there is no scale.
    n : int
        Images of the class.
    """

    anomaly: float
    ceiling: float
    rivals: dict[str, float]
    scales: dict[str, float]
    excess: float
    excess_error: float
    p_value: float
    nearness: dict[str, Interval]
    n: int


def compare(
    measure: Measure,
    statistic: Statistic,
    normal: np.ndarray,
    further: np.ndarray,
    anomalous: np.ndarray,
    rivals: dict[str, np.ndarray],
    groups: np.ndarray,
    n_permutations: int,
    n_halves: int,
    rng: np.random.Generator,
) -> Comparison:
    """Put an anomaly class on the scale between normal and its rivals.

    Parameters
    ----------
    measure : Measure, unpaired
    statistic : Statistic
        ``measure.on(...)`` a pool with all rows.
    normal, further, anomalous : int arrays
        Rows of the source's normal images, of the target's, and of the class; the last two of equal length, so that
        what depends on the number of images is the same for both.
    rivals : dict of str to int array
    groups : array
        Group of every row of the pool.
    n_permutations, n_halves : int
        Standard errors are the spread over random halves of all samples (see ``similarity.relate``).
    rng : numpy Generator

    Returns
    -------
    Comparison
    """
    sign = 1.0 if measure.farther else -1.0

    def values(normal, further, anomalous, rivals):
        mine = [statistic(anomalous, rows) for rows in (normal, *rivals.values())]
        ceiling = [statistic(further, rows) for rows in (normal, *rivals.values())]
        return np.array([mine, ceiling])

    found = values(normal, further, anomalous, rivals)
    halves = []
    for _ in range(n_halves):
        one, two, three = (half(part, groups, rng) for part in (normal, further, anomalous))
        halves.append(values(one, two, three, {name: half(part, groups, rng) for name, part in rivals.items()}))
    resampled = np.array(halves)
    excess = sign * (found[0, 0] - found[1, 0])
    p_value = np.nan
    if n_permutations:
        pairs = (swapped(anomalous, further, groups, rng) for _ in range(n_permutations))
        null = [sign * (statistic(a, normal) - statistic(b, normal)) for a, b in pairs]
        p_value = (1 + np.sum(np.asarray(null) >= excess)) / (1 + n_permutations)
    nearness = {}
    for column, name in enumerate(rivals, start=1):
        # For the class (above) and for normal images (below): how much farther the rival is than the source.
        above, below = sign * (found[:, column] - found[:, 0])
        drawn = sign * (resampled[:, :, column] - resampled[:, :, 0])
        nearness[name] = fieller(above, below, np.cov(drawn, rowvar=False))
    return Comparison(
        anomaly=found[0, 0],
        ceiling=found[1, 0],
        rivals=dict(zip(rivals, found[0, 1:], strict=True)),
        scales=dict(zip(rivals, found[1, 1:], strict=True)),
        excess=excess,
        excess_error=float(np.std(resampled[:, 0, 0] - resampled[:, 1, 0], ddof=1)),
        p_value=float(p_value),
        nearness=nearness,
        n=len(anomalous),
    )


def fieller(above: float, below: float, covariance: np.ndarray) -> Interval:
    """A ratio of two normal estimates with its 95 % interval (Fieller, 1954).

    Parameters
    ----------
    above, below : float
    covariance : float array, shape (2, 2), of the two

    Returns
    -------
    Interval
        With NaN as bounds where ``below`` is not clearly positive: then it is no scale, and any ratio is possible.
    """
    z = 1.96**2
    (vaa, vab), (_, vbb) = covariance
    a, b, c = below**2 - z * vbb, above * below - z * vab, above**2 - z * vaa
    ratio = above / below if below else np.nan
    if below <= 0 or a <= 0 or b**2 < a * c:
        return Interval(value=ratio, low=np.nan, high=np.nan)
    root = np.sqrt(b**2 - a * c)
    return Interval(value=ratio, low=float((b - root) / a), high=float((b + root) / a))


def matched_by_group(
    domain: Domains, anomaly_class: str, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """As many images of a class as of normal ones, from the target, with the same shares of each group.

    Where most of the class is in groups that hold images of both kinds, as many of each are drawn from each such group.
    Else (few objects are seen both with and without the anomaly) both are drawn freely.

    Returns
    -------
    int array, int array
        Rows of the class and of normal images, equally many, at most ``most``.
    """
    anomalous, normal = domain.rows(domain.target, anomaly_class), domain.rows(domain.target, NORMAL)
    groups = domain.groups
    shared = np.intersect1d(groups[anomalous], groups[normal])
    # Without shared groups; where the target has none of the class, both are empty.
    if not len(shared) or np.isin(groups[anomalous], shared).mean() < 0.5:
        n = min(len(anomalous), len(normal), most)
        return rng.permutation(anomalous)[:n], rng.permutation(normal)[:n]
    pairs = []
    for group in shared:
        a, b = (rng.permutation(rows[groups[rows] == group]) for rows in (anomalous, normal))
        pairs += list(zip(a, b, strict=False))
    chosen = np.array(pairs)[rng.permutation(len(pairs))[:most]]
    return chosen[:, 0], chosen[:, 1]


def separability(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    groups: tuple[np.ndarray, np.ndarray],
    n_halves: int,
    rng: np.random.Generator,
) -> dict[str, Interval]:
    """How well, and by how much, a linear classifier tells a class from normal on groups that it has not seen.

    Parameters
    ----------
    train, test : (normal, anomalous), float arrays, shape (n, d)
    groups : (normal, anomalous), arrays, shape (n,)
        Of the test images.
    n_halves : int
        Standard errors are the spread over random halves of the test images (see ``similarity.relate``).
    rng : numpy Generator

    Returns
    -------
    dict of str to Interval
        ``separability``, the AUROC on ``test``; and ``margin``, the gap between the 95th percentile of its normal
        scores and the 5th percentile of its anomalous ones, in standard deviations of the scores within the classes:
        negative where the bulks overlap.
    """
    x, y = np.concatenate(train), np.repeat([0, 1], [len(train[0]), len(train[1])])
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=x.shape[1], class_weight="balanced")).fit(x, y)
    scores = [classifier.decision_function(part) for part in test]

    def found(normal: np.ndarray, anomalous: np.ndarray) -> tuple[float, float]:
        labels = np.repeat([0, 1], [len(normal), len(anomalous)])
        within = np.sqrt((np.var(normal) + np.var(anomalous)) / 2)
        gap = np.percentile(anomalous, 5) - np.percentile(normal, 95)
        return float(roc_auc_score(labels, np.concatenate([normal, anomalous]))), float(gap / max(within, 1e-12))

    values = found(*scores)
    halves = [
        found(*(part[half(np.arange(len(part)), of, rng)] for part, of in zip(scores, groups, strict=True)))
        for _ in range(n_halves)
    ]
    reach = 1.96 * np.std(halves, axis=0, ddof=1)
    return {
        name: Interval(value=value, low=value - error, high=value + error)
        for name, value, error in zip(("separability", "margin"), values, reach, strict=True)
    }


def _of_images(domain: Domains, start: str, network: Backbone, sizes: Profile, seed: int, store: Store) -> pd.DataFrame:
    category, side = domain.category, domain.category.input_side(sizes.image_size)
    beside = reference.comparison_sets(category.images, f"{category.benchmark}/{category.name}", sizes.sample, seed)
    groups = {"photographs": reference.photograph_of(sizes.sample)}
    levels = starts.levels(network)
    middle = levels[len(levels) // 2]
    arrays = [starts.features_of(network, part, side, store) for part in (category.images, *beside.values())]
    frames = []
    for level in levels:
        # The others take a hundred times as long: they stand beside it at the pre-trained network's middle only.
        measures = similarity.UNPAIRED if start == "imagenet" and level == middle else DECISIVE
        pool = [features[level] for features in arrays]
        frames.append(_level(domain, pool, list(beside), groups, measures, sizes, seed, "image", level))
    if category.annotations.has_masks:
        frames += _patches(domain, beside, groups, network, sizes, seed, store)
    return pd.concat(frames, ignore_index=True)


def _of_vectors(domain: Domains, others: Sequence[Category], sizes: Profile, seed: int) -> pd.DataFrame:
    """Where a benchmark gives features only, the rival is what the same network makes of the other objects."""
    content = domain.category.content
    assert isinstance(content, Features)
    if not others:
        where = f"{domain.category.benchmark}/{domain.category.name}"
        raise DataError(f"{where}: the rivals are other categories, but none is at hand.")
    (level,) = content.levels
    rng = np.random.default_rng(seed)
    rivals = []
    for other in others:
        normal = np.flatnonzero(other.annotations.open()["anomaly_class"] == NORMAL)
        # As many of each as can be, and none left out.
        chosen = rng.permutation(normal)[: -(-sizes.sample // len(others))]
        rivals.append(other.content.take(chosen)[level])  # type: ignore[call-overload]
    vectors = content[level]
    noise = rng.normal(vectors.mean(), vectors.std(), (sizes.sample, vectors.shape[1]))
    pool = [vectors, np.concatenate(rivals), noise]
    groups = {"materials": np.repeat(np.arange(len(rivals)), [len(part) for part in rivals])}
    return _level(domain, pool, ["materials", "noise"], groups, similarity.UNPAIRED, sizes, seed, "image", level)


def _others(benchmark: str, category: str) -> list[Category]:
    """The other categories of the same network, of a benchmark that gives features only."""
    known, network = benchmarks.get(benchmark), category.partition("-")[0]
    return [known.load(name) for name in known.available() if name.startswith(f"{network}-") and name != category]


def _level(
    domain: Domains,
    arrays: Sequence[np.ndarray],
    rivals: Sequence[str],
    rival_groups: Mapping[str, np.ndarray],
    measures: Sequence[Measure],
    sizes: Profile,
    seed: int,
    region: str,
    level: str,
) -> pd.DataFrame:
    """Rows of one level: ``arrays`` are the category's features, then those of each rival. All levels draw alike."""
    rng = np.random.default_rng(seed)
    normal = rng.permutation(domain.rows(domain.source, NORMAL))[: sizes.sample]
    chosen = {name: matched_by_group(domain, name, sizes.sample, rng) for name in domain.classes}
    chosen = {name: pair for name, pair in chosen.items() if len(pair[0]) >= 2 * MINIMUM}
    inside = np.unique(np.concatenate([normal, *(rows for pair in chosen.values() for rows in pair)]))
    place = {row: number for number, row in enumerate(inside)}
    pool = np.concatenate([arrays[0][inside], *arrays[1:]])
    starts = np.cumsum([len(inside), *(len(array) for array in arrays[1:])])
    others = {name: np.arange(a, b) for name, a, b in zip(rivals, starts, starts[1:], strict=False)}
    beside = [
        [f"{name} {group}" for group in rival_groups.get(name, np.arange(len(rows)))] for name, rows in others.items()
    ]
    # Numbers, since names are slow to compare; in the order of the names.
    _, groups = np.unique(np.concatenate([domain.groups[inside].astype(str), *beside]), return_inverse=True)
    rows_of = np.vectorize(place.__getitem__)
    rows = []
    for measure in tqdm(measures, desc="measures", leave=False):
        statistic = measure.on(pool, pool[rows_of(normal)], groups)
        n_permutations, n_halves = (
            (sizes.permutations, sizes.halves) if measure.name == PRIMARY else (0, sizes.halves // 2)
        )
        for name, (anomalous, further) in chosen.items():
            found = compare(
                measure, statistic, rows_of(normal), rows_of(further), rows_of(anomalous), others, groups,
                n_permutations, n_halves, rng,
            )  # fmt: skip
            row = {"region": region, "level": level, "anomaly_class": name, "measure": measure.name, "n": found.n}
            row |= {"anomaly": found.anomaly, "ceiling": found.ceiling, **found.rivals}
            row |= {"excess": found.excess, "excess_error": found.excess_error, "p_value": found.p_value}
            for rival in rivals:
                row[f"scale of {rival}"] = found.scales[rival]
                nearness = found.nearness[rival].model_dump().items()
                row |= {f"{what} against {rival}": value for what, value in nearness}
            if measure.name == PRIMARY and region == "image" and len(domain.rows(domain.source, name)) >= MINIMUM:
                sides = [
                    tuple(domain.rows(part, kind) for kind in (NORMAL, name)) for part in (domain.source, domain.target)
                ]
                train, test = (tuple(arrays[0][part] for part in side) for side in sides)
                objects = tuple(domain.groups[part] for part in sides[1])
                for what, interval in separability(train, test, objects, sizes.halves, rng).items():
                    row |= {what: interval.value, f"low of {what}": interval.low, f"high of {what}": interval.high}
            rows.append(row)
    return pd.DataFrame(rows)


def _patches(
    domain: Domains,
    beside: Mapping[str, Images],
    groups: Mapping[str, np.ndarray],
    network: Backbone,
    sizes: Profile,
    seed: int,
    store: Store,
) -> list[pd.DataFrame]:
    """The same for single patches: on the defect, and, in the same pictures, as far from it as can be."""
    category, side = domain.category, domain.category.input_side(sizes.image_size)
    (level,) = map_levels(network, strides=(16,))
    maps = starts.features_of(network, category.images, side, store, (level,))
    grid = maps.arrays[level].shape[-2:]
    masks = category.masks(np.arange(len(maps)), side)
    covered = {row: _coverage(mask, grid) for row, mask in enumerate(masks) if mask is not None and mask.any()}
    if not covered:
        return []
    defective = np.array(list(covered))
    blank = np.setdiff1d(np.arange(len(maps)), defective)
    # An anomalous picture without a mask says nothing of patches.
    known = np.array([mask is not None for mask in masks])
    part = replace(domain, source=domain.source[known[domain.source]], target=domain.target[known[domain.target]])
    rng = np.random.default_rng(seed)
    rivals = [
        _picked(starts.features_of(network, images, side, store, (level,)), None, rng) for images in beside.values()
    ]
    frames = []
    for region in ("defect", "background"):
        place = np.empty(len(maps), dtype=int)
        place[defective] = [
            cover.argmax() if region == "defect" else _farthest(cover, grid) for cover in covered.values()
        ]
        # Normal patches are taken at the same places: a position tells much, at the rim above all.
        place[blank] = rng.choice(place[defective], len(blank))
        arrays = [_picked(maps, place, rng), *rivals]
        frames.append(_level(part, arrays, list(beside), groups, DECISIVE, sizes, seed, region, level))
    return frames


def _coverage(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Pixels of each patch that a mask covers, shape (rows * columns,)."""
    rows, columns = (np.linspace(0, length, n + 1).astype(int)[:-1] for length, n in zip(mask.shape, grid, strict=True))
    sums = np.add.reduceat(np.add.reduceat(mask.astype(float), rows, axis=0), columns, axis=1)
    return sums.ravel()


def _farthest(cover: np.ndarray, grid: tuple[int, int]) -> int:
    """The patch farthest from any that is covered."""
    where = np.argwhere(np.ones(grid, dtype=bool))
    gaps = np.linalg.norm(where[:, None] - where[cover > 0][None], axis=-1).min(axis=1)
    return int(gaps.argmax())


def _picked(maps: Features, place: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """One patch of each image, shape (n, channels); at random where no place is given."""
    found: list[np.ndarray] = []
    for batch in maps.batches():
        patches = patch_features(batch)
        flat = patches.reshape(len(patches), -1, patches.shape[-1])
        start = sum(len(part) for part in found)
        chosen = rng.integers(flat.shape[1], size=len(flat)) if place is None else place[start : start + len(flat)]
        found.append(flat[np.arange(len(flat)), chosen])
    return np.concatenate(found)


def verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a case (benchmark, category, start, region, level, class): what the primary measure says of it.

    Parameters
    ----------
    frame : DataFrame
        Rows of :func:`run`, of any number of tables.

    Returns
    -------
    DataFrame
        With ``nearness``, ``low``, ``high``; ``near`` (P1.a: whole interval above :data:`NEAR`); ``nearer`` (P1.b:
        above 0, so nearer to normal than to the rival); and ``differs``: the class is farther than normal images, after
        Benjamini and Hochberg's correction, at 5 %, over all cases of one benchmark, network and region. Without a
        scale, nearness and its bounds are NaN. The interval of the separability, an AUROC, ends at 0 and 1.
    """
    rows = frame[frame["measure"] == PRIMARY].reset_index(drop=True)
    bounds = ["low of separability", "high of separability"]
    rows[bounds] = rows[bounds].clip(0, 1)
    scales = {rival: rows.filter(like=f" against {rival}") for rival in ("photographs", "materials")}
    # Where a benchmark gives features only, there are no photographs.
    found = [scale.set_axis(["nearness", "low", "high"], axis=1) for scale in scales.values() if len(scale.columns)]
    scale = found[0] if len(found) == 1 else found[0].where(rows["photographs"].notna(), found[1])
    scale["nearness"] = scale["nearness"].where(scale["low"].notna())
    p_adjusted = rows.groupby(["benchmark", "start", "region"])["p_value"].transform(false_discovery_control)
    rows = pd.concat([rows, scale], axis=1).assign(p_adjusted=p_adjusted)
    return rows.assign(near=rows["low"] > NEAR, nearer=rows["low"] > 0, differs=p_adjusted < ALPHA)


STUDY = Study("normal_similarity", request, starts.STARTS, "imagenet", axis="start", work=protocol.self_supervised)
run = STUDY.run
