"""Which decoders run together, and on which tiles, so that a scan fits the memory at hand.

A pass walks the whole scan once, slab by slab, and sums the windows of its decoders; a tile is
the part of a slice that is summed at once. More passes mean that the encoder sees a window
again, more tiles that everything sees the windows on their borders again. Neither can show in
a result. Nothing here computes with tensors: a schedule is a pure function of sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from clnet.errors import InputError
from clnet.model.blocks import Blocks, Cut, union
from clnet.model.grid import Grid, Interval

__all__ = ["Demand", "Schedule", "Tile", "Walk", "schedule"]

FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True)
class Demand:
    """What one decoder asks for.

    Attributes:
        key: names it.
        tier: passes of an earlier tier come first.
        channels: that its windows are summed in.
        z: slices of the plan's grid that it is wanted on.
        cost: of one window, supporters included, in the unit of the encoder's.
        bond: decoders of one bond are merged together and so share a pass; its own by default.
        held: bytes beside its sums, while its blocks are merged with those of its bond.
    """

    key: str
    tier: int
    channels: int
    z: Interval
    cost: float
    bond: str = ""
    held: int = 0


@dataclass(frozen=True, slots=True)
class Tile:
    """Blocks of a slice that are summed together.

    Attributes:
        y, x: indices of the blocks, first and one past the last.
        rows, columns: plan voxels that they need.
    """

    y: Interval
    x: Interval
    rows: Interval
    columns: Interval


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a scan is walked.

    Attributes:
        passes: keys of the decoders of each pass.
        tiles: of every pass.
        memory: bytes that it takes at most.
        budget: bytes that it may take.
        encodings: windows that are encoded, over all passes and tiles.
        fewest: windows that would be encoded in one pass without tiles.
    """

    passes: tuple[tuple[str, ...], ...]
    tiles: tuple[Tile, ...]
    memory: int
    budget: int
    encodings: int
    fewest: int

    def describe(self) -> str:
        """The schedule in one sentence."""
        decoders = sum(len(keys) for keys in self.passes)
        return (
            f"{_count(decoders, 'decoder')} in {_count(len(self.passes), 'pass', 'passes')} and "
            f"{_count(len(self.tiles), 'tile')}: {self.encodings} windows encoded "
            f"({self.fewest} are the least), {self.memory / 2**20:.0f} of "
            f"{self.budget / 2**20:.0f} MiB"
        )


class Walk:
    """When the slices of a volume come and go, as windows are added row by row along z."""

    def __init__(self, grid: Grid, blocks: Blocks) -> None:
        self.axis, self.cuts = grid.z, blocks.z
        rows = range(len(grid.z.starts))
        self.flushed = [
            next(row for row in rows if grid.z.final(row) >= cut.source[1]) for cut in blocks.z
        ]
        lows = [
            min((c.source[0] for c, r in zip(blocks.z, self.flushed, strict=True) if r >= row))
            for row in rows
            if any(r >= row for r in self.flushed)
        ]
        self.lows = lows + [grid.z.size] * (len(rows) - len(lows))
        ends = (min(start + grid.z.patch, grid.z.size) for start in grid.z.starts)
        self.depth = max(1, *(end - low for end, low in zip(ends, self.lows, strict=True)))

    def windows(self, z: Interval) -> range:
        """Rows of windows that slices `z` are made of."""
        return self.axis.touching(z)

    def alive(self, z: Interval) -> range:
        """Rows during which sums of slices `z` are held."""
        first = self.axis.touching(z)[0]
        needing = [
            row
            for cut, row in zip(self.cuts, self.flushed, strict=True)
            if cut.source[0] < z[1] and z[0] < cut.source[1]
        ]
        return range(first, max([first, *needing]) + 1)


