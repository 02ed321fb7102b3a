"""The label contract: what each value of a stored label map means, and what it leaves unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from clnet.errors import ContractError

__all__ = ["UNKNOWN", "LabelContract", "LabelEntry"]

UNKNOWN = 255
"""Voxel value in every layer of a case where an annotator left open what is there."""


@dataclass(frozen=True, slots=True)
class LabelEntry:
    """One meaning in one layer of a case.

    Attributes:
        value: voxel value in the layer's label map, 1 to 254; 0 is "nothing labelled here",
            255 (:data:`UNKNOWN`) "nobody says what is here".
        layer: the layer whose map holds the value.
        name: canonical id shown to users; a composite for most unions (``kidney``).
        members: leaf anatomies, sorted; one member is `exact`, several are a `union`.
        within: extent in mm along z, measured from the centre of the case's slice 0.
            Outside it the members are unknown, as an annotator drew these slices only.
    """

    value: int
    layer: str
    name: str
    members: tuple[str, ...]
    within: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.value < UNKNOWN:
            raise ContractError(f"label value {self.value} of {self.name}: must be 1 to 254")
        if not self.members:
            raise ContractError(f"label {self.name}: names no anatomy")
        if self.within is not None and self.within[0] > self.within[1]:
            raise ContractError(f"label {self.name}: extent {self.within} ends before it begins")

    @property
    def exact(self) -> bool:
        """Whether the label names one anatomy, not a union of several."""
        return len(self.members) == 1


@dataclass(frozen=True, slots=True)
class LabelContract:
    """All meanings of a case's label maps. What no entry names is unknown, never background."""

    entries: tuple[LabelEntry, ...]

    def __post_init__(self) -> None:
        seen: set[tuple[str, int]] = set()
        for entry in self.entries:
            if (entry.layer, entry.value) in seen:
                raise ContractError(f"layer {entry.layer}: value {entry.value} has two meanings")
            seen.add((entry.layer, entry.value))

    def for_layer(self, layer: str) -> tuple[LabelEntry, ...]:
        """Entries of one layer, by value."""
        return tuple(
            sorted((e for e in self.entries if e.layer == layer), key=lambda entry: entry.value)
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers with at least one entry, sorted."""
        return tuple(sorted({entry.layer for entry in self.entries}))

    @property
    def anatomies(self) -> frozenset[str]:
        """Every leaf anatomy that some entry names, alone or in a union."""
        return frozenset(member for entry in self.entries for member in entry.members)

    def known(self, anatomy: str) -> bool:
        """Whether some entry names the leaf anatomy, alone or in a union."""
        return anatomy in self.anatomies

    def to_json(self) -> list[dict[str, Any]]:
        """The entries as JSON-able records."""
        return [
            {
                "value": e.value,
                "layer": e.layer,
                "name": e.name,
                "members": list(e.members),
                "within": list(e.within) if e.within else None,
            }
            for e in self.entries
        ]

    @classmethod
    def from_json(cls, records: Iterable[dict[str, Any]]) -> LabelContract:
        """Inverse of :meth:`to_json`."""
        return cls(
            tuple(
                LabelEntry(
                    value=int(r["value"]),
                    layer=str(r["layer"]),
                    name=str(r["name"]),
                    members=tuple(r["members"]),
                    within=(float(r["within"][0]), float(r["within"][1])) if r["within"] else None,
                )
                for r in records
            )
        )
