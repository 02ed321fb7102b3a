"""The merge: many decoders' logits to one label map per layer, on the scan's own grid.

Tiers are folded one after the other: a later tier claims only voxels that the earlier ones
left background in that layer, or gave to an ancestor of the claimed anatomy. Within a tier
finer anatomies come before coarser ones, then the calibrated score decides, then the canonical
id; this order is total, so the result does not depend on the order of decoders.

The scan is walked in blocks of slices, and per decoder only where it may find something.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import InputError
from clnet.model.geometry import Shape, linear_matrix
from clnet.model.inference import Slab
from clnet.model.outputs import Output

__all__ = ["Claimant", "Codebook", "Fold", "MergePolicy", "Merged", "is_ancestor", "merge"]

BLOCK_VOXELS = 1 << 22  # of the scan, merged at once
LOGIT_VOXELS = 1 << 23  # of one decoder's channels, resampled at once

Codes = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class MergePolicy:
    """How a release turns logits into labels.

    Attributes:
        gating: drop what lies outside an anatomy's body range.
        calibration: divide logits by each decoder's temperature before comparing.
        largest_component: anatomies of which only the largest connected part is kept.
    """

    gating: bool = True
    calibration: bool = True
    largest_component: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The policy as JSON-able values."""
        return asdict(self) | {"largest_component": list(self.largest_component)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MergePolicy:
        """Inverse of :meth:`to_dict`; what is not given keeps its default.

        Raises:
            InputError: a setting that does not exist.
        """
        known = {"gating", "calibration", "largest_component"}
        if set(values) - known:
            raise InputError(f"merge policy: unknown {sorted(set(values) - known)}, not {known}")
        kept = tuple(values.get("largest_component", ()))
        return cls(**(dict(values) | {"largest_component": kept}))


@dataclass(frozen=True, slots=True)
class Claimant:
    """One decoder's folded logits and where it may claim voxels.

    Attributes:
        outputs: the anatomies it reports.
        tier: its tier in the release.
        slab: folded logits ``(1 + outputs, slices, Y, X)`` on the plan grid.
        admitted: slices of the scan that admit each output, bool ``(outputs, Z)``.
    """

    outputs: tuple[Output, ...]
    tier: int
    slab: Slab
    admitted: NDArray[np.bool_]


class Codebook:
    """Numbers for anatomies while merging, and what the order between them is.

    Numbers go up by tier, then id, so that what an older release had keeps its label values.
    """

    def __init__(self, outputs: Iterable[tuple[int, Output]]) -> None:
        first: dict[str, tuple[int, Output]] = {}
        for tier, output in outputs:
            known = first.get(output.anatomy)
            if known is None or tier < known[0]:
                first[output.anatomy] = (tier, output)
        ordered = sorted(first.values(), key=lambda entry: (entry[0], entry[1].anatomy))
        self.outputs = tuple(output for _, output in ordered)
        self.code = {output.anatomy: i for i, output in enumerate(self.outputs, start=1)}
        size = len(self.outputs) + 1
        by_id = sorted(self.code)
        self.leaves = np.array([0, *(len(o.members) for o in self.outputs)])
        self.rank = np.array([0, *(by_id.index(o.anatomy) for o in self.outputs)])
        self.yields = np.zeros((size, size), bool)
        self.yields[0] = True
        for earlier in self.outputs:
            for claim in self.outputs:
                self.yields[self.code[earlier.anatomy], self.code[claim.anatomy]] = is_ancestor(
                    earlier, claim
                )

    def layers(self, reported: Collection[str]) -> dict[str, list[int]]:
        """Layer to the codes of its anatomies among `reported`, ascending."""
        found: dict[str, list[int]] = {}
        for code, output in enumerate(self.outputs, start=1):
            if output.anatomy in reported:
                found.setdefault(output.layer, []).append(code)
        return dict(sorted(found.items()))


def is_ancestor(earlier: Output, claim: Output) -> bool:
    """Whether `earlier` contains `claim`: as a composite, or as a parent in the vocabulary."""
    if set(claim.members) < set(earlier.members):
        return True
    known = vocabulary()
    parent = known[claim.anatomy].parent if claim.anatomy in known else None
    while parent is not None and parent != earlier.anatomy:
        parent = known[parent].parent
    return parent is not None


@dataclass(frozen=True, slots=True)
class Merged:
    """The result on the scan's canonical grid.

    Attributes:
        labels: layer to label map ``(Z, Y, X)``, uint8, or uint16 above 255 labels.
        names: layer to label value to anatomy.
        suppressed: anatomy to the voxels that gating took from it.
    """

    labels: dict[str, NDArray[Any]]
    names: dict[str, dict[int, str]]
    suppressed: dict[str, int]


class Fold(Protocol):
    """What merges claimants: :func:`merge`, in this process or in another."""

    def __call__(
        self,
        claimants: Sequence[Claimant],
        book: Codebook,
        reported: Collection[str],
        depth: int,
        shape: Shape,
        progress: Callable[[float, str], None] | None = None,
    ) -> Merged:
        """As :func:`merge`."""


def merge(
    claimants: Sequence[Claimant],
    book: Codebook,
    reported: Collection[str],
    depth: int,
    shape: Shape,
    progress: Callable[[float, str], None] | None = None,
) -> Merged:
    """Fold `claimants` into label maps.

    Args:
        claimants: decoders with logits; their order does not matter.
        book: numbers of all anatomies that decoders may give, of skipped decoders too.
        reported: anatomies to write; the others only compete.
        depth: slices of the plan grid.
        shape: of the scan on its canonical grid.
        progress: told the fraction of slices done.
    """
    layers = book.layers(reported)
    labels, tables, names = {}, {}, {}
    for layer, codes in layers.items():
        dtype = np.uint8 if len(codes) <= 255 else np.uint16
        tables[layer] = np.zeros(len(book.outputs) + 1, dtype)
        tables[layer][codes] = np.arange(1, len(codes) + 1)
        labels[layer] = np.zeros(shape, dtype)
        names[layer] = {i: book.outputs[c - 1].anatomy for i, c in enumerate(codes, start=1)}
    suppressed = np.zeros(len(book.outputs) + 1, np.int64)
    sources = [_Source(claimant, book, depth, shape) for claimant in claimants]
    step = max(1, BLOCK_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        fold = _Fold(book, layers, (stop - start, *shape[1:]))
        for tier in sorted({claimant.tier for claimant in claimants}):
            for source in sources:
                if source.tier == tier:
                    for box, claimed, scores in source.claims(start, stop, suppressed):
                        fold.claim(box, claimed, scores)
            fold.close_tier()
        for layer, table in tables.items():
            labels[layer][start:stop] = table[fold.codes[layer]]
        if progress is not None:
            progress(stop / shape[0], f"slice {stop} of {shape[0]}")
    lost = {o.anatomy: int(n) for o, n in zip(book.outputs, suppressed[1:], strict=True) if n}
    return Merged(labels, names, lost)


class _Fold:
    """Best claims per layer over one block of slices."""

    def __init__(self, book: Codebook, layers: dict[str, list[int]], shape: Shape) -> None:
        self.book = book
        layer_of = np.array(["", *(output.layer for output in book.outputs)])
        self.member = {layer: layer_of == layer for layer in layers}
        self.codes = {layer: np.zeros(shape, np.uint16) for layer in layers}
        self.best: dict[str, tuple[Codes, NDArray[np.float32]]] = {}

    def claim(self, box: tuple[slice, ...], codes: Codes, scores: NDArray[np.float32]) -> None:
        book = self.book
        for layer, member in self.member.items():
            if not member[codes].any():
                continue
            if layer not in self.best:
                shape = self.codes[layer].shape
                self.best[layer] = np.zeros(shape, np.uint16), np.zeros(shape, np.float32)
            held, held_scores = (array[box] for array in self.best[layer])
            where = member[codes] & book.yields[self.codes[layer][box], codes]
            new, old = codes[where], held[where]
            fine, old_fine = book.leaves[new], book.leaves[old]
            score, old_score = scores[where], held_scores[where]
            better = (
                (old == 0)
                | (fine < old_fine)
                | ((fine == old_fine) & (score > old_score))
                | ((fine == old_fine) & (score == old_score) & (book.rank[new] < book.rank[old]))
            )
            where[where] = better
            held[where] = codes[where]
            held_scores[where] = scores[where]

    def close_tier(self) -> None:
        for layer, (held, _) in self.best.items():
            np.copyto(self.codes[layer], held, where=held > 0)
        self.best = {}


class _Source:
    """Claims of one decoder, block by block; its blocks depend on it and the scan alone."""

    def __init__(self, claimant: Claimant, book: Codebook, depth: int, shape: Shape) -> None:
        self.tier, self.slab = claimant.tier, claimant.slab
        self.admitted = claimant.admitted
        self.codes = np.array([0, *(book.code[o.anatomy] for o in claimant.outputs)], np.uint16)
        logits = self.slab.logits
        _, slices, rows, columns = logits.shape
        z = linear_matrix(depth, shape[0])
        self.z = z[:, self.slab.first : self.slab.first + slices]
        # slices whose neighbours were not all computed are no decoder's to claim
        self.covered = (self.z.sum(dim=1) > 1 - 1e-6).numpy()
        self.y, self.x = linear_matrix(rows, shape[1]), linear_matrix(columns, shape[2])
        # where background wins at all neighbours it wins between them, for resampling is convex
        # and background is one channel after folding
        self.found = (logits[1:] > logits[:1]).any(dim=0)

    def claims(
        self, start: int, stop: int, suppressed: NDArray[np.int64]
    ) -> Iterable[tuple[tuple[slice, ...], Codes, NDArray[np.float32]]]:
        """Boxes within the block of slices, their codes and scores."""
        near = self.found[(self.z[start:stop] > 0).any(dim=0)].any(dim=0)
        y, x = _reach(self.y, near.any(dim=1)), _reach(self.x, near.any(dim=0))
        area = (y.stop - y.start) * (x.stop - x.start)
        if not area:
            return
        step = max(1, LOGIT_VOXELS // (area * len(self.codes)))
        for first in range(start, stop, step):
            rows = slice(first, min(first + step, stop))
            logits = self._resampled(rows, y, x)
            best, index = logits.max(dim=0)
            score = torch.exp(best - torch.logsumexp(logits, dim=0)).numpy()
            channel = index.numpy()
            channel[~self.covered[rows]] = 0
            channel = self._gated(channel, rows, suppressed)
            box = (slice(rows.start - start, rows.stop - start), y, x)
            yield box, self.codes[channel], score

    def _resampled(self, rows: slice, y: slice, x: slice) -> Tensor:
        """Logits ``(1 + outputs, rows, y, x)`` of a box of the scan."""
        wz, wy, wx = self.z[rows], self.y[y], self.x[x]
        dz, dy, dx = (_support(weights) for weights in (wz, wy, wx))
        part = self.slab.logits[:, dz, dy, dx]
        planes = torch.einsum("zs,ksyx->kzyx", wz[:, dz], part)
        return wy[:, dy] @ (planes @ wx[:, dx].T)

    def _gated(
        self, channel: NDArray[np.int64], rows: slice, suppressed: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        allowed = np.concatenate(
            (np.ones((1, channel.shape[0]), bool), self.admitted[:, rows]), axis=0
        )
        if allowed.all():
            return channel
        z = np.arange(channel.shape[0])[:, None, None]
        lost = ~allowed[channel, z]
        suppressed += np.bincount(self.codes[channel[lost]], minlength=len(suppressed))
        return np.where(lost, 0, channel)


def _support(weights: Tensor) -> slice:
    """Source voxels that any of the rows needs."""
    columns = (weights > 0).any(dim=0).nonzero().flatten()
    return slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else slice(0, 0)


def _reach(weights: Tensor, found: Tensor) -> slice:
    """Rows that any of the found source voxels contributes to."""
    rows = (weights[:, found] > 0).any(dim=1).nonzero().flatten()
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
