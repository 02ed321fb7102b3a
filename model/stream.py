"""A scan walked slab by slab: windows are encoded, decoded, summed, and handed on as blocks.

Memory holds the windows in work and the slices that further windows still add to. What does not
fit at once is done in more passes or tiles (:mod:`clnet.model.schedule`); the bits of a block
are the same in any of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from time import perf_counter
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from clnet.model.accumulate import Accumulator
from clnet.model.blocks import Blocks, Cut
from clnet.model.encoder import Encoder
from clnet.model.grid import Grid, Interval
from clnet.model.inference import (
    DecoderRunner,
    LoadedDecoder,
    Pending,
    SlidingWindow,
    closure,
    finest_logits,
    resolved,
)
from clnet.model.numerics import convolving
from clnet.model.readout import Block
from clnet.model.schedule import Schedule, Tile, Walk
from clnet.model.watch import Watch

__all__ = ["Consumer", "Stream"]

Index = tuple[int, int, int]


class Consumer(Protocol):
    """Takes every block of the output grid once per pass, from the first slice to the last."""

    def __call__(
        self, index: int, where: tuple[Cut, Cut, Cut], blocks: Mapping[str, Block]
    ) -> None:
        """Take a block of pass `index`; `blocks` holds the decoders that were computed there."""


@dataclass(slots=True)
class Stream:
    """One scan, and the networks that are run on it.

    Attributes:
        image: normalised ``(Z, Y, X)`` on the plan's grid; it may lie in a file.
        air: pads a volume that is smaller than a window.
        grid: windows over the image.
        blocks: of the output grid.
        encoder: on the device to compute on.
        decoders: to run and all they lean on, by hash, supporters first.
        slices: ref of each decoder to run to the plan slices it is wanted on.
        window: precision, mirroring, windows in flight.
        run: computes one decoder on one window.
        seconds: spent on networks, and on what takes the blocks.
    """

    image: NDArray[Any]
    air: float
    grid: Grid
    blocks: Blocks
    encoder: Encoder
    decoders: Mapping[str, LoadedDecoder]
    slices: Mapping[str, Interval]
    window: SlidingWindow
    run: DecoderRunner
    seconds: dict[str, float] = field(default_factory=lambda: {"network": 0.0, "fold": 0.0})

    @torch.inference_mode()
    def flow(self, schedule: Schedule, consume: Consumer, watch: Watch) -> None:
        """Compute all blocks.

        Raises:
            Cancelled: `watch` was asked to stop.
        """
        began = perf_counter()
        by_ref = {decoder.ref: decoder for decoder in self.decoders.values()}
        steps = _Steps(watch, schedule, self.blocks)
        for (index, keys), tile in product(enumerate(schedule.passes), schedule.tiles):
            targets = [by_ref[key] for key in keys]
            walk = Walk(self.grid, self.blocks)
            sums: dict[str, Accumulator] = {}
            for row in range(len(self.grid.z.starts)):
                active = [d for d in targets if row in walk.windows(self.slices[d.ref])]
                for decoder in active:
                    if decoder.ref not in sums:
                        sums[decoder.ref] = self._accumulator(decoder, tile, walk.depth)
                windows = self.grid.row(row, tile.rows, tile.columns) if active else []
                adding = _Adding(self, sums)
                for window in windows:
                    self._see(window, active, adding)
                    steps.window()
                adding.finish()
                self._hand_on(index, row, walk, tile, sums, consume, steps)
                low = walk.lows[row + 1] if row + 1 < len(walk.lows) else self.grid.z.size
                for ref in list(sums):
                    sums[ref].release(low)
                    if row + 1 not in walk.alive(self.slices[ref]):
                        del sums[ref]
        self.seconds["network"] = perf_counter() - began - self.seconds["fold"]

    def _accumulator(self, decoder: LoadedDecoder, tile: Tile, depth: int) -> Accumulator:
        return Accumulator(
            decoder.channels,
            self.slices[decoder.ref],
            tile.rows,
            tile.columns,
            depth,
            self.encoder.device,
        )

    def _see(self, window: Index, active: Sequence[LoadedDecoder], adding: _Adding) -> None:
        """Run encoder and decoders on one window, mirrored ones included."""
        patch = self.grid.cut(self.image, window, self.air).to(self.encoder.device)[None, None]
        needed = closure(active, self.decoders)
        wanted = {decoder.sha256 for decoder in active}
        leaned_on = {s.sha256 for d in needed for s in d.info.config.supporters}
        for flips in self.window.flips:
            axes = [axis + 2 for axis in flips]
            with convolving(self.window.precision, patch.device):
                features = self.encoder(self.window.seen(patch.flip(axes) if axes else patch))
            logits: dict[str, Sequence[Tensor]] = {}
            adding.begin()
            for decoder in needed:
                support = [logits[s.sha256] for s in decoder.info.config.supporters]
                outputs = self.run(decoder, features, support)
                if decoder.sha256 in leaned_on:
                    outputs = resolved(outputs)
                    logits[decoder.sha256] = finest_logits(decoder, outputs, self.window.precision)
                if decoder.sha256 in wanted:
                    adding.add(decoder.ref, window, outputs, flips)

    def _hand_on(
        self,
        index: int,
        row: int,
        walk: Walk,
        tile: Tile,
        sums: Mapping[str, Accumulator],
        consume: Consumer,
        steps: _Steps,
    ) -> None:
        """Give away the blocks that no later row of windows adds to."""
        began = perf_counter()
        complete = [z for z, last in zip(self.blocks.z, walk.flushed, strict=True) if last == row]
        for z in complete:
            held = {}
            for ref, accumulator in sums.items():
                cut = z.narrowed(*self.slices[ref])
                if cut.source[0] < cut.source[1]:
                    held[ref] = cut, accumulator
            for y in self.blocks.y[slice(*tile.y)]:
                for x in self.blocks.x[slice(*tile.x)]:
                    steps.watch.check()
                    consume(index, (z, y, x), _Blocks(held, y, x))
                steps.row(z)
        self.seconds["fold"] += perf_counter() - began


class _Steps:
    """Tells of every window that was seen, and of every row of blocks that was handed on."""

    def __init__(self, watch: Watch, schedule: Schedule, blocks: Blocks) -> None:
        self.watch, self._windows, self._slices = watch, schedule.encodings, blocks.shape[0]
        rows = len(blocks.z) * sum(tile.y[1] - tile.y[0] for tile in schedule.tiles)
        self._steps = schedule.encodings + len(schedule.passes) * rows
        self._seen, self._done = 0, 0

    def window(self) -> None:
        self._seen += 1
        self._tell(f"window {self._seen} of {self._windows}")

    def row(self, z: Cut) -> None:
        self._tell(f"merging slices up to {z.rows[1]} of {self._slices}")

    def _tell(self, text: str) -> None:
        self._done += 1
        self.watch.tell(self._done / self._steps, text)


class _Blocks(Mapping[str, Block]):
    """The blocks of several decoders at one place, each read when it is asked for.

    Together their sums would take memory that grows with the decoders of a pass.
    """

    def __init__(self, held: Mapping[str, tuple[Cut, Accumulator]], y: Cut, x: Cut) -> None:
        self._held, self._y, self._x = held, y, x

    def __getitem__(self, ref: str) -> Block:
        z, sums = self._held[ref]
        y, x = self._y, self._x
        return Block(z, y, x, sums.read(z.source, y.source, x.source))

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


class _Adding:
    """Adds what windows give in the order of the windows, some of it awaited."""

    def __init__(self, stream: Stream, sums: Mapping[str, Accumulator]) -> None:
        self._stream, self._sums = stream, sums
        self._share = 1 / len(stream.window.flips)
        self._waiting: deque[list[tuple[str, Index, Sequence[Tensor] | Pending, Any]]] = deque()

    def begin(self) -> None:
        """A window comes; the oldest is waited for where too many are pending."""
        while len(self._waiting) >= self._stream.window.in_flight:
            self._settle()
        self._waiting.append([])

    def add(
        self,
        ref: str,
        window: Index,
        outputs: Sequence[Tensor] | Pending,
        flips: tuple[int, ...],
    ) -> None:
        """Add at once what is there, unless it would overtake what was promised before it."""
        promised = any(entry[0] == ref for batch in self._waiting for entry in batch)
        if isinstance(outputs, Sequence) and not promised:
            self._sum(ref, window, outputs, flips)
        else:
            self._waiting[-1].append((ref, window, outputs, flips))

    def finish(self) -> None:
        """Wait for everything."""
        while self._waiting:
            self._settle()

    def _settle(self) -> None:
        for ref, window, outputs, flips in self._waiting.popleft():
            self._sum(ref, window, resolved(outputs), flips)

    def _sum(
        self, ref: str, window: Index, outputs: Sequence[Tensor], flips: tuple[int, ...]
    ) -> None:
        output = self._stream.window.unseen(outputs[0])[0]
        output = output.flip([axis + 1 for axis in flips]) if flips else output
        self._sums[ref].add(self._stream.grid, window, output, self._share)
