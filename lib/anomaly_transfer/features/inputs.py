"""What a detector sees of images: pixels, pooled features, feature maps, or both kinds of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from anomaly_transfer.data.images import Images
from anomaly_transfer.features import cached, pixels
from anomaly_transfer.features.extraction import map_levels
from anomaly_transfer.features.features import Features
from anomaly_transfer.networks.backbones import Backbone
from anomaly_transfer.store import Store

Kind = Literal["pooled", "maps", "pixels", "both"]
#: Where both kinds stand side by side, the names of maps end with it.
MAP = " map"


def levels_of(kind: Kind, backbone: Backbone) -> tuple[str, ...]:
    """The levels that a detector sees by default: all pooled, and the maps of strides 8 and 16."""
    if kind == "pixels":
        return (pixels.LEVEL,)
    if kind == "pooled":
        return backbone.levels
    maps = map_levels(backbone)
    return maps if kind == "maps" else (*backbone.levels, *(level + MAP for level in maps))


def view(
    kind: Kind,
    images: Images,
    backbone: Backbone,
    image_size: int,
    store: Store,
    levels: Sequence[str] | None = None,
) -> Features:
    """Features of images as a detector of a kind needs them, from the store.

    Parameters
    ----------
    kind : {"pooled", "maps", "pixels", "both"}
    images : Images
    backbone : Backbone
        Of no account for pixels.
    image_size : int
        Side of the network's input, pixels.
    store : Store
    levels : sequence of str, optional
        Whose maps are taken; default: see :func:`levels_of`. Of pooled features all levels are given.
    """
    if kind == "pixels":
        return cached.pixels(store, images)
    if kind == "pooled":
        return cached.features(store, images, backbone, image_size)
    # Maps first: the same pass leaves the pooled features in the store.
    maps = cached.features(store, images, backbone, image_size, levels or map_levels(backbone))
    if kind == "maps":
        return maps
    pooled = cached.features(store, images, backbone, image_size)
    return Features(pooled.arrays | {level + MAP: array for level, array in maps.arrays.items()}, pooled.rows)
