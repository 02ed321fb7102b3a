"""Work handed to other deployments from inside a segmentation, which knows nothing of Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from torch import Tensor

from clnet.model.geometry import Shape
from clnet.model.inference import LoadedDecoder, LocalRunner, Pending, Slab
from clnet.model.merge import Claimant, Codebook, Merged, merge
from clnet.model.outputs import Output
from clnet.serve.transport import (
    PackedLabels,
    PackedTensor,
    pack_labels,
    pack_tensors,
    unpack_labels,
    unpack_tensors,
)

__all__ = ["MergerFold", "PackedClaimant", "PackedMerge", "RemoteRunner"]

SHARED_LOGITS = 256 << 20
"""Bytes of logits that may go to the merger; more are folded where they are."""


@dataclass(frozen=True, slots=True)
class _Response:
    """Logits on their way from another deployment."""

    response: Any
    device: str

    def result(self) -> Sequence[Tensor]:
        """Wait for the logits, finest first."""
        packed: list[PackedTensor] = self.response.result()
        return unpack_tensors(packed, self.device)


class RemoteRunner:
    """Computes decoders here, or in their own deployments where they have one.

    A window's features go to Ray's object store once, however many deployments read them. How
    many windows are pending at once is bounded by the sliding window that calls this.

    Args:
        elsewhere: decoder ref to the handle of its deployment.
        local: computes all others.
    """

    def __init__(self, elsewhere: Mapping[str, Any], local: LocalRunner) -> None:
        self._elsewhere = elsewhere
        self._local = local
        self._shared: tuple[Sequence[Tensor], Any] | None = None

    def __call__(
        self,
        decoder: LoadedDecoder,
        features: Sequence[Tensor],
        support: Sequence[Sequence[Tensor]],
    ) -> Sequence[Tensor] | Pending:
        """Logits of `decoder`, or a promise of them."""
        handle = self._elsewhere.get(decoder.ref)
        if handle is None:
            return self._local(decoder, features, support)
        if self._shared is None or self._shared[0] is not features:
            self._shared = (features, ray.put(pack_tensors(features)))
        response = handle.logits.remote(self._shared[1], [pack_tensors(s) for s in support])
        return _Response(response, str(features[0].device))


@dataclass(frozen=True, slots=True)
class PackedClaimant:
    """A claimant whose logits travel as an array; see :class:`clnet.model.merge.Claimant`."""

    outputs: tuple[Output, ...]
    tier: int
    first: int
    logits: PackedTensor
    admitted: NDArray[np.bool_]

    @classmethod
    def of(cls, claimant: Claimant) -> PackedClaimant:
        """The claimant, ready to travel."""
        slab = claimant.slab
        logits = pack_tensors([slab.logits])[0]
        return cls(claimant.outputs, claimant.tier, slab.first, logits, claimant.admitted)

    def unpacked(self) -> Claimant:
        """Inverse of :meth:`of`."""
        slab = Slab(self.first, unpack_tensors([self.logits])[0])
        return Claimant(self.outputs, self.tier, slab, self.admitted)


@dataclass(frozen=True, slots=True)
class PackedMerge:
    """What the merger gives back; see :class:`clnet.model.merge.Merged`."""

    labels: dict[str, PackedLabels]
    names: dict[str, dict[int, str]]
    suppressed: dict[str, int]

    @classmethod
    def of(cls, merged: Merged) -> PackedMerge:
        """The result, ready to travel."""
        labels = {layer: pack_labels(values) for layer, values in merged.labels.items()}
        return cls(labels, merged.names, merged.suppressed)

    def unpacked(self) -> Merged:
        """Inverse of :meth:`of`."""
        labels = {layer: unpack_labels(values) for layer, values in self.labels.items()}
        return Merged(labels, self.names, self.suppressed)


class MergerFold:
    """Folds in the merger's deployment, and notes how long that took.

    The fold resamples every decoder's logits to the scan's full grid, the longest stage that
    needs no encoder; in a process of its own it leaves the encoder's device to the next scan.
    Where the logits are more than shared memory should hold, the fold comes to them.

    Args:
        merger: handle of the merger's deployment; None folds in this process.
    """

    def __init__(self, merger: Any = None) -> None:
        self._merger = merger
        self.seconds = 0.0

    def __call__(
        self,
        claimants: Sequence[Claimant],
        book: Codebook,
        reported: Collection[str],
        depth: int,
        shape: Shape,
        progress: Callable[[float, str], None] | None = None,
    ) -> Merged:
        """As :func:`clnet.model.merge.merge`."""
        began = time.perf_counter()
        size = sum(claimant.slab.logits.nbytes for claimant in claimants)
        if self._merger is None or size > SHARED_LOGITS:
            merged = merge(claimants, book, reported, depth, shape, progress)
        else:
            packed = [PackedClaimant.of(claimant) for claimant in claimants]
            response = self._merger.fold.remote(packed, book, frozenset(reported), depth, shape)
            result: PackedMerge = response.result()
            merged = result.unpacked()
        self.seconds = time.perf_counter() - began
        return merged
