"""Where a test's registry is, a scan with a crooked grid, a service without Ray."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import uvicorn
from numpy.typing import NDArray

from clnet.decoders_registry import Registry
from clnet.serve import Placement
from clnet.serve.outcome import Outcome, Progress, ReleaseCard
from clnet.serve.replicas import EncoderReplica, PublisherReplica
from clnet.storage import ArtefactStore

RELEASE = "2026.11"


@dataclass(frozen=True)
class Address:
    """Where a test's registry is."""

    database: str
    artefacts: str

    def open(self) -> Registry:
        return Registry(self.database, ArtefactStore(self.artefacts))


def make_scan(seed: int = 0) -> NDArray[np.int16]:
    """A body of smooth noise in air, axes as stored."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 300, (6, 5, 7))
    hu = np.kron(coarse, np.ones((5, 6, 4))) + rng.normal(0, 20, (30, 30, 28))
    hu[:3] = -1000
    return hu.clip(-1000, 1500).astype(np.int16)


def oblique_affine() -> NDArray[np.float64]:
    """Axes (posterior, inferior, right), a little oblique, as float32 headers keep it."""
    turn = nib.eulerangles.euler2mat(0.1, -0.05, 0.08)
    axes = np.array([[0, 0, 8.0], [-7.0, 0, 0], [0, -6.1, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes
    affine[:3, 3] = (12.0, -34.0, 56.0)
    return affine.astype(np.float32).astype(np.float64)


def scan_bytes() -> bytes:
    """The scan as ``.nii.gz``: qform and sform differ in code, and a patient is named."""
    image = nib.Nifti1Image(make_scan(), oblique_affine())
    image.header.set_qform(oblique_affine(), code=1)
    image.header.set_sform(oblique_affine(), code=2)
    image.header["descrip"] = b"DOE^JOHN"
    return gzip.compress(image.to_bytes())


class InProcess:
    """The replicas without Ray; a test may hold them back before they segment."""

    def __init__(self, source: Address) -> None:
        self.encoder = EncoderReplica(source, RELEASE, Placement(), 1, {})
        self.publisher = PublisherReplica()
        self.gate = threading.Event()
        self.gate.set()

    async def card(self) -> ReleaseCard:
        return await self.encoder.card()

    async def segment(
        self, hu: NDArray[Any], affine: NDArray[Any], anatomies: tuple[str, ...] | None
    ) -> AsyncIterator[Progress | Outcome]:
        while not self.gate.is_set():
            await asyncio.sleep(0.01)
        async for event in self.encoder.segment(hu, affine, anatomies):
            yield event

    async def publish(
        self, hu: NDArray[Any], affine: NDArray[Any], header: bytes, outcome: Outcome
    ) -> dict[str, bytes]:
        card = await self.card()
        return await asyncio.to_thread(self.publisher.publish, hu, affine, header, outcome, card)


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """An ASGI application on a free port of loopback; yields its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
