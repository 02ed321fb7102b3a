"""`quickstart.yaml`, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["HeldOut", "NewDecoder", "QuickstartRecipe", "Site", "load_recipe"]

Spacing = tuple[float, float, float]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Site(_Part):
    """Phantoms of one site and what it labels: mask name to the anatomies in it."""

    first_seed: int = Field(ge=0)
    count: int = Field(ge=1)
    field_of_view: str | None
    spacing: Spacing
    labels: dict[str, tuple[str, ...]]


class NewDecoder(_Part):
    """A group that a site brings, the known groups it leans on and the one it starts from."""

    site: str
    seed: int
    start: str | None = None
    supporters: tuple[str, ...] = ()


class Search(_Part):
    """Where pruning rates are searched."""

    space: str
    tolerance: float = Field(ge=0)


class HeldOut(_Part):
    """Phantoms that nothing learns from."""

    first_seed: int = Field(ge=0)
    count: int = Field(ge=1)
    field_of_view: str | None
    spacing: Spacing
    orientations: tuple[str, ...] = Field(min_length=1)


class Baseline(_Part):
    """Fully labelled phantoms that the baseline is fitted on."""

    first_seed: int
    count: int


class OwnDeployment(_Part):
    """A group that is served by replicas of its own."""

    group: str
    replicas: int = Field(ge=1)


class QuickstartRecipe(_Part):
    """Everything that decides what the quickstart does.

    Attributes:
        train, update: settings of a :class:`clnet.platform.jobs.DecoderJob`; `update` also
            names its group and site.
    """

    starter: str
    release: str
    sites: dict[str, Site]
    decoders: dict[str, NewDecoder]
    train: dict[str, Any]
    search: Search
    update: dict[str, Any]
    held_out: HeldOut
    baseline: Baseline
    own_deployment: OwnDeployment


def load_recipe(path: Path | None = None) -> QuickstartRecipe:
    """The recipe in `path`; by default the one that ships."""
    path = path or Path(__file__).with_name("quickstart.yaml")
    return QuickstartRecipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
