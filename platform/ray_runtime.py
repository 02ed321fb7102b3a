"""Ray for whoever needs it: a private local one started on demand, or a cluster's.

On a cluster Ray's token authentication is required.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clnet import local_ray
from clnet.errors import ServiceError

__all__ = ["RayRuntime", "current_address", "ray_runtime"]

TRAIN = {
    # every helper process that Train starts imports Ray, some seconds on a small machine
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
}


@dataclass(frozen=True, slots=True)
class RayRuntime:
    """A Ray that is connected.

    Attributes:
        address: ``host:port`` for other processes to join, with the same environment.
        cpus, gpus: of all its nodes.
        started: whether this process started it, and so stops it.
    """

    address: str
    cpus: float
    gpus: float
    started: bool


@contextmanager
def ray_runtime(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    object_store_bytes: int | None = None,
    token_file: Path | None = None,
) -> Iterator[RayRuntime]:
    """Connect to Ray for the block; starts a local one if there is none.

    A Ray that this process is connected to already is used as it is and left running.

    Args:
        address: of a cluster (``host:port``, ``auto``); None for a local Ray.
        num_cpus: of a local Ray; all of the machine by default.
        object_store_bytes: shared memory of a local Ray; by default at most 1 GiB, half of
            what /dev/shm has free and a tenth of the memory.
        token_file: where a local Ray's token is kept; made if absent. By default Ray's own
            place, ``~/.ray/auth_token``.

    Raises:
        ServiceError: the cluster cannot be reached, refuses, or has no clnet.
    """
    if not local_ray.is_connected():
        local_ray.set_defaults(TRAIN)
        if address is None:
            local_ray.prepare_private(token_file)
        else:
            local_ray.prepare_cluster(loopback=_is_loopback(address))
    import ray

    if ray.is_initialized():
        yield _runtime(started=False)
        return
    if address is not None:
        _connect(address)
    else:
        local_ray.start(num_cpus, object_store_bytes=object_store_bytes)
    try:
        yield _runtime(started=address is None)
    finally:
        ray.shutdown()


def current_address() -> str | None:
    """Address of the Ray that this process is connected to; None if it is to none."""
    if not local_ray.is_connected():
        return None
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _connect(address: str) -> None:
    import ray

    _knock(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ServiceError(
            f"Ray at {address}: {error}. Check the address, and that RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH holds the cluster's token"
        ) from error
    try:
        ray.get(ray.remote(num_cpus=0)(_import_clnet).remote())
    except ray.exceptions.RayError as error:
        ray.shutdown()
        raise ServiceError(
            f"Ray at {address}: its workers cannot import clnet. Install the same version of "
            "clnet in the cluster's image"
        ) from error


def _knock(address: str) -> None:
    """Fail at once where nobody listens: Ray itself tries for a minute."""
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ServiceError(f"Ray at {address}: {error}. Check the address") from error


def _import_clnet() -> None:
    import clnet.model  # noqa: F401


def _runtime(*, started: bool) -> RayRuntime:
    import ray

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return RayRuntime(
        address=ray.get_runtime_context().gcs_address,
        cpus=float(resources.get("CPU", 0)),
        gpus=float(resources.get("GPU", 0)),
        started=started,
    )


def _is_loopback(address: str) -> bool:
    host = address.partition("://")[2] or address
    host = host.rpartition(":")[0].strip("[]") or host
    if host in {"auto", "local", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
