"""The labels of one scan, whichever files they are in: masks by anatomy, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.mapping import Within
from clnet.data_catalog.canonical import Canonical, grid_distance

__all__ = ["Drawn", "Grid", "LabelledScan", "Part"]

GRID_TOLERANCE = 0.1
"""Voxels that two grids may lie apart and still count as one."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a canonical volume are.

    Attributes:
        shape: ``(Z, Y, X)``.
        spacing: mm, ``(z, y, x)``.
        affine: voxel indices ``(x, y, z, 1)`` to RAS+ mm.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, volume: Canonical) -> Grid:
        """The grid of a volume."""
        z, y, x = volume.voxels.shape
        return cls((z, y, x), volume.spacing, volume.affine)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing)) / 1000

    def difference(self, other: Grid) -> str:
        """In words how two grids differ; empty if they are one."""
        if self.shape != other.shape:
            return f"{other.shape} voxels (z, y, x), not {self.shape}"
        distance = grid_distance(self.affine, other.affine, self.shape)
        if distance > GRID_TOLERANCE * min(self.spacing):
            return f"up to {distance:.2f} mm apart"
        return ""


@dataclass(frozen=True, slots=True)
class Part:
    """One label: what it stands for, and how to read its voxels.

    Attributes:
        name: canonical id, or members joined by ``+``.
        members: leaf anatomies that it stands for, undivided.
        within: where along z it was drawn; see :class:`clnet.anatomy.mapping.Meaning`.
        read: gives the mask ``(Z, Y, X)``.
    """

    name: str
    members: frozenset[str]
    within: Within
    read: Callable[[], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The mask of one anatomy, and the slices on which it was drawn: all others are unknown."""

    mask: NDArray[np.bool_]
    slices: slice


@dataclass(frozen=True, slots=True)
class LabelledScan:
    """All labels of one scan.

    Attributes:
        grid: of all its masks.
        parts: its labels.
        unusable: source labels that mean nothing here, and why.
    """

    grid: Grid
    parts: tuple[Part, ...]
    unusable: Mapping[str, str]

    @property
    def names(self) -> dict[str, frozenset[str]]:
        """Everything that is labelled, by canonical id, with its leaf anatomies."""
        return {part.name: part.members for part in self.parts}

    def lacks(self, members: frozenset[str]) -> str:
        """Why the labels do not tell the union of `members`; empty if they do."""
        covered = frozenset(m for part in self._parts_of(members) for m in part.members)
        if covered == members:
            return ""
        if covered:
            return f"labels only {', '.join(sorted(covered))} of it"
        wider = [part.name for part in self.parts if part.members & members]
        if wider:
            return f"labels it only undivided, as part of {', '.join(sorted(wider))}"
        return "does not label it"

    def draw(self, members: frozenset[str]) -> Drawn:
        """The union of everything that is labelled as one of `members`."""
        mask = np.zeros(self.grid.shape, np.bool_)
        first, last = 0, self.grid.shape[0]
        for part in self._parts_of(members):
            drawn = part.read()
            start, stop = self._extent(part.within, drawn)
            first, last = max(first, start), min(last, stop)
            mask |= drawn
        return Drawn(mask, slice(first, max(first, last)))

    def _parts_of(self, members: frozenset[str]) -> list[Part]:
        return [part for part in self.parts if part.members <= members]

    def _extent(self, within: Within, mask: NDArray[np.bool_]) -> tuple[int, int]:
        """First slice and the one after the last on which something was drawn."""
        if within is None:
            return 0, len(mask)
        if within == "auto":
            drawn = np.flatnonzero(mask.any(axis=(1, 2)))
            return (int(drawn[0]), int(drawn[-1]) + 1) if len(drawn) else (0, 0)
        z = np.arange(len(mask)) * self.grid.spacing[0]
        inside = np.flatnonzero((z >= within[0]) & (z <= within[1]))
        return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
