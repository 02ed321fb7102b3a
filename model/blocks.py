"""The output grid cut into fixed blocks, and the plan's voxels that each is interpolated from.

Blocks depend on the two grids alone, and everything after the windows is computed block by
block; so neither tiles, slabs nor the memory at hand can show in a result.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from scipy.sparse import csr_array, eye_array
from torch import Tensor

from clnet.model.grid import Interval

__all__ = ["Blocks", "Cut", "union"]

MOST_ROWS = (16, 128, 128)  # of the output grid in a block, (z, y, x)
MOST_SOURCE = (8, 64, 64)  # of the plan grid, about
COVERED = 1 - 1e-6


@dataclass(frozen=True, slots=True)
class Cut:
    """One stretch of an axis of the output grid.

    Attributes:
        rows: output voxels, first and one past the last.
        source: plan voxels that they are interpolated from; empty outside the plan's grid.
        weights: ``(rows, source)``, or None where both are the same voxels.
    """

    rows: Interval
    source: Interval
    weights: Tensor | None

    @property
    def length(self) -> int:
        """Output voxels."""
        return self.rows[1] - self.rows[0]

    def narrowed(self, low: int, high: int) -> Cut:
        """The cut where only the plan voxels from `low` to below `high` are known."""
        first, last = max(self.source[0], low), min(self.source[1], high)
        if (first, last) == self.source:
            return self
        if first >= last:
            return Cut(self.rows, (low, low), torch.zeros(self.length, 0))
        weights = torch.eye(self.length) if self.weights is None else self.weights
        start = self.source[0]
        return Cut(self.rows, (first, last), weights[:, first - start : last - start].contiguous())

    def covered(self) -> Tensor:
        """Which rows have all the voxels that they are interpolated from, bool ``(rows,)``."""
        if self.weights is None:
            return torch.ones(self.length, dtype=torch.bool)
        return self.weights.sum(dim=1) > COVERED


@dataclass(frozen=True, slots=True)
class Blocks:
    """All blocks of an output grid: the product of the cuts of its axes.

    Attributes:
        z, y, x: cuts of each axis, in order.
    """

    z: tuple[Cut, ...]
    y: tuple[Cut, ...]
    x: tuple[Cut, ...]

    @classmethod
    def of(cls, back: tuple[csr_array, csr_array, csr_array]) -> Blocks:
        """Blocks of the grid that `back` interpolates to, ``(output, plan)`` per axis."""
        z, y, x = (
            _cuts(matrix, rows, source)
            for matrix, rows, source in zip(back, MOST_ROWS, MOST_SOURCE, strict=True)
        )
        return cls(z, y, x)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the output grid."""
        return self.z[-1].rows[1], self.y[-1].rows[1], self.x[-1].rows[1]

    @property
    def most_source(self) -> int:
        """Plan voxels that a block is interpolated from, at most."""
        z, y, x = (
            max(cut.source[1] - cut.source[0] for cut in cuts) for cuts in (self.z, self.y, self.x)
        )
        return z * y * x


def _cuts(matrix: csr_array, most_rows: int, most_source: int) -> tuple[Cut, ...]:
    size, plan = matrix.shape
    same = size == plan and abs(matrix - eye_array(size, format="csr")).nnz == 0
    step = max(1, min(most_rows, int(most_source * size / plan)))
    count = -(-size // step)
    edges = [size * i // count for i in range(count + 1)]
    found = []
    for first, last in itertools.pairwise(edges):
        rows = matrix[first:last]
        source = (int(rows.indices.min()), int(rows.indices.max()) + 1) if rows.nnz else (0, 0)
        weights = None if same else torch.from_numpy(rows[:, source[0] : source[1]].toarray())
        found.append(Cut((first, last), source, weights))
    return tuple(found)


def union(cuts: tuple[Cut, ...]) -> Interval:
    """Plan voxels that any of `cuts` needs."""
    needed = [cut.source for cut in cuts if cut.source[0] < cut.source[1]]
    return (min(s[0] for s in needed), max(s[1] for s in needed)) if needed else (0, 0)
