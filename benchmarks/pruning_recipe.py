"""`pruning.yaml`, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Learning", "PruningRecipe", "Scans", "Schedule", "load_recipe"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scans(_Part):
    """Phantoms by seed."""

    first_seed: int = Field(ge=0)
    count: int = Field(ge=1)
    field_of_view: str | None
    spacing: tuple[float, float, float]


class Shape(_Part):
    """The dense decoder's."""

    widths: tuple[int, ...]
    heads: int


class Reading(_Part):
    """How patches are drawn."""

    batch_size: int
    foreground: tuple[float, float]
    patch_size: tuple[int, int, int] | None = None


class Learning(_Part):
    """Fields of :class:`clnet.model.training.Recipe`."""

    steps: int = Field(ge=1)
    learning_rate: float
    warm_up: int
    negatives: int
    ema: float


class Schedule(_Part):
    """Fields of :class:`clnet.model.lottery.PruningSchedule`."""

    rates: tuple[float, ...]
    tolerance: float
    retries: int
    scope: Literal["global", "layer", "channel"] = "global"


class Rewinding(_Part):
    """What is compared: rates, where `early` weights are kept, seeds of the decoders."""

    rates: tuple[float, ...]
    early: float = Field(ge=0, lt=1)
    seeds: tuple[int, ...]


class PruningRecipe(_Part):
    """Everything that decides what the benchmark does."""

    site: Scans
    held_out: Scans
    groups: dict[str, tuple[str, ...]]
    decoder: Shape
    stream: Reading
    validation: int = Field(ge=1)
    judging: int = Field(ge=1)
    train: Learning
    recover: Learning
    unstructured: Schedule
    structured: Schedule
    rewind: Rewinding


def load_recipe(path: Path | None = None) -> PruningRecipe:
    """The recipe in `path`; by default the one beside this file."""
    path = path or Path(__file__).with_name("pruning.yaml")
    return PruningRecipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
