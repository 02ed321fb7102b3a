"""The deployment in front: HTTP on one side, handles of the other deployments on the other."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clnet.serve.desk import Desk, DeskLimits
from clnet.serve.intake import UploadLimits
from clnet.serve.metrics import Meters
from clnet.serve.outcome import Outcome, Progress, ReleaseCard
from clnet.serve.routes import Service, build_app
from clnet.serve.spool import Spool

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["Ingress"]


class Handles:
    """The pipeline behind the desk: calls to the encoder and publisher deployments.

    Args:
        encoder: handle of the encoder's deployment.
        publisher: handle of the publisher's deployment.
    """

    def __init__(self, encoder: Any, publisher: Any) -> None:
        self._encoder = encoder
        self._publisher = publisher
        self._card: ReleaseCard | None = None

    async def card(self) -> ReleaseCard:
        """What the encoder says of its release; asked once, as releases never change."""
        if self._card is None:
            self._card = await self._encoder.card.remote()
        return self._card

    async def segment(
        self, hu: NDArray[np.int16], affine: NDArray[np.float64], anatomies: tuple[str, ...] | None
    ) -> AsyncIterator[Progress | Outcome]:
        """Progress, then the outcome; leaving early cancels the work."""
        response = self._encoder.options(stream=True).segment.remote(hu, affine, anatomies)
        finished = False
        try:
            async for event in response:
                yield event
            finished = True
        finally:
            if not finished:
                response.cancel()

    async def publish(
        self, hu: NDArray[np.int16], affine: NDArray[np.float64], header: bytes, outcome: Outcome
    ) -> dict[str, bytes]:
        """The result's files by name."""
        files: dict[str, bytes] = await self._publisher.publish.remote(
            hu, affine, header, outcome, await self.card()
        )
        return files


class Ingress:
    """HTTP API of one release. There is one replica: it knows the jobs.

    Args:
        encoder: handle of the encoder's deployment.
        publisher: handle of the publisher's deployment.
        token_digest: of the token that opens the service.
        spool: folder for scans and results, emptied when the replica starts.
        uploads: limits of uploads.
        desk: limits of the queue.
    """

    def __init__(
        self,
        encoder: Any,
        publisher: Any,
        token_digest: str,
        spool: str,
        uploads: UploadLimits,
        desk: DeskLimits,
    ) -> None:
        shutil.rmtree(spool, ignore_errors=True)  # jobs of a replica that died are forgotten
        pipeline = Handles(encoder, publisher)
        meters = Meters()
        self._service = Service(
            Desk(pipeline, Spool(Path(spool)), meters, desk),
            pipeline.card,
            meters,
            uploads,
            token_digest,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_app(self._service)
