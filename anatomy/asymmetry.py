"""What lies on one side of nearly every body: data, read once."""

from __future__ import annotations

from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict

from clnet.anatomy.strict_yaml import load_yaml

__all__ = ["Asymmetry", "asymmetry"]


class Asymmetry(BaseModel):
    """Sides of unpaired anatomies, see ``data/asymmetry.yaml``.

    Attributes:
        left, right: anatomies whose centre lies on that side of the patient.
        midline: by name, anatomies that together are centred on the midline.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    left: tuple[str, ...]
    right: tuple[str, ...]
    midline: dict[str, tuple[str, ...]]


@cache
def asymmetry() -> Asymmetry:
    """The sides."""
    path = resources.files("clnet.anatomy").joinpath("data", "asymmetry.yaml")
    return Asymmetry.model_validate(load_yaml(path.read_text(encoding="utf-8")))
