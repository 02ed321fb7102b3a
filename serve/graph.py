"""The deployments of a service: how many, how large, and who holds whose handle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clnet.serve.desk import DeskLimits
from clnet.serve.intake import UploadLimits
from clnet.serve.placement import Own, Placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clnet.model.inference import SlidingWindow
    from clnet.serve.release import RegistrySource

__all__ = ["Front", "ServedRelease", "deployments"]

ENCODER_CPUS = 0.5
DECODERS_CPUS = 0.5
"""Shared by all own decoders. Reservations, not limits: everything must fit two CPUs beside
other work, and the encoder waits while the others compute."""
SMALL_CPUS = 0.05  # ingress and publisher
HTTP_REQUESTS = 200
"""Requests at once; most of them wait for a job to end."""
WINDOWS = 2  # in one decoder replica: one is computed while the next one arrives


@dataclass(frozen=True, slots=True)
class ServedRelease:
    """What is served.

    Attributes:
        source: where its registry is.
        name: of the release.
        placement: where its decoders run.
        refs: all its decoders, supporters included.
    """

    source: RegistrySource
    name: str
    placement: Placement
    refs: Sequence[str]

    @property
    def own(self) -> dict[str, int]:
        """Decoders with a deployment of their own, and its replicas."""
        places = {ref: self.placement.of(ref) for ref in self.refs}
        return {ref: place.replicas for ref, place in places.items() if isinstance(place, Own)}


@dataclass(frozen=True, slots=True)
class Front:
    """How the service shows itself; see :class:`clnet.serve.ingress.Ingress`."""

    token_digest: str
    spool: str
    uploads: UploadLimits
    desk: DeskLimits


def deployments(
    release: ServedRelease,
    front: Front,
    threads: int,
    memory_budget: int | None = None,
    window: SlidingWindow | None = None,
) -> Any:
    """The application for ``serve.run``: ingress, encoder, own decoders, publisher.

    Args:
        release: what is served.
        front: what is asked of the ingress.
        threads: of torch, equal in every replica, as the last bits depend on them.
        memory_budget: bytes that one scan may take; half of what is free by default.
        window: mirroring, overlap and precision.
    """
    import ray
    from ray import serve

    from clnet.serve.ingress import Ingress
    from clnet.serve.replicas import DecoderReplica, EncoderReplica, PublisherReplica

    source = _Address(release.source.database, release.source.artefacts)
    gpus = float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    networks = 1 + sum(release.own.values())
    share = round(1 / networks, 3) if gpus else 0.0
    scans = front.desk.running

    def deployment(
        what: type, name: str, cpus: float, requests: int, replicas: int = 1, gpu: float = 0.0
    ) -> Any:
        return serve.deployment(
            what,
            name=name,
            num_replicas=replicas,
            max_ongoing_requests=requests,
            ray_actor_options={"num_cpus": cpus, "num_gpus": gpu},
            graceful_shutdown_timeout_s=2,
            max_constructor_retry_count=1,
        )

    cpus = round(DECODERS_CPUS / max(1, networks - 1), 3)
    decoders = {
        ref: deployment(DecoderReplica, _name(ref), cpus, WINDOWS, replicas, share).bind(
            source, release.name, ref, threads, "auto" if window is None else window.precision
        )
        for ref, replicas in release.own.items()
    }
    publisher = deployment(PublisherReplica, "Publisher", SMALL_CPUS, scans + 1).bind()
    # more requests than scans are computed: what is served can be asked meanwhile
    encoder = deployment(EncoderReplica, "Encoder", ENCODER_CPUS, scans + 4, gpu=share).bind(
        source, release.name, release.placement, threads, decoders, memory_budget, window
    )
    ingress = serve.ingress()(Ingress)
    return deployment(ingress, "Ingress", SMALL_CPUS, HTTP_REQUESTS).bind(
        encoder, publisher, front.token_digest, front.spool, front.uploads, front.desk
    )


def _name(ref: str) -> str:
    return "Decoder-" + ref.replace("/", "-").replace("@", "-v")


@dataclass(frozen=True, slots=True)
class _Address:
    """A registry's whereabouts and nothing else, to travel to replicas."""

    database: str
    artefacts: str
