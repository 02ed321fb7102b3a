"""What Prometheus reads at ``/metrics``: requests, segmentations, seconds per stage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CountRequests", "Meters"]

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Meters:
    """The service's counters, in a collector of their own."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.requests = Counter(
            "clnet_http_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "clnet_http_request_seconds",
            "Time to answer, waiting included.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.segmentations = Counter(
            "clnet_segmentations",
            "Segmentations ended, by outcome.",
            ("outcome",),
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "clnet_stage_seconds",
            "Seconds of one segmentation spent per stage.",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self.running = Gauge(
            "clnet_segmentations_in_flight", "Segmentations being computed.", registry=registry
        )
        self.waiting = Gauge(
            "clnet_segmentations_waiting", "Segmentations in the queue.", registry=registry
        )
        self.voxels = Counter("clnet_voxels", "Voxels of the scans segmented.", registry=registry)
        self._registry = registry

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class CountRequests:
    """ASGI middleware that counts answers by method, route pattern and status."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note how it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        began = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # the pattern, never the path: an id in a label would grow the metrics without bound
            route = getattr(scope.get("route"), "path", "other")
            self._meters.requests.labels(scope["method"], route, str(status)).inc()
            self._meters.request_seconds.labels(route).observe(time.perf_counter() - began)
