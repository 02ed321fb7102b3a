"""Which part of the body some anatomies tell of: head and neck, chest, abdomen, or all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict

from clnet.anatomy.strict_yaml import load_yaml
from clnet.anatomy.vocabulary import REGIONS, vocabulary

__all__ = ["PartOfBody", "part_of_body"]

Part = Literal["head_neck", "chest", "abdomen"]
PartOfBody = Literal["head_neck", "chest", "abdomen", "whole_body"]

_PARTS: tuple[Part, ...] = ("head_neck", "chest", "abdomen")

MOST = 0.75
"""Share of the anatomies that make a part out of what is labelled: AMOS and BTCV reach into the
chest, and are of the abdomen all the same."""


class _Table(BaseModel):
    """``data/parts_of_the_body.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head_neck: tuple[str, ...]
    chest: tuple[str, ...]
    abdomen: tuple[str, ...]
    lymph_nodes: dict[str, Part]
    passing: tuple[str, ...]


def part_of_body(names: Iterable[str]) -> PartOfBody:
    """The part that most anatomies lie in; ``whole_body`` where none has them.

    Leaves count one each. Those that pass through several parts, as the aorta does, count only
    where nothing else is labelled.

    Args:
        names: canonical ids, or several joined by ``+``; what the vocabulary does not know says
            nothing.
    """
    known = vocabulary()
    single = (one for name in names for one in name.split("+") if one in known)
    leaves = {leaf for name in single for leaf in known.leaves(name)}
    staying = {leaf for leaf in leaves - _passing() if _part_of(leaf)}
    votes = Counter(part for leaf in staying or leaves if (part := _part_of(leaf)))
    for part, count in votes.most_common(1):
        if count >= MOST * votes.total():
            return part
    return "whole_body"


@cache
def _part_of(leaf: str) -> Part | None:
    """The part that an anatomy lies in, by the table, its region or its parents'."""
    listed = _listed().get(leaf)
    if listed is not None:
        return listed
    for beginning, part in _table().lymph_nodes.items():
        if leaf.startswith(beginning):
            return part
    anatomy = vocabulary()[leaf]
    for part in _PARTS:
        if anatomy.region == REGIONS[part]:
            return part
    return None if anatomy.parent is None else _part_of(anatomy.parent)


@cache
def _listed() -> dict[str, Part]:
    known, table = vocabulary(), _table()
    return {
        leaf: part
        for part in _PARTS
        for name in getattr(table, part)
        for leaf in known.leaves(name)
    }


@cache
def _passing() -> frozenset[str]:
    return frozenset(leaf for name in _table().passing for leaf in vocabulary().leaves(name))


@cache
def _table() -> _Table:
    path = resources.files("clnet.anatomy").joinpath("data", "parts_of_the_body.yaml")
    return _Table.model_validate(load_yaml(path.read_text(encoding="utf-8")))
