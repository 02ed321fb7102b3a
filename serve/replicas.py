"""What runs in the replicas: encoder with its local decoders, a decoder alone, the merger.

Plain classes: Ray Serve wraps them in `clnet.serve.app`, tests may call them as they are.
Numerics are equal everywhere: same threads, same precision, tensors that keep their layout.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clnet.decoders_registry import Registry
from clnet.model.geometry import Shape
from clnet.model.inference import LocalRunner
from clnet.model.merge import Codebook, merge
from clnet.serve.outcome import Outcome, Progress, ReleaseCard
from clnet.serve.placement import Own, Placement
from clnet.serve.release import RegistrySource, load_decoder, load_release, release_card
from clnet.serve.remote import MergerFold, PackedClaimant, PackedMerge, RemoteRunner
from clnet.serve.results import result_files
from clnet.serve.transport import (
    PackedTensor,
    pack_labels,
    pack_tensors,
    unpack_labels,
    unpack_tensors,
)
from clnet.storage import ArtefactStore

__all__ = ["DecoderReplica", "EncoderReplica", "MergerReplica"]


def _open(source: RegistrySource) -> Registry:
    return Registry(source.database, ArtefactStore(source.artefacts))


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class EncoderReplica:
    """Encoder, body-part model and every decoder that is placed beside them.

    Args:
        source: where the registry is.
        release: name of the release.
        placement: which decoders are elsewhere.
        threads: of torch.
        elsewhere: decoder ref to the handle of its own deployment.
        merger: handle of the merger's deployment; the fold is done here without one.
    """

    def __init__(
        self,
        source: RegistrySource,
        release: str,
        placement: Placement,
        threads: int,
        elsewhere: Mapping[str, Any],
        merger: Any = None,
    ) -> None:
        torch.set_num_threads(threads)
        places = [placement.of(ref) for ref in elsewhere]
        in_flight = 1 + max((p.replicas for p in places if isinstance(p, Own)), default=1)
        with _open(source) as registry:
            self._model = load_release(
                registry, release, placement, in_flight=in_flight, device=_device()
            )
            self._card = release_card(registry, release, self._model, placement.of)
        self._elsewhere = elsewhere
        self._merger = merger

    async def card(self) -> ReleaseCard:
        """What is said about the release."""
        return self._card

    async def segment(
        self, hu: NDArray[np.int16], affine: NDArray[np.float64], anatomies: tuple[str, ...] | None
    ) -> AsyncIterator[Progress | Outcome]:
        """Segment a scan; the outcome is the last item.

        Args:
            hu: the scan in its own axis order.
            affine: voxel indices to RAS+ mm.
            anatomies: what to look for; None for everything.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Progress | Outcome | BaseException] = asyncio.Queue()
        cancelled = threading.Event()

        def tell(event: Progress | Outcome | BaseException) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def told(fraction: float, text: str) -> None:
            if cancelled.is_set():
                raise CancelledError
            tell(Progress(fraction, text))

        def work() -> None:
            try:
                tell(self._segment(hu, affine, anatomies, told))
            except BaseException as error:  # noqa: BLE001 (handed on, raised by the reader)
                tell(error)

        running = loop.run_in_executor(None, work)
        try:
            while True:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Outcome):
                    break
        finally:
            cancelled.set()  # the next progress report ends the work
            await asyncio.shield(running)

    def _segment(
        self,
        hu: NDArray[np.int16],
        affine: NDArray[np.float64],
        anatomies: tuple[str, ...] | None,
        told: Callable[[float, str], None],
    ) -> Outcome:
        began = time.perf_counter()
        fold = MergerFold(self._merger)
        run = RemoteRunner(self._elsewhere, LocalRunner(self._model.window.precision))
        segmentation = self._model.segment(hu, affine, anatomies, told, run, fold)
        return Outcome(
            labels={layer: pack_labels(m) for layer, m in segmentation.labels.items()},
            names=segmentation.names,
            statistics=segmentation.statistics(),
            seconds={"network": time.perf_counter() - began - fold.seconds, "fold": fold.seconds},
        )


class DecoderReplica:
    """One decoder version: features in, logits out, bit-identical to a local one.

    Args:
        source: where the registry is.
        release: name of the release.
        ref: the decoder version.
        threads: of torch; as many as the encoder replica has.
    """

    def __init__(self, source: RegistrySource, release: str, ref: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device = _device()
        with _open(source) as registry:
            self._decoder = load_decoder(registry, registry.release(release), ref, self._device)
        self._run = LocalRunner()

    def logits(
        self, features: Sequence[PackedTensor], support: Sequence[Sequence[PackedTensor]]
    ) -> list[PackedTensor]:
        """Logits of one window, finest first.

        Args:
            features: the encoder's, finest first.
            support: logits of each supporter, finest first.
        """
        supporters = [unpack_tensors(logits, self._device) for logits in support]
        logits = self._run(self._decoder, unpack_tensors(features, self._device), supporters)
        return pack_tensors(logits)


class MergerReplica:
    """What needs no network: the fold of all logits to label maps, and the files of a result.

    Args:
        threads: of torch; as many as the encoder replica has.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def fold(
        self,
        claimants: Sequence[PackedClaimant],
        book: Codebook,
        reported: frozenset[str],
        depth: int,
        shape: Shape,
    ) -> PackedMerge:
        """As :func:`clnet.model.merge.merge`."""
        unpacked = [claimant.unpacked() for claimant in claimants]
        return PackedMerge.of(merge(unpacked, book, reported, depth, shape))

    def publish(
        self,
        hu: NDArray[np.int16],
        affine: NDArray[np.float64],
        header: bytes,
        outcome: Outcome,
        card: ReleaseCard,
    ) -> dict[str, bytes]:
        """The files of a result by name; see :func:`clnet.serve.results.result_files`."""
        labels = {layer: unpack_labels(packed) for layer, packed in outcome.labels.items()}
        return result_files(hu, affine, header, labels, outcome, card)
