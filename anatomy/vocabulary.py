"""The vocabulary: every anatomy with one canonical id, and every name that means it."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from clnet.errors import UnknownAnatomy

__all__ = [
    "LAYERS",
    "REGIONS",
    "Anatomy",
    "Layer",
    "Region",
    "Side",
    "Vocabulary",
    "fold",
    "vocabulary",
]

Region = Literal["Body", "Head & Neck", "Chest", "Abdomen", "Bone", "LNS", "GTV"]
Layer = Literal["organ", "bone", "vessel", "muscle", "lns", "gtv", "body", "container"]
Side = Literal["left", "right"]

REGIONS: dict[str, Region] = {
    "body": "Body",
    "head_neck": "Head & Neck",
    "chest": "Chest",
    "abdomen": "Abdomen",
    "bone": "Bone",
    "lns": "LNS",
    "gtv": "GTV",
}
"""Slug, as group ids begin, to region: the paper's seven, in its order."""

LAYERS: tuple[Layer, ...] = (
    "body",
    "container",
    "organ",
    "bone",
    "muscle",
    "vessel",
    "lns",
    "gtv",
)
"""All layers, from what lies underneath to what a picture draws last."""


class Anatomy(BaseModel):
    """One structure of the body.

    Attributes:
        id: canonical id (``kidney_left``); TotalSegmentator v2's spelling where it has one.
        name: English name.
        region: one of the paper's seven regions.
        layer: leaves of one layer exclude each other voxel-wise.
        side: ``left``, ``right`` or None.
        parent: id of the anatomy that this one is part of, or None.
        snomed: SNOMED CT concept, or None. A sided anatomy has the concept of either side, if
            SNOMED CT has one, so that a laterality modifier completes it.
        colour: ``#rrggbb``, distinct per anatomy.
        aliases: other names, before folding.
        source: the class list or paper that names it.
        parts: for a composite the ids it is the union of; empty for a leaf.
        coarse: the name cuts across its ``parts`` without being their union (grey matter, a
            cavity). It can be looked up, but nothing predicts it and nothing learns from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[a-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*$")]
    name: Annotated[str, StringConstraints(min_length=1)]
    region: Region
    layer: Layer
    side: Side | None
    parent: str | None
    snomed: Annotated[str, StringConstraints(pattern=r"^[0-9]{6,18}$")] | None
    colour: Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]
    aliases: tuple[str, ...]
    source: Annotated[str, StringConstraints(min_length=1)]
    parts: tuple[str, ...] = ()
    coarse: bool = False

    @property
    def leaf(self) -> bool:
        """Whether a decoder of the default stratification may predict it."""
        return not self.parts


class Vocabulary:
    """All anatomies by id, and the lookup of names.

    Names are folded before they are compared: case does not matter, and spaces, hyphens and
    underscores are one. A sided anatomy answers to every order of its words (``left kidney``,
    ``Kidney L``, ``kidney-left``).

    Raises:
        ValueError: an id or name is taken twice, a parent or part is unknown, or a composite
            mixes layers.
    """

    def __init__(self, anatomies: Iterable[Anatomy]) -> None:
        self._by_id: dict[str, Anatomy] = {}
        self._by_name: dict[str, str] = {}
        for anatomy in anatomies:
            if anatomy.id in self._by_id:
                raise ValueError(f"anatomy {anatomy.id} is listed twice")
            self._by_id[anatomy.id] = anatomy
        for anatomy in self:
            for name in _names(anatomy):
                owner = self._by_name.setdefault(name, anatomy.id)
                if owner != anatomy.id:
                    raise ValueError(f"name {name!r} means both {owner} and {anatomy.id}")
        for anatomy in self:
            self._check_family(anatomy)
        self._leaves = {anatomy.id: self._expand(anatomy.id, ()) for anatomy in self}
        for composite in self.composites:
            layers = {self[leaf].layer for leaf in self._leaves[composite.id]}
            if layers != {composite.layer}:
                raise ValueError(
                    f"composite {composite.id} ({composite.layer}) has parts in {layers}"
                )

    def __getitem__(self, anatomy: str) -> Anatomy:
        """The anatomy with this canonical id.

        Raises:
            UnknownAnatomy: no such id; the message tells the nearest names.
        """
        try:
            return self._by_id[anatomy]
        except KeyError:
            raise self._unknown(anatomy) from None

    def __contains__(self, anatomy: object) -> bool:
        return anatomy in self._by_id

    def __iter__(self) -> Iterator[Anatomy]:
        """All anatomies, leaves first, in the vocabulary's order."""
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def predicted(self) -> tuple[Anatomy, ...]:
        """The leaves: what decoders predict."""
        return tuple(anatomy for anatomy in self if anatomy.leaf)

    @property
    def composites(self) -> tuple[Anatomy, ...]:
        """Anatomies that are exactly the union of others (``kidney``, ``lung``)."""
        return tuple(anatomy for anatomy in self if anatomy.parts and not anatomy.coarse)

    def find(self, name: str) -> str | None:
        """Canonical id that ``name`` means, or None."""
        return self._by_name.get(fold(name))

    def resolve(self, name: str) -> str:
        """Canonical id that ``name`` means.

        Raises:
            UnknownAnatomy: no anatomy has this name; the message tells the nearest ones.
        """
        found = self.find(name)
        if found is None:
            raise self._unknown(name)
        return found

    def leaves(self, name: str) -> tuple[str, ...]:
        """Leaf ids that an anatomy consists of, in its own order; itself for a leaf.

        For a coarse name these are the leaves that it cuts across.
        """
        return self._leaves[self.resolve(name)]

    def composite_of(self, members: Collection[str]) -> str:
        """Canonical id of the anatomy with exactly these leaves; joined by ``+`` if none has."""
        wanted = set(members)
        if len(wanted) == 1:
            return next(iter(wanted))
        for anatomy in self.composites:
            if set(self.leaves(anatomy.id)) == wanted:
                return anatomy.id
        return "+".join(sorted(wanted))

    def members(self, label: str) -> frozenset[str]:
        """Leaf ids that a label unites: inverse of :meth:`composite_of`.

        Args:
            label: canonical id, or leaves joined by ``+``.
        """
        return frozenset(self._leaves.get(label) or label.split("+"))

    def descends(self, label: str, anatomy: str) -> bool:
        """Whether `anatomy` is the parent of `label`, or a parent of that; False of unions."""
        parent = self[label].parent if label in self else None
        while parent is not None and parent != anatomy:
            parent = self[parent].parent
        return parent is not None

    def lies_in(self, label: str, anatomy: str) -> bool:
        """Whether a label is an anatomy, one of its parts, or descends from it.

        Args:
            label, anatomy: canonical ids, or leaves joined by ``+``.
        """
        return self.members(label) <= self.members(anatomy) or self.descends(label, anatomy)

    def _unknown(self, name: str) -> UnknownAnatomy:
        close = difflib.get_close_matches(fold(name), self._by_name, n=12)
        near = list(dict.fromkeys(self._by_name[match] for match in close))[:3]
        hint = f"did you mean {', '.join(near)}?" if near else "`clnet anatomies list` shows all"
        return UnknownAnatomy(f"unknown anatomy {name!r}: {hint}")

    def _check_family(self, anatomy: Anatomy) -> None:
        for relative in (*anatomy.parts, *([anatomy.parent] if anatomy.parent else [])):
            if relative not in self._by_id:
                raise ValueError(f"anatomy {anatomy.id}: unknown relative {relative}")
        seen = [anatomy.id]
        while (parent := self._by_id[seen[-1]].parent) is not None:
            if parent in seen:
                raise ValueError(f"anatomy {anatomy.id} is its own ancestor: {seen}")
            seen.append(parent)

    def _expand(self, anatomy: str, within: tuple[str, ...]) -> tuple[str, ...]:
        if anatomy in within:
            raise ValueError(f"composite {anatomy} contains itself: {within}")
        parts = self._by_id[anatomy].parts
        if not parts:
            return (anatomy,)
        nested = (leaf for part in parts for leaf in self._expand(part, (*within, anatomy)))
        return tuple(dict.fromkeys(nested))


