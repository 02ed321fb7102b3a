"""What runs in the replicas: encoder with its local decoders, a decoder alone, the publisher.

Plain classes: Ray Serve wraps them in `clnet.serve.app`, tests may call them as they are.
Numerics are equal everywhere: same threads, same precision, tensors that keep their layout.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clnet.decoders_registry import Registry
from clnet.model.inference import LocalRunner, SlidingWindow
from clnet.model.numerics import Precision
from clnet.serve.outcome import Outcome, Progress, ReleaseCard
from clnet.serve.placement import Own, Placement
from clnet.serve.release import RegistrySource, load_decoder, load_release, release_card
from clnet.serve.remote import RemoteRunner
from clnet.serve.results import archived, result_files
from clnet.serve.transport import (
    PackedTensor,
    pack_labels,
    pack_tensors,
    unpack_labels,
    unpack_tensors,
)
from clnet.storage import ArtefactStore

__all__ = ["DecoderReplica", "EncoderReplica", "PublisherReplica"]


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
        memory_budget: bytes that one scan may take; half of what is free by default.
        window: mirroring, overlap and precision.
    """

    def __init__(
        self,
        source: RegistrySource,
        release: str,
        placement: Placement,
        threads: int,
        elsewhere: Mapping[str, Any],
        memory_budget: int | None = None,
        window: SlidingWindow | None = None,
    ) -> None:
        torch.set_num_threads(threads)
        places = [placement.of(ref) for ref in elsewhere]
        in_flight = 1 + max((p.replicas for p in places if isinstance(p, Own)), default=1)
        with _open(source) as registry:
            self._model = load_release(
                registry,
                release,
                placement,
                in_flight=in_flight,
                device=_device(),
                window=window,
            )
            self._card = release_card(registry, release, self._model, placement.of)
        self._elsewhere = elsewhere
        self._memory_budget = memory_budget

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
            tell(Progress(fraction, text))

        def work() -> None:
            try:
                tell(self._segment(hu, affine, anatomies, told, cancelled.is_set))
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
            cancelled.set()  # the work ends at the next window
            await asyncio.shield(running)

    def _segment(
        self,
        hu: NDArray[np.int16],
        affine: NDArray[np.float64],
        anatomies: tuple[str, ...] | None,
        told: Callable[[float, str], None],
        cancelled: Callable[[], bool],
    ) -> Outcome:
        run = RemoteRunner(self._elsewhere, LocalRunner(self._model.window.precision))
        segmentation = self._model.segment(
            hu,
            affine,
            anatomies,
            told,
            run,
            memory_budget=self._memory_budget,
            cancelled=cancelled,
        )
        return Outcome(
            labels={layer: pack_labels(m) for layer, m in segmentation.labels.items()},
            names=segmentation.names,
            statistics=segmentation.statistics(),
            seconds=dict(segmentation.effort.seconds),
        )


class DecoderReplica:
    """One decoder version: features in, its outputs back, bit-identical to a local one.

    Args:
        source: where the registry is.
        release: name of the release.
        ref: the decoder version.
        threads: of torch; as many as the encoder replica has.
        precision: as the encoder replica's; the encoder's own by default.
    """

    def __init__(
        self,
        source: RegistrySource,
        release: str,
        ref: str,
        threads: int,
        precision: Precision = "auto",
    ) -> None:
        torch.set_num_threads(threads)
        self._device = _device()
        with _open(source) as registry:
            self._decoder = load_decoder(registry, registry.release(release), ref, self._device)
        encoder = self._decoder.info.encoder_config
        if precision == "auto":
            precision = encoder.precision(torch.device(self._device))
        self._run = LocalRunner(precision)

    def outputs(
        self, features: Sequence[PackedTensor], support: Sequence[Sequence[PackedTensor]]
    ) -> list[PackedTensor]:
        """What the decoder gives for one window, finest first.

        Args:
            features: the encoder's, finest first.
            support: logits of each supporter, finest first.
        """
        supporters = [unpack_tensors(logits, self._device) for logits in support]
        outputs = self._run(self._decoder, unpack_tensors(features, self._device), supporters)
        return pack_tensors(outputs)


class PublisherReplica:
    """What needs no network: the files of a result."""

    def publish(
        self,
        hu: NDArray[np.int16],
        affine: NDArray[np.float64],
        header: bytes,
        outcome: Outcome,
        card: ReleaseCard,
    ) -> dict[str, bytes]:
        """The files of a result by name, and an archive of them.

        See :func:`clnet.serve.results.result_files`.
        """
        labels = {layer: unpack_labels(packed) for layer, packed in outcome.labels.items()}
        return archived(result_files(hu, affine, header, labels, outcome, card))
