"""From the averaged windows of one decoder to its scores on the scan's grid, block by block.

Averaging and resampling are linear and so is the last head: they commute, so they are done in
the fewer channels, and the head comes last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clnet.model.blocks import Cut
from clnet.model.outputs import Output, fold_logits

__all__ = ["Block", "Box", "Claims", "Readout"]

Box = tuple[slice, slice, slice]

LOGIT_VALUES = 1 << 18  # of one decoder, made at once: what caches hold


@dataclass(frozen=True, slots=True)
class Block:
    """The averaged windows of one decoder around one block of the output grid.

    Attributes:
        z, y, x: the block's cuts; that of z narrowed to the slices that were computed.
        sums: ``(channels, Z, Y, X)`` on the plan's voxels of the cuts.
    """

    z: Cut
    y: Cut
    x: Cut
    sums: Tensor


@dataclass(frozen=True, slots=True)
class Claims:
    """What one decoder sees in a box of a block.

    Attributes:
        box: rows of the block, (z, y, x).
        channel: 0 for background, ``k + 1`` for output ``k``; uint16 ``(Z, Y, X)``.
        score: calibrated probability of that channel, float32.
        chosen: calibrated probabilities of the outputs asked for, float32 ``(n, Z, Y, X)``.
    """

    box: Box
    channel: NDArray[np.uint16]
    score: NDArray[np.float32]
    chosen: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Readout:
    """How the sums of one decoder are read.

    Attributes:
        outputs: the anatomies that the decoder reports.
        temperature: calibrates its logits.
        head: makes logits of what is summed; None where that is logits already.
        ignored: channels of an imported network that stand for nothing, but win voxels.
        regions: outputs do not exclude each other: they are painted in order, those of one
            layer over each other, each where it beats background.
    """

    outputs: tuple[Output, ...]
    temperature: float = 1.0
    head: nn.Conv3d | None = None
    ignored: tuple[int, ...] = ()
    regions: bool = False

    @property
    def layers(self) -> list[list[int]]:
        """Channels that exclude each other, after folding: all, or per layer where painted."""
        if not self.regions:
            return [list(range(1, len(self.outputs) + 1))]
        layers: dict[str, list[int]] = {}
        for channel, output in enumerate(self.outputs, start=1):
            layers.setdefault(output.layer, []).append(channel)
        return list(layers.values())

    def logits(self, block: Block, rows: slice | None = None) -> Tensor:
        """The decoder's own logits ``(K + 1, Z, Y, X)`` on rows along z of the block."""
        return self._head(_resampled(block, rows or slice(0, block.z.length), _ALL, _ALL))

    def claims(self, block: Block, layer: int = 0) -> Claims:
        """The best channel of every voxel in the part of the block where one may be found.

        Args:
            block: around what.
            layer: which of :attr:`layers`.
        """
        box = self._reach(block)
        shape = tuple(part.stop - part.start for part in box)
        channel = np.zeros(shape, np.uint16)
        score = np.zeros(shape, np.float32)
        for rows, columns in _parts(box, self._classes(block)):
            found = self._read(block, (rows, columns, box[2]), (), layer)
            at = _shifted(rows, box[0]), _shifted(columns, box[1])
            channel[at], score[at] = found.channel, found.score
        return Claims(box, channel, score, np.zeros((0, *shape), np.float32))

    def parts(self, block: Block, chosen: Sequence[int], layer: int = 0) -> Iterator[Claims]:
        """The whole block, background included, in parts of a bounded size.

        Along y, then z; a part holds whole planes, or lines of one plane.

        Args:
            block: around what.
            chosen: outputs whose probabilities are wanted too.
            layer: which of :attr:`layers`.
        """
        box = _whole(block)
        for rows, columns in _parts(box, self._classes(block)):
            yield self._read(block, (rows, columns, box[2]), chosen, layer)

    def _read(self, block: Block, box: Box, chosen: Sequence[int], layer: int) -> Claims:
        logits = self._head(_resampled(block, *box))
        folded = fold_logits(logits, self.outputs, self.temperature, self.ignored)
        calibrated = folded if self.temperature == 1 else folded / self.temperature
        if self.regions:
            index = _painted(folded, self.layers[layer])
            others, probability = calibrated[0], torch.sigmoid
        else:
            index = folded.argmax(dim=0)
            others, probability = torch.logsumexp(calibrated, dim=0), torch.exp
        best = calibrated.gather(0, index[None])[0]
        score = probability(best - others).cpu().numpy()
        wanted = np.zeros((len(chosen), *score.shape), np.float32)
        for k, output in enumerate(chosen):
            wanted[k] = probability(calibrated[output + 1] - others).cpu().numpy()
        index = torch.where(index > len(self.outputs), 0, index)
        channel = index.cpu().numpy().astype(np.uint16)
        for axis, cut in enumerate((block.z, block.y, block.x)):
            covered = cut.covered().numpy()[box[axis]]
            np.moveaxis(channel, axis, 0)[~covered] = 0
        return Claims(box, channel, score, wanted)

    def _classes(self, block: Block) -> int:
        """Values that a voxel takes on the way from sums to logits, at most."""
        channels = len(block.sums)
        return channels if self.head is None else max(channels, self.head.out_channels)

    def _head(self, values: Tensor) -> Tensor:
        if self.head is None:
            return values
        weight = self.head.weight.detach().float().flatten(1)
        bias = None if self.head.bias is None else self.head.bias.detach().float()[:, None]
        logits = weight @ values.flatten(1)
        return (logits if bias is None else logits + bias).view(-1, *values.shape[1:])

    def _reach(self, block: Block) -> Box:
        """The part of the block that a voxel of the plan with an anatomy contributes to.

        An anatomy's folded logit is convex in the logits, and background's is no less than that
        of channel 0: where that wins at all neighbours, background wins between them.
        """
        if not all(cut.length for cut in (block.z, block.y, block.x)) or not block.sums.numel():
            return _NOWHERE
        cuts = (block.z, block.y, block.x)
        if np.prod([cut.length for cut in cuts]) <= block.sums[0].numel():
            return _whole(block)  # looking at the plan's voxels first would save nothing
        planes = []
        for plane in block.sums.unbind(dim=1):
            logits = self._head(plane[:, None].contiguous())
            folded = fold_logits(logits, self.outputs, self.temperature, self.ignored)
            planes.append((folded[1:] > logits[:1]).any(dim=0))
        found = torch.cat(planes).cpu()
        seen = (found.any(2).any(1), found.any(2).any(0), found.any(1).any(0))
        z, y, x = (_reached(cut, near) for cut, near in zip(cuts, seen, strict=True))
        return (z, y, x) if z.stop and y.stop and x.stop else _NOWHERE