def fold(name: str) -> str:
    """A name as it is compared: lower case, every run of punctuation or space one underscore."""
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def _names(anatomy: Anatomy) -> Iterator[str]:
    """All folded names of an anatomy, those of sided ones in every usual order."""
    for name in (anatomy.id, anatomy.name, *anatomy.aliases):
        folded = fold(name)
        yield folded
        words = folded.split("_")
        if anatomy.side is not None and anatomy.side in words:
            words.remove(anatomy.side)
            rest = "_".join(words)
            for side in (anatomy.side, anatomy.side[0]):
                yield f"{side}_{rest}"
                yield f"{rest}_{side}"


def _rows(table: str) -> Iterator[Anatomy]:
    """Anatomies of one CSV table; lists are separated by semicolons, empty cells are None."""
    text = resources.files("clnet.anatomy").joinpath("data", table).read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        cells: dict[str, object] = {key: value or None for key, value in row.items()}
        for key in ("aliases", "parts"):
            if key in row:
                cells[key] = tuple(filter(None, row[key].split(";")))
        if "coarse" in row:
            cells["coarse"] = row["coarse"] == "yes"
        yield Anatomy.model_validate(cells)


@cache
def vocabulary() -> Vocabulary:
    """The vocabulary that ships with the package; read once."""
    return Vocabulary([*_rows("anatomies.csv"), *_rows("composites.csv")])
