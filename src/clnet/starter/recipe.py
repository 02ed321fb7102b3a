"""`starter.yaml`, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from clnet.anatomy.phantom import PHANTOM_ANATOMIES
from clnet.model.encoder import EncoderConfig
from clnet.model.plan import Plan
from clnet.quickstart.recipe import HeldOut

__all__ = ["StarterRecipe", "load_recipe"]

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlanPart(_Part):
    """The plan's own values; intensities are the fixed scheme."""

    spacing: Spacing
    patch_size: Triple


class EncoderPart(_Part):
    """Shape of the encoder."""

    features: tuple[int, ...]
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    convs: tuple[int, ...]


class PhantomPart(_Part):
    """Which phantoms the encoder learns from."""

    first_seed: int = Field(ge=0)
    count: int = Field(ge=1)
    spacings: tuple[Spacing, ...] = Field(min_length=1)


class PretrainingPart(_Part):
    """How the encoder learns, and through which teachers (layer to weight)."""

    seed: int
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    foreground: float = Field(ge=0, le=1)
    learning_rate: float
    warm_up: int
    ema: float
    widths: tuple[int, ...]
    kernels: tuple[Triple, ...]
    teachers: dict[str, float]


class BodyPartPart(_Part):
    """How the body-part model learns."""

    seed: int
    steps: int = Field(ge=1)


class DecoderPart(_Part):
    """How decoders are trained and pruned.

    Attributes:
        train, prune: settings of a :class:`clnet.platform.jobs.DecoderJob`.
        packs: name to anatomy groups, with the channels of each; empty for the group's leaves.
    """

    train: dict[str, Any]
    prune: dict[str, Any]
    packs: dict[str, dict[str, tuple[str, ...]]]


class StarterRecipe(_Part):
    """Everything that decides what the starter release is."""

    name: str
    plan: PlanPart
    encoder: EncoderPart
    phantoms: PhantomPart
    held_back: tuple[str, ...]
    pretraining: PretrainingPart
    body_part_model: BodyPartPart
    decoders: DecoderPart
    held_out: HeldOut

    @field_validator("held_back")
    @classmethod
    def _of_the_phantom(cls, held_back: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(held_back) - set(PHANTOM_ANATOMIES))
        if unknown:
            raise ValueError(f"not anatomies of the phantom: {', '.join(unknown)}")
        return held_back

    def make_plan(self) -> Plan:
        """The plan of the encoder and all its decoders."""
        return Plan(spacing=self.plan.spacing, patch_size=self.plan.patch_size)

    def encoder_config(self) -> EncoderConfig:
        """Shape of the encoder."""
        return EncoderConfig(**self.encoder.model_dump())


def load_recipe(path: Path | None = None) -> StarterRecipe:
    """The recipe in `path`; by default the one that the shipped starter was made by."""
    path = path or Path(__file__).with_name("starter.yaml")
    return StarterRecipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
