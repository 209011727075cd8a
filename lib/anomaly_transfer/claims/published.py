"""Numbers of other work, in one file (``published.toml``) with their protocol and source."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field


class Number(BaseModel):
    """One published number (see the comments in ``published.toml``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    dataset: str
    metric: str
    unit: Literal["0..1", "share of the AUROC before"]
    value: float = Field(ge=0, le=1)
    protocol: str = Field(min_length=10)
    source: str = Field(description="key in book/references.bib")
    verified: bool


def numbers() -> list[Number]:
    """All published numbers, in the order of the file."""
    text = files(__package__).joinpath("published.toml").read_text(encoding="utf-8")
    return [Number(**entry) for entry in tomllib.loads(text)["number"]]


def table(dataset: str) -> pd.DataFrame:
    """The verified numbers on one data set: method, value, protocol, source."""
    rows = [entry.model_dump() for entry in numbers() if entry.dataset == dataset and entry.verified]
    return pd.DataFrame(rows)[["method", "value", "protocol", "source"]]
