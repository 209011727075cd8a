"""Profiles: how large an experiment is. The sizes themselves stand in ``profiles.toml``."""

from __future__ import annotations

import os
import tomllib
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field

DEFAULT = "laptop"


class Profile(BaseModel):
    """The sizes of one profile (see the comments in ``profiles.toml``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    purpose: str
    backbone: str
    image_size: int = Field(ge=32, description="side of the square network input, pixels")
    images_per_category: int = Field(ge=0, description="0 means all")
    seeds: tuple[int, ...] = Field(min_length=1)
    bootstrap: int = Field(ge=50, description="bootstrap resamples per interval")
    memory_bank: int = Field(ge=10, description="patches kept by the memory-bank detector")
    sample: int = Field(ge=10, description="images on either side of a measure of similarity")
    permutations: int = Field(ge=9, description="permutations of a test")
    halves: int = Field(ge=4, description="random halves behind an interval of similarity")
    self_supervised_images: int = Field(ge=20, description="normal images a network is trained on")
    self_supervised_epochs: int = Field(ge=1)
    tuned_image_size: int = Field(ge=32, description="side of the input of networks that are fine-tuned, pixels")
    tuned_images: int = Field(ge=0, description="normal images to fine-tune on, those held out included; 0 means all")
    tuned_epochs: int = Field(ge=1)
    tuned_folds: int = Field(ge=0, description="folds of the split in which a network is fine-tuned; 0 means all")
    tuned_test: int = Field(ge=0, description="normal test images of a fold, and anomalous ones; 0 means all")
    oneclass_image_size: int = Field(ge=32, description="side of the input of networks trained in Part III, pixels")
    oneclass_images: int = Field(ge=0, description="normal images to train on there, those held out included; 0: all")
    oneclass_epochs: int = Field(ge=1)
    oneclass_test: int = Field(ge=0, description="normal test images of a fold, and anomalous ones; 0 means all")
    draws: int = Field(ge=2, description="random choices of the few labelled images")

    @property
    def limit(self) -> int | None:
        """Images to load per category, or None for all of them."""
        return self.images_per_category or None


def names() -> list[str]:
    """The profiles, from the smallest to the largest.

    >>> names()
    ['smoke', 'laptop', 'study', 'full']
    """
    return list(_table())


def get(name: str | None = None) -> Profile:
    """The profile called ``name``; without a name, the one in ``$ANOMALY_TRANSFER_PROFILE``, else ``laptop``.

    Raises
    ------
    ValueError
        If there is no profile of that name.
    """
    name = name or os.environ.get("ANOMALY_TRANSFER_PROFILE") or DEFAULT
    table = _table()
    if name not in table:
        raise ValueError(f"There is no profile {name!r}; choose one of {', '.join(table)}.")
    return Profile(name=name, **table[name])


def _table() -> dict[str, dict]:
    return tomllib.loads(files(__package__).joinpath("profiles.toml").read_text(encoding="utf-8"))
