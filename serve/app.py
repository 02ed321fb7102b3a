"""A release as a Ray Serve application on HTTP, and the handle that stops it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from clnet.errors import InputError, ServiceError
from clnet.serve.auth import digest, new_token
from clnet.serve.desk import DeskLimits
from clnet.serve.graph import Front, ServedRelease, deployments
from clnet.serve.intake import UploadLimits
from clnet.serve.placement import Placement
from clnet.serve.release import RegistrySource
from clnet.serve.runtime import LOOPBACK, require_port, start_ray, stop_serve

if TYPE_CHECKING:
    from clnet.model.inference import SlidingWindow

__all__ = ["ServiceHandle", "deploy"]

APPLICATION = "clnet"


@dataclass(slots=True)
class ServiceHandle:
    """A running service; a context manager that stops it.

    Attributes:
        url: where it answers.
        token: what clients send as ``Authorization: Bearer``.
        release: name of the release served.
    """

    url: str
    token: str = field(repr=False)
    release: str
    _stop: Callable[[], None] = field(repr=False)

    def shutdown(self) -> None:
        """Stop the service, and Ray where it was started for it; may be called again."""
        stop, self._stop = self._stop, _nothing
        stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()


def deploy(
    source: RegistrySource,
    release: str,
    placement: Placement | None = None,
    *,
    token: str | None = None,
    host: str = LOOPBACK,
    port: int = 8000,
    threads: int | None = None,
    uploads: UploadLimits | None = None,
    queue: DeskLimits | None = None,
    memory_budget: int | None = None,
    window: SlidingWindow | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> ServiceHandle:
    """Serve a release on HTTP.

    Uses the Ray of this process, or starts one that listens to this machine alone.

    Args:
        source: database and artefacts of the registry; a hub's workspace is one.
        release: name of the release.
        placement: decoders with deployments of their own; all others run beside the encoder.
        token: what clients must send; a random one by default.
        host: address to listen on; loopback by default.
        port: 0 for any free one.
        threads: of torch in every replica; all of this machine's CPUs by default.
        uploads: how large scans may be.
        queue: how many scans are computed and wait at once.
        memory_budget: bytes that one scan may take beside the networks; half of what is free
            by default.
        window: mirroring, overlap and precision.
        progress: told what happens.

    Raises:
        NotFound: no such release.
        InputError: a placement, token or port that cannot be used.
        ServiceError: the port is taken, a service runs already, or a replica cannot start.
    """
    told = progress if progress is not None else _silent
    places = placement or Placement()
    refs = _checked(source, release, places)
    secret = new_token() if token is None else token
    if len(secret) < 8:
        raise InputError("token: at least 8 characters expected; leave it out for a random one")
    port = require_port(host, port)
    told(0.0, "starting Ray")
    started = start_ray()
    if not started:
        _require_idle()
    spool = Path(tempfile.gettempdir()) / f"clnet-serve-{os.getpid()}-{port}"
    stop = _Stop(started, spool)
    try:
        told(0.3, f"loading release {release}")
        graph = deployments(
            ServedRelease(source, release, places, refs),
            Front(digest(secret), str(spool), uploads or UploadLimits(), queue or DeskLimits()),
            threads or os.cpu_count() or 1,
            memory_budget,
            window,
        )
        _run(graph, host, port)
    except BaseException:
        stop()
        raise
    told(1.0, "serving")
    shown = LOOPBACK if host in {"0.0.0.0", "::"} else host  # noqa: S104 (compared, not bound)
    return ServiceHandle(f"http://{shown}:{port}", secret, release, stop)


def _checked(source: RegistrySource, release: str, placement: Placement) -> list[str]:
    from clnet.decoders_registry import Registry
    from clnet.storage import ArtefactStore

    with Registry(source.database, ArtefactStore(source.artefacts)) as registry:
        record = registry.release(release)
    refs = [decoder.ref for decoder in (*record.decoders, *record.supporters)]
    placement.check(refs)
    return refs


def _require_idle() -> None:
    """Make sure that this Ray serves nothing yet: address and port are settings of all of it."""
    from ray import serve

    if serve.status().proxies:
        raise ServiceError(
            "this Ray serves something already; shut that service down, or serve on another Ray"
        )


def _run(graph: Any, host: str, port: int) -> None:
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = {"log_level": "WARNING", "enable_access_log": False}
    serve.start(
        proxy_location="HeadOnly", http_options={"host": host, "port": port}, logging_config=quiet
    )
    try:
        serve.run(graph, name=APPLICATION, route_prefix="/", logging_config=quiet)
    except RuntimeError as error:
        raise ServiceError(f"the service did not start: {_reason()}") from error


def _reason() -> str:
    """What Serve says of the deployment that failed: the last line of its traceback."""
    from ray import serve

    application = serve.status().applications.get(APPLICATION)
    messages = [d.message for d in application.deployments.values()] if application else []
    lines = [line.strip() for message in messages for line in message.splitlines()]
    known = [line for line in lines if line.startswith("clnet.errors.")]
    return (known or lines or ["no replica became healthy"])[-1]


class _Stop:
    """Ends what `deploy` began."""

    def __init__(self, started: bool, spool: Path) -> None:
        self._started = started
        self._spool = spool

    def __call__(self) -> None:
        import ray

        if self._started:
            # takes Serve with it, much faster than in order
            ray.shutdown()
        elif ray.is_initialized():
            stop_serve()
        shutil.rmtree(self._spool, ignore_errors=True)


def _nothing() -> None:
    pass


def _silent(done: float, text: str) -> None:
    pass
