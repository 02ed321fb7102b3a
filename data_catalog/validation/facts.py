"""What is true of nearly every body: data, read once."""

from __future__ import annotations

from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict

from clnet.anatomy import vocabulary
from clnet.anatomy.strict_yaml import load_yaml

__all__ = ["Facts", "facts", "lineage_of"]


class Facts(BaseModel):
    """Plain anatomy, see ``anatomy_facts.yaml``.

    Attributes:
        right_of, above, before: pairs (first, second): where first lies, seen from second.
        right, left: what lies clearly on that side of the middle of the body.
        density: mean HU (lowest, highest) of an anatomy and its parts, or of a layer.
        airy: what may hold air.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    right_of: tuple[tuple[str, str], ...]
    above: tuple[tuple[str, str], ...]
    before: tuple[tuple[str, str], ...]
    right: frozenset[str]
    left: frozenset[str]
    density: dict[str, tuple[float, float]]
    airy: frozenset[str]


@cache
def facts() -> Facts:
    """The facts."""
    path = resources.files(__package__).joinpath("anatomy_facts.yaml")
    return Facts.model_validate(load_yaml(path.read_text(encoding="utf-8")))


def lineage_of(name: str) -> tuple[str, ...]:
    """An anatomy and what it is part of, nearest first; `name` alone if it is a joined union."""
    known = vocabulary()
    names = [name]
    current = known.find(name)
    while current is not None and (parent := known[current].parent) is not None:
        names.append(parent)
        current = parent
    return tuple(names)