def _parts(box: Box, classes: int) -> Iterator[tuple[slice, slice]]:
    """Stretches along z and y of which no more than :data:`LOGIT_VALUES` are made at once."""
    z, y, x = box
    line = classes * (x.stop - x.start)
    lines = max(1, LOGIT_VALUES // max(1, line))
    height = y.stop - y.start
    planes = max(1, lines // max(1, height))
    for rows in _stretches(z, planes):
        for columns in _stretches(y, min(lines, height)):
            yield rows, columns


def _stretches(whole: slice, step: int) -> Iterator[slice]:
    for first in range(whole.start, whole.stop, max(1, step)):
        yield slice(first, min(first + step, whole.stop))


def _shifted(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def _painted(folded: Tensor, channels: Sequence[int]) -> Tensor:
    """Channel of the topmost region of every voxel, or 0."""
    index = torch.zeros(folded.shape[1:], dtype=torch.int64, device=folded.device)
    for channel in channels:
        index[folded[channel] > folded[0]] = channel
    return index


_ALL = slice(None)
_NOWHERE = (slice(0, 0), slice(0, 0), slice(0, 0))


def _whole(block: Block) -> Box:
    return slice(0, block.z.length), slice(0, block.y.length), slice(0, block.x.length)


def _reached(cut: Cut, near: Tensor) -> slice:
    """Rows that any of the plan's voxels in `near` contributes to."""
    if cut.weights is None:
        rows = near.nonzero().flatten()
    else:
        rows = (cut.weights[:, near] > 0).any(dim=1).nonzero().flatten()
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)


def _resampled(block: Block, z: slice, y: slice, x: slice) -> Tensor:
    """Sums ``(channels, Z, Y, X)`` interpolated to a box of the block."""
    values = block.sums
    values = values[:, z] if block.z.weights is None else _along_z(values, block.z.weights[z])
    if block.x.weights is None:
        values = values[..., x]
    else:
        values = values @ block.x.weights[x].to(values.device).T
    if block.y.weights is None:
        return values[:, :, y].contiguous()
    return block.y.weights[y].to(values.device) @ values


def _along_z(values: Tensor, weights: Tensor) -> Tensor:
    rows = weights.to(values.device) @ values.flatten(2)
    return rows.view(len(values), len(weights), *values.shape[2:])
