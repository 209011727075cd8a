"""The paired test of the hypothesis: two networks, one trained on normal images and one on an anomaly class.

Both are shown the same probe images. If the spaces of normal and of anomalous patterns were unrelated, what the two
networks make of the probes would be less alike than what two networks trained on normal images make of them. Explained
in the chapter *The hypothesis*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from anomaly_transfer import benchmarks, profiles, similarity
from anomaly_transfer.benchmarks import reference
from anomaly_transfer.data.annotations import NORMAL
from anomaly_transfer.data.images import Images
from anomaly_transfer.errors import DataError
from anomaly_transfer.features.features import Features
from anomaly_transfer.networks.backbones import Backbone
from anomaly_transfer.profiles import Profile
from anomaly_transfer.store import Store
from anomaly_transfer.studies import base, protocol
from anomaly_transfer.studies.base import SELF_SUPERVISED, Request, Study, Work
from anomaly_transfer.studies.protocol import Domains
from anomaly_transfer.studies.records import Experiment
from anomaly_transfer.training import starts

#: The measure that is tested against its null; all others are shown beside it.
PRIMARY = "cka"
#: Every network is trained on equally many images. A class with fewer is left out, so that it does not set the number.
FEWEST = 20
FURTHER, PHOTOGRAPHS, UNTRAINED = "other normal images", "photographs", "nothing (as it started)"


def request(asked: Experiment, store: Store) -> Request:
    """Compare a network trained on normal images with networks trained on something else.

    A variant is where all networks start, ``"imagenet"`` or ``"random"``. Each random one has a seed of its own.

    Returns
    -------
    Request
        One row a (level, trained on, measure): a :class:`~anomaly_transfer.similarity.Relation` between the network
        trained on some of the source's normal images and one trained on as many others, on each anomaly class, on
        photographs, or not at all. Probes are images of the target, normal and anomalous.

    Raises
    ------
    ValueError
        If ``start`` is another one: it would have been trained on normal images already.
    DataError
        If no class has enough images.
    """
    sizes = profiles.get(asked.profile)
    domain = protocol.divide(benchmarks.get(asked.benchmark).load(asked.category, sizes.limit), asked.seed)

    def compute() -> pd.DataFrame:
        curricula = _curricula(domain, sizes.self_supervised_images // 2, asked.seed)
        rng = np.random.default_rng(asked.seed)
        probes = np.concatenate(
            [rng.permutation(domain.rows(domain.target, name))[: sizes.sample] for name in (NORMAL, *domain.classes)]
        )
        images, side = domain.category.images.take(probes), domain.category.input_side(sizes.image_size)
        normal = domain.category.images.take(domain.rows(domain.source, NORMAL))

        def seen_by(number: int, images_of: Images | None) -> tuple[Backbone, Features]:
            # Networks that share a random start would be alike for that reason alone.
            network, _ = starts.network(asked.variant, sizes, normal, side, seed=1000 * asked.seed + number)
            if images_of is not None:
                network, _ = starts.self_supervised(network, sizes, images_of, asked.seed, store)
            return network, starts.features_of(network, images, side, store)

        network, reference = seen_by(0, curricula.pop(NORMAL))
        # Numbers, since names are slow to compare.
        _, objects = np.unique(domain.groups[probes], return_inverse=True)
        rows = []
        others = [*curricula.items(), (UNTRAINED, None)]
        for number, (name, images_of) in enumerate(tqdm(others, desc="networks", leave=False), start=1):
            _, other = seen_by(number, images_of)
            rows += _related(starts.levels(network), reference, other, name, objects, sizes)
        return pd.DataFrame(rows)

    settings = (*base.SIZES, "sample", "permutations", "halves")
    return base.request(STUDY, asked, settings, domain.category, sizes, compute)


def _curricula(domain: Domains, most: int, seed: int) -> dict[str, Images]:
    """What each network is trained on: equally many images of each kind, all of the source."""
    rng, where = np.random.default_rng(seed), f"{domain.category.benchmark}/{domain.category.name}"
    normal = rng.permutation(domain.rows(domain.source, NORMAL))
    classes = {name: rng.permutation(domain.rows(domain.source, name)) for name in domain.classes}
    enough = {name: rows for name, rows in classes.items() if len(rows) >= FEWEST}
    n = min([most, len(normal) // 2, *map(len, enough.values())])
    if not enough or n < protocol.LEAST:
        raise DataError(
            f"{where}: training networks on single classes needs a class of {FEWEST} images and {2 * protocol.LEAST} "
            "normal ones in the source: use more images or another category."
        )
    images = domain.category.images
    beside = reference.comparison_sets(images, where, n, seed)[PHOTOGRAPHS]
    return {
        NORMAL: images.take(normal[:n]),
        FURTHER: images.take(normal[n : 2 * n]),
        **{name: images.take(rows[:n]) for name, rows in enough.items()},
        PHOTOGRAPHS: beside,
    }


def _related(
    levels: Sequence[str], one: Features, other: Features, name: str, groups: np.ndarray, sizes: Profile
) -> list[dict]:
    rows = []
    everywhere = np.arange(len(one))
    for level in levels:
        for measure in similarity.PAIRED:
            statistic = measure.on(one[level], other[level], groups)
            sampled = (sizes.permutations, sizes.halves) if measure.name == PRIMARY else (0, sizes.halves // 2)
            found = similarity.relate(measure, statistic, everywhere, everywhere, groups, *sampled)
            rows.append({"level": level, "trained_on": name, "measure": measure.name, **found.model_dump()})
    return rows


def work(experiment: Experiment, sizes: Profile) -> Work:
    """Self-supervision, one network after the other."""
    images = protocol.at_hand(experiment, sizes.self_supervised_images)
    return Work(SELF_SUPERVISED, images, sizes.self_supervised_epochs, kept=False)


STUDY = Study("paired_networks", request, ("imagenet", "random"), "imagenet", axis="start", work=work)
run = STUDY.run
