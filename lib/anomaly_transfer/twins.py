"""The paired test of the hypothesis: two networks, one trained on normal images and one on an anomaly class.

Both are shown the same probe images. If the spaces of normal and of anomalous patterns were unrelated, what the two
networks make of the probes would be less alike than what two networks trained on normal images make of them. Explained
in the chapter *The hypothesis*.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from anomaly_transfer import backbones, benchmarks, domains, profiles, similarity, sources
from anomaly_transfer.backbones import Backbone
from anomaly_transfer.domains import Domains
from anomaly_transfer.errors import DataError
from anomaly_transfer.images import Images
from anomaly_transfer.labels import NORMAL
from anomaly_transfer.store import Store
from anomaly_transfer.tables import Table, kept

#: The measure that is tested against its null; all others are shown beside it.
PRIMARY = "cka"
#: Every network is trained on equally many images. A class with fewer is left out, so that it does not set the number.
FEWEST = 20
#: With fewer normal images for each of two networks, there is nothing to train on.
LEAST = 8
FURTHER, PHOTOGRAPHS, UNTRAINED = "other normal images", "photographs", "nothing (as it started)"


def run(benchmark: str, category: str, start: str, seed: int, profile: str, store: Store | None = None) -> Table:
    """Compare a network trained on normal images with networks trained on something else.

    Parameters
    ----------
    benchmark, category : str
        Of a benchmark with pictures.
    start : str
        ``"imagenet"`` or ``"random"``: where all networks start. Each random one has a seed of its own.
    seed : int
    profile : str
    store : Store, optional

    Returns
    -------
    Table
        One row a (level, trained on, measure): a :class:`~anomaly_transfer.similarity.Relation` between the network
        trained on some of the source's normal images and one trained on as many others, on each anomaly class, on
        photographs, or not at all. Probes are images of the target, normal and anomalous.

    Raises
    ------
    DataError
        If no class has enough images.
    """
    store, sizes = store or Store(), profiles.get(profile)
    found = domains.divide(benchmarks.get(benchmark).load(category, sizes.limit), seed)
    chosen = sizes.model_dump(include=set(_SETTINGS))

    def compute() -> pd.DataFrame:
        curricula = _curricula(found, f"{benchmark}/{category}", sizes.self_supervised_images // 2, seed)
        rng = np.random.default_rng(seed)
        probes = np.concatenate(
            [rng.permutation(found.rows(found.target, name))[: sizes.sample] for name in (NORMAL, *found.classes)]
        )
        images = found.category.images.take(probes)
        side = min(sizes.image_size, found.category.largest_input or sizes.image_size)

        def seen_by(number: int, images_of: Images | None):
            # Networks that share a random start would be alike for that reason alone.
            beginning = domains.network(start, sizes, images, seed=1000 * seed + number)
            network = beginning if images_of is None else domains.trained(beginning, sizes, images_of, seed, store)
            return network, domains.see(network, images, side, store)

        network, reference = seen_by(0, curricula.pop(NORMAL))
        rows = []
        for number, (name, images_of) in enumerate([*curricula.items(), (UNTRAINED, None)], start=1):
            rows += _related(network, reference, seen_by(number, images_of)[1], name, found.groups[probes], sizes)
        return pd.DataFrame(rows)

    return kept(
        study="twins",
        module="anomaly_transfer.twins",
        coordinates={"benchmark": benchmark, "category": category, "start": start, "seed": seed, "profile": profile},
        settings=chosen,
        data=domains.data_hash(found.category),
        weights=backbones.weights_hash(sizes.backbone),
        compute=compute,
        note=found.category.note,
        store=store,
    )


_SETTINGS = (
    "backbone",
    "image_size",
    "images_per_category",
    "sample",
    "permutations",
    "halves",
    "self_supervised_images",
    "self_supervised_epochs",
)


def _curricula(domain: Domains, where: str, most: int, seed: int) -> dict[str, Images]:
    """What each network is trained on: equally many images of each kind, all of the source."""
    rng = np.random.default_rng(seed)
    normal = rng.permutation(domain.rows(domain.source, NORMAL))
    classes = {name: rng.permutation(domain.rows(domain.source, name)) for name in domain.classes}
    enough = {name: rows for name, rows in classes.items() if len(rows) >= FEWEST}
    n = min([most, len(normal) // 2, *map(len, enough.values())])
    if not enough or n < LEAST:
        raise DataError(
            f"{where}: training networks on single classes needs a class of {FEWEST} images and {2 * LEAST} normal "
            "ones in the source: use more images or another category."
        )
    images = domain.category.images
    beside = sources.beside(images, where, n, seed)[PHOTOGRAPHS]
    return {
        NORMAL: images.take(normal[:n]),
        FURTHER: images.take(normal[n : 2 * n]),
        **{name: images.take(rows[:n]) for name, rows in enough.items()},
        PHOTOGRAPHS: beside,
    }


def _related(network: Backbone, one, other, name: str, groups: np.ndarray, sizes) -> list[dict]:
    rows = []
    everywhere = np.arange(len(one))
    for level in domains.levels(network):
        for measure in similarity.PAIRED:
            statistic = measure.on(one[level], other[level], groups)
            sampled = (sizes.permutations, sizes.halves) if measure.name == PRIMARY else (0, sizes.halves // 2)
            found = similarity.relate(measure, statistic, everywhere, everywhere, groups, *sampled)
            rows.append({"level": level, "trained_on": name, "measure": measure.name, **found.model_dump()})
    return rows
