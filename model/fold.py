"""The merge, block by block: many decoders' claims to one label map per layer.

What a block needs of the passes before it lies in files: the label so far, and the best claim
of the tier in work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.model.blocks import Cut
from clnet.model.contest import Contender, settle
from clnet.model.geometry import Shape
from clnet.model.merge import Codebook, Merged
from clnet.model.readout import Block, Box, Claims, Readout
from clnet.model.scratch import Scratch

__all__ = ["Claimant", "Merger"]

Codes = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Claimant:
    """One decoder, and where it may claim voxels.

    Attributes:
        readout: what its sums mean.
        tier: its tier in the release.
        admitted: slices of the scan that admit each output, bool ``(outputs, Z)``.
        contested: its outputs that others of its tier look for too, and are asked about.
    """

    readout: Readout
    tier: int
    admitted: NDArray[np.bool_]
    contested: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _State:
    """One layer of one block: its labels so far, and the best claims of the tier in work."""

    codes: Codes
    held: Codes
    scores: NDArray[np.float32]

    def at(self, box: Box) -> _State:
        return _State(self.codes[box], self.held[box], self.scores[box])


class Merger:
    """Takes blocks pass by pass and writes label maps.

    Args:
        claimants: decoders that run, by key.
        passes: keys of the decoders of each pass; a tier ends before the next one begins.
        book: numbers of all anatomies that decoders may give, of skipped decoders too.
        reported: anatomies to write; the others only compete.
        shape: of the scan on its canonical grid.
        scratch: where label maps lie.
    """

    def __init__(
        self,
        claimants: Mapping[str, Claimant],
        passes: Sequence[Sequence[str]],
        book: Codebook,
        reported: Collection[str],
        shape: Shape,
        scratch: Scratch,
    ) -> None:
        self._claimants, self._book, self._shape = claimants, book, shape
        self._scratch = scratch
        self._last = max(0, len(passes) - 1)
        ends = {claimants[key].tier: index for index, keys in enumerate(passes) for key in keys}
        self._tiers = [
            sorted(
                {claimants[key].tier for key in keys} | {t for t, end in ends.items() if end == i}
            )
            for i, keys in enumerate(passes)
        ]
        self._ends = ends
        self._layer_of = np.array(["", *(output.layer for output in book.outputs)])
        self._suppressed, self._won, self._denied = np.zeros(
            (3, len(book.outputs) + 1), dtype=np.int64
        )
        self._kept: dict[str, _State] = {}
        self._codes = {
            key: np.array([0, *(book.code[key, o.anatomy] for o in c.readout.outputs)], np.uint16)
            for key, c in claimants.items()
        }
        self.labels: dict[str, NDArray[Any]] = {}
        self.names: dict[str, dict[int, str]] = {}
        self._tables: dict[str, NDArray[Any]] = {}
        for layer, anatomies in book.layers(reported).items():
            dtype = np.uint8 if len(anatomies) <= 255 else np.uint16
            table = np.zeros(len(book.outputs) + 1, dtype)
            for value, codes in enumerate(anatomies.values(), start=1):
                table[codes] = value
            self._tables[layer] = table
            self.labels[layer] = scratch.zeros(shape, dtype)
            self.names[layer] = dict(enumerate(anatomies, start=1))

    def __call__(
        self, index: int, where: tuple[Cut, Cut, Cut], blocks: Mapping[str, Block]
    ) -> None:
        """Fold the claims of pass `index` on one block of the scan.

        Args:
            index: of the pass.
            where: the block's cuts, along z, y and x.
            blocks: sums of the decoders that were computed there, by key.
        """
        if not blocks and not self._kept:
            return
        z, y, x = (slice(*cut.rows) for cut in where)
        found: dict[str, _State] = {layer: s.at((z, y, x)) for layer, s in self._kept.items()}
        for tier in self._tiers[index]:
            for key, claims in self._claims(tier, z, blocks):
                codes = self._gated(key, claims, z)
                self._claim(found, (z, y, x), claims.box, codes, claims.score)
            if self._ends[tier] == index:
                for state in found.values():
                    np.copyto(state.codes, state.held, where=state.held > 0)
                    state.held[...] = 0
        if index == self._last:
            for layer, state in found.items():
                self.labels[layer][z, y, x] = self._tables[layer][state.codes]
                self._won += np.bincount(state.codes.ravel(), minlength=len(self._won))

    def merged(self) -> Merged:
        """The label maps, once all passes are through."""
        suppressed = self._by_anatomy(self._suppressed)
        return Merged(
            self.labels,
            self.names,
            {anatomy: sum(lost.values()) for anatomy, lost in suppressed.items()},
            self._by_anatomy(self._won),
            self._by_anatomy(self._denied),
        )

    def _by_anatomy(self, counts: NDArray[np.int64]) -> dict[str, dict[str, int]]:
        """Voxels by code as anatomy to decoder to voxels, where there are any."""
        found: dict[str, dict[str, int]] = {}
        for code in np.flatnonzero(counts[1:]):
            anatomy = self._book.outputs[code].anatomy
            found.setdefault(anatomy, {})[self._book.keys[code]] = int(counts[code + 1])
        return found

    def _claims(
        self, tier: int, z: slice, blocks: Mapping[str, Block]
    ) -> Iterator[tuple[str, Claims]]:
        """What each decoder of a tier sees, without what a more certain one denies.

        In one part, or of a decoder that paints regions in one per layer; where others look for
        the same, in many.
        """
        contenders = []
        for key in (key for key in blocks if self._claimants[key].tier == tier):
            claimant, block = self._claimants[key], blocks[key]
            for layer in self._layers(key):
                contested = self._contested(key, layer)
                if contested:
                    admitted = claimant.admitted[contested, z]
                    contenders.append(
                        Contender(key, claimant.readout, block, layer, contested, admitted)
                    )
                    continue
                claims = claimant.readout.claims(block, layer)
                if claims.channel.size:
                    yield key, claims
        for key, claims, denied in settle(contenders):
            lost = self._codes[key][claims.channel[denied]]
            self._denied += np.bincount(lost, minlength=len(self._denied))
            claims.channel[denied] = 0
            yield key, claims

    def _layers(self, key: str) -> range:
        return range(len(self._claimants[key].readout.layers))

    def _contested(self, key: str, layer: int) -> tuple[int, ...]:
        claimant = self._claimants[key]
        channels = claimant.readout.layers[layer]
        return tuple(output for output in claimant.contested if output + 1 in channels)

    def _gated(self, key: str, claims: Claims, z: slice) -> Codes:
        """Codes of what is claimed on slices that admit it; the rest is counted."""
        rows = slice(z.start + claims.box[0].start, z.start + claims.box[0].stop)
        admitted = self._claimants[key].admitted[:, rows]
        allowed = np.concatenate((np.ones((1, admitted.shape[1]), bool), admitted))
        codes = self._codes[key][claims.channel]
        if not allowed.all():
            lost = ~allowed[claims.channel, np.arange(admitted.shape[1])[:, None, None]]
            self._suppressed += np.bincount(codes[lost], minlength=len(self._suppressed))
            codes[lost] = 0
        return codes

    def _claim(
        self,
        found: dict[str, _State],
        where: Box,
        box: Box,
        codes: Codes,
        scores: NDArray[np.float32],
    ) -> None:
        book = self._book
        for layer in self._tables:
            member = self._layer_of == layer
            member[0] = False
            wanted = member[codes]
            if not wanted.any():
                continue
            if layer not in found:
                found[layer] = self._open(layer, where)
            state = found[layer].at(box)
            wanted &= book.yields[state.codes, codes]
            new, old = codes[wanted], state.held[wanted]
            fine, old_fine = book.leaves[new], book.leaves[old]
            score, old_score = scores[wanted], state.scores[wanted]
            better = (
                (old == 0)
                | (fine < old_fine)
                | ((fine == old_fine) & (score > old_score))
                | ((fine == old_fine) & (score == old_score) & (book.rank[new] < book.rank[old]))
            )
            wanted[wanted] = better
            state.held[wanted] = codes[wanted]
            state.scores[wanted] = scores[wanted]

    def _open(self, layer: str, where: Box) -> _State:
        if not self._last:
            shape = tuple(part.stop - part.start for part in where)
            return _State(
                np.zeros(shape, np.uint16), np.zeros(shape, np.uint16), np.zeros(shape, np.float32)
            )
        self._kept[layer] = _State(
            self._scratch.zeros(self._shape, np.uint16),
            self._scratch.zeros(self._shape, np.uint16),
            self._scratch.zeros(self._shape, np.float32),
        )
        return self._kept[layer].at(where)
