"""Masks of one layer on top of each other: who claims which voxel, and where several do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import UNKNOWN
from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.errors import CaseRejected

__all__ = ["MAX_SHARE", "MaskStack", "Overlap"]

MAX_SHARE = 0.02
"""Largest overlap that is taken, as a share of the smaller label."""

MAX_VALUES = UNKNOWN - 1
MAX_COMBINATIONS = 65535


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two labels of a layer that claim the same voxels.

    Attributes:
        voxels: how many both claim.
        share: of the smaller of the two labels, 0 to 1.
        file: the second one's mask.
    """

    layer: str
    first: str
    second: str
    voxels: int
    share: float
    file: str

    def __str__(self) -> str:
        return (
            f"{self.voxels} voxels are both {self.first} and {self.second} ({self.share:.1%} of "
            f"the smaller), which exclude each other in layer {self.layer}"
        )

    def check(self) -> None:
        """Refuse an overlap that is more than a rough border.

        Raises:
            CaseRejected: it is above :data:`MAX_SHARE`.
        """
        if self.share >= MAX_SHARE:
            raise CaseRejected(
                self.file,
                "overlap",
                f"{self}; below {MAX_SHARE:.0%} it would be stored as one of both",
                "label.overlap",
            )


class MaskStack:
    """The masks of one layer in a single map, painted one by one in any order.

    A voxel holds the number of the *set* of labels that claim it, so that no mask has to be
    kept for comparison.

    Args:
        count: labels have the values 1 to `count`.
        allocate: gives room for the map.
    """

    def __init__(self, count: int, allocate: Allocate = in_memory) -> None:
        self._sets: list[frozenset[int]] = [frozenset()]
        self._sets += [frozenset({value}) for value in range(1, count + 1)]
        self._number = {claims: number for number, claims in enumerate(self._sets)}
        self._count = count
        self._allocate = allocate
        self._grid: NDArray[np.uint8] | NDArray[np.uint16] | None = None

    def paint(self, mask: NDArray[Any], value: int, slices: NDArray[np.intp]) -> None:
        """Let label `value` claim the voxels of `mask` above 0, ``(Z, Y, X)``, on these slices."""
        if self._grid is None:
            self._grid = self._allocate(mask.shape, np.uint8)
        for z in slices:
            self._paint(z, mask[z] > 0, value)

    def fill(self, mask: NDArray[Any], value: int, slices: NDArray[np.intp]) -> None:
        """Let label `value` have the voxels of `mask` above 0 that no label claims there."""
        assert self._grid is not None
        for z in slices:
            self._grid[z][(mask[z] > 0) & (self._grid[z] == 0)] = value

    def _paint(self, z: np.intp, inside: NDArray[np.bool_], value: int) -> None:
        assert self._grid is not None
        before = self._grid[z][inside]
        seen = np.flatnonzero(np.bincount(before, minlength=1)).tolist()
        after = {number: self._numbered(self._sets[number] | {value}) for number in seen}
        if len(self._sets) > 256 and self._grid.dtype == np.uint8:
            narrow, self._grid = self._grid, self._allocate(self._grid.shape, np.uint16)
            for k, plane in enumerate(narrow):
                self._grid[k] = plane
        table = np.zeros(len(self._sets), self._grid.dtype)
        for number, new in after.items():
            table[number] = new
        self._grid[z][inside] = table[before]

    def slices(self, value: int) -> NDArray[np.intp]:
        """Indices along z of the slices where the label claims a voxel."""
        assert self._grid is not None
        table = np.array([value in claims for claims in self._sets])
        return np.flatnonzero([table[plane].any() for plane in self._grid])

    def overlaps(self) -> Iterator[tuple[int, int, int, float]]:
        """Pairs of labels with common voxels: both values, voxels, share of the smaller."""
        counts = self._counts()
        sizes: dict[int, int] = {}
        common: dict[tuple[int, int], int] = {}
        for number, voxels in counts.items():
            claims = sorted(self._sets[number])
            for value in claims:
                sizes[value] = sizes.get(value, 0) + voxels
            for pair in combinations(claims, 2):
                common[pair] = common.get(pair, 0) + voxels
        for (first, second), voxels in sorted(common.items()):
            yield first, second, voxels, voxels / min(sizes[first], sizes[second])

    def finish(self, file: str) -> tuple[NDArray[np.uint8], dict[int, frozenset[int]]]:
        """The label map, and per further value the labels that claim its voxels together.

        Raises:
            CaseRejected: naming `file`; more combinations of labels than a map has values.
        """
        assert self._grid is not None
        counts = self._counts()
        shared = sorted((n for n in counts if len(self._sets[n]) > 1), key=self._claims)
        if self._count + len(shared) > MAX_VALUES:
            raise CaseRejected(
                file,
                "overlap",
                f"{len(shared)} combinations of labels overlap; {MAX_VALUES} values fit in a layer",
                "label.overlap",
            )
        table = np.zeros(len(self._sets), np.uint8)
        table[: self._count + 1] = np.arange(self._count + 1)
        values: dict[int, frozenset[int]] = {}
        for value, number in enumerate(shared, start=self._count + 1):
            table[number] = value
            values[value] = self._sets[number]
        found = self._allocate(self._grid.shape, np.uint8)
        for z, plane in enumerate(self._grid):
            found[z] = table[plane]
        return found, values

    def _numbered(self, claims: frozenset[int]) -> int:
        number = self._number.setdefault(claims, len(self._sets))
        if number == len(self._sets):
            if number > MAX_COMBINATIONS:
                raise CaseRejected(
                    "masks", "overlap", "too many labels overlap each other", "label.overlap"
                )
            self._sets.append(claims)
        return number

    def _claims(self, number: int) -> list[int]:
        return sorted(self._sets[number])

    def _counts(self) -> dict[int, int]:
        """Voxels per set that occurs, by number."""
        assert self._grid is not None
        total = np.zeros(len(self._sets), np.int64)
        for plane in self._grid:
            total += np.bincount(plane.reshape(-1), minlength=len(self._sets))
        return {int(n): int(total[n]) for n in np.flatnonzero(total)}