def schedule(
    grid: Grid,
    blocks: Blocks,
    demands: Sequence[Demand],
    encoder_cost: float,
    fixed: int,
    budget: int,
) -> Schedule:
    """The cheapest schedule found that fits `budget`.

    Decoders are put, tier by tier, where they first fit; the tiling with the least cost wins.

    Args:
        grid: windows over the plan's grid.
        blocks: of the scan's grid.
        demands: of the decoders to run.
        encoder_cost: of one window.
        fixed: bytes that any schedule takes.
        budget: bytes that may be taken.

    Raises:
        InputError: not even the smallest schedule fits.
    """
    walk = Walk(grid, blocks)
    units = _units(demands)
    least_work = encoder_cost * len(_rows(walk, demands)) + sum(
        d.cost * len(walk.windows(d.z)) for d in demands
    )
    tilings = sorted(
        (
            _Tiling.of(grid, blocks, ny, nx)
            for ny, nx in product(*map(_counts, (blocks.y, blocks.x)))
        ),
        key=lambda tiling: (tiling.windows, len(tiling.tiles)),
    )
    best: tuple[float, _Tiling, list[_Pass]] | None = None
    for tiling in tilings:
        if best is not None and tiling.windows * least_work >= best[0]:
            break  # and so are all that follow
        passes = _packed(walk, units, tiling.area, budget - fixed)
        if passes is not None:
            work = sum(
                encoder_cost * len(_rows(walk, p.demands))
                + sum(d.cost * len(walk.windows(d.z)) for d in p.demands)
                for p in passes
            )
            if best is None or tiling.windows * work < best[0]:
                best = tiling.windows * work, tiling, passes
    if best is None:
        smallest = min(tiling.area for tiling in tilings)
        need = fixed + max(_peak(walk, unit, smallest) for unit in units)
        has = round(budget / 2**20)
        takes = max(-(-need >> 20), has + 1)  # whole MiB that are enough
        raise InputError(
            f"memory budget of {has} MiB: this scan takes {takes} MiB at least; allow more"
        )
    _, tiling, passes = best
    return Schedule(
        tuple(tuple(d.key for d in p.demands) for p in passes),
        tiling.tiles,
        fixed + max((int(p.load.max()) for p in passes), default=0),
        budget,
        tiling.windows * sum(len(_rows(walk, p.demands)) for p in passes),
        tilings[0].windows * len(_rows(walk, demands)),
    )


@dataclass(frozen=True, slots=True)
class _Tiling:
    tiles: tuple[Tile, ...]
    area: int
    windows: int

    @classmethod
    def of(cls, grid: Grid, blocks: Blocks, ny: int, nx: int) -> _Tiling:
        rows, columns = _split(blocks.y, ny), _split(blocks.x, nx)
        tiles = tuple(
            Tile(y, x, union(blocks.y[slice(*y)]), union(blocks.x[slice(*x)]))
            for y, x in product(rows, columns)
        )
        area = max((t.rows[1] - t.rows[0]) * (t.columns[1] - t.columns[0]) for t in tiles)
        windows = sum(len(grid.y.touching(t.rows)) * len(grid.x.touching(t.columns)) for t in tiles)
        return cls(tiles, area, windows)


@dataclass(slots=True)
class _Pass:
    """Decoders that run together, and the bytes of their sums at every row of windows."""

    demands: list[Demand]
    load: NDArray[np.int64]


def _units(demands: Sequence[Demand]) -> list[list[Demand]]:
    """Decoders that must share a pass, in the order of tiers, then from the bottom up."""
    found: dict[tuple[int, str], list[Demand]] = {}
    for demand in demands:
        found.setdefault((demand.tier, demand.bond or demand.key), []).append(demand)
    return sorted(
        found.values(), key=lambda unit: (unit[0].tier, min(d.z for d in unit), unit[0].key)
    )


def _packed(
    walk: Walk, units: Sequence[Sequence[Demand]], area: int, room: int
) -> list[_Pass] | None:
    """The passes, or None where one unit alone does not fit."""
    passes: list[_Pass] = []
    tier, floor, reached = None, 0, 0
    for unit in units:
        if unit[0].tier != tier:
            # nothing of a tier may come before all of the one below it
            tier, floor = unit[0].tier, reached
        load = _load(walk, unit, area)
        if load.max() > room:
            return None
        for index in range(floor, len(passes)):
            if (passes[index].load + load).max() <= room:
                break
        else:
            index = len(passes)
            passes.append(_Pass([], np.zeros_like(load)))
        passes[index].demands += unit
        passes[index].load += load
        reached = max(reached, index)
    return passes


def _load(walk: Walk, unit: Sequence[Demand], area: int) -> NDArray[np.int64]:
    load = np.zeros(len(walk.axis.starts), np.int64)
    for demand in unit:
        depth = min(walk.depth, demand.z[1] - demand.z[0])
        alive = walk.alive(demand.z)
        load[alive.start : alive.stop] += FLOAT * demand.channels * depth * area + demand.held
    return load


def _peak(walk: Walk, unit: Sequence[Demand], area: int) -> int:
    return int(_load(walk, unit, area).max())


def _rows(walk: Walk, demands: Sequence[Demand]) -> set[int]:
    return {row for demand in demands for row in walk.windows(demand.z)}


def _counts(cuts: tuple[Cut, ...]) -> range:
    return range(1, len(cuts) + 1)


def _split(cuts: tuple[Cut, ...], count: int) -> list[Interval]:
    edges = [len(cuts) * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"
