"""What several decoders of one tier look for: the most certain of them decides if it is there.

A block is settled in stretches, and of each decoder no more is held than the part of it that was
read last; so memory grows neither with the anatomies they share nor with the block. Parts are cut
by each decoder's own classes and stretches where any part ends: neither can show in a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clnet.model.blocks import Blocks
from clnet.model.inference import LoadedDecoder
from clnet.model.outputs import outputs_of
from clnet.model.readout import LOGIT_VALUES, Block, Claims, Readout

__all__ = ["Contender", "held_of", "settle"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One decoder on one block, or one layer of a decoder that paints regions.

    Attributes:
        key: names the decoder.
        readout: what its sums mean.
        block: around what.
        layer: which of the readout's layers.
        outputs: those that another decoder of the tier looks for too.
        admitted: slices of the block that admit each of `outputs`, bool ``(outputs, Z)``.
    """

    key: str
    readout: Readout
    block: Block
    layer: int
    outputs: tuple[int, ...]
    admitted: NDArray[np.bool_]

    @property
    def anatomies(self) -> list[str]:
        """What `outputs` stand for."""
        return [self.readout.outputs[output].anatomy for output in self.outputs]


def held_of(decoder: LoadedDecoder, blocks: Blocks) -> int:
    """Bytes that a contender holds at most: the sums of a block, and what it says of a part.

    Of a voxel of a part that is a probability less than it has classes, a channel and a score:
    no more than five bytes a class. Of a decoder that paints regions, a part of each layer.
    """
    config = decoder.info.config
    parts = len({output.layer for output in outputs_of(decoder.info)}) if config.regions else 1
    sums = torch.float32.itemsize * decoder.channels * blocks.most_source
    return sums + parts * 5 * LOGIT_VALUES


def settle(contenders: Sequence[Contender]) -> Iterator[tuple[str, Claims, NDArray[np.bool_]]]:
    """Key and claims of each, stretch by stretch, and which voxels a more certain one denies.

    Args:
        contenders: all of one tier that share anatomies, on one block.
    """
    if not contenders:
        return
    names = dict.fromkeys(name for contender in contenders for name in contender.anatomies)
    seats = {name: seat for seat, name in enumerate(names)}
    readers = [_Reader(contender, seats) for contender in contenders]
    block = contenders[0].block
    height = block.y.length
    most = max(1, LOGIT_VALUES // (len(seats) * max(1, block.x.length)))
    line, lines = 0, block.z.length * height
    while line < lines:
        for reader in readers:
            reader.reach(line)
        end = _end(line, min(line + most, *(reader.end for reader in readers)), height)
        z, y = divmod(line, height)
        rows = slice(z, z + max(1, (end - line) // height))
        columns = slice(y, y + min(end - line, height))
        yield from _judged(readers, rows, columns, len(seats))
        line = end


class _Reader:
    """Reads the block of a contender part by part, line by line; of a part, any stretch."""

    def __init__(self, contender: Contender, seats: dict[str, int]) -> None:
        self.key, self.end = contender.key, 0
        self._contender = contender
        self._covered = contender.block.z.covered().numpy()
        self._parts = contender.readout.parts(contender.block, contender.outputs, contender.layer)
        self._part: Claims | None = None
        self.seats = np.array([seats[name] for name in contender.anatomies])
        self.channels = np.array(contender.outputs) + 1
        # of every channel the seat where it is judged; -1 for the last one, where all may stay
        self.judged = np.full(len(contender.readout.outputs) + 1, -1)
        self.judged[self.channels] = self.seats

    def reach(self, line: int) -> None:
        """Go on to the part that holds `line`, counted along y, then z."""
        if line < self.end:
            return
        self._part = None  # before the next one is made
        self._part = next(self._parts)
        rows, columns, _ = self._part.box
        self.end = (rows.stop - 1) * self._contender.block.y.length + columns.stop

    def at(self, rows: slice, columns: slice) -> Claims:
        """The claims in a stretch of the part that was reached."""
        assert self._part is not None
        z, y, x = self._part.box
        inside = (
            slice(rows.start - z.start, rows.stop - z.start),
            slice(columns.start - y.start, columns.stop - y.start),
        )
        return Claims(
            (rows, columns, x),
            self._part.channel[inside],
            self._part.score[inside],
            self._part.chosen[:, *inside],
        )

    def looks(self, rows: slice) -> NDArray[np.bool_]:
        """Where it has a say in each contested output, ``(outputs, Z)``."""
        found: NDArray[np.bool_] = self._covered[rows] & self._contender.admitted[:, rows]
        return found


def _end(first: int, last: int, height: int) -> int:
    """The end of a stretch that is a box: whole planes, or lines of a single one."""
    plane = (first // height + 1) * height
    if first % height or last <= plane:
        return min(last, plane)
    return last // height * height


def _judged(
    readers: Sequence[_Reader], rows: slice, columns: slice, count: int
) -> Iterator[tuple[str, Claims, NDArray[np.bool_]]]:
    """A stretch of all readers, once each had its say about the `count` anatomies."""
    found = [reader.at(rows, columns) for reader in readers]
    shape = found[0].channel.shape
    best = np.full((count, *shape), -np.inf, np.float32)
    there = np.ones((count + 1, *shape), bool)
    for reader, claims in zip(readers, found, strict=True):
        looks = reader.looks(rows)[:, :, None, None]
        certain = np.where(looks, np.abs(claims.chosen - 0.5), -1)
        says = claims.channel == reader.channels[:, None, None, None]
        so_far = best[reader.seats]
        wins = (certain > so_far) | ((certain == so_far) & says)
        best[reader.seats] = np.where(wins, certain, so_far)
        there[reader.seats] = np.where(wins, says, there[reader.seats])
    for reader, claims in zip(readers, found, strict=True):
        seat = reader.judged[claims.channel][None]
        yield reader.key, claims, ~np.take_along_axis(there, seat, axis=0)[0]
