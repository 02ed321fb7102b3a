"""Ray for whoever needs it: a private local one started on demand, or a cluster's.

A local Ray listens on loopback alone and asks for a token even there, as other users of the
machine can reach loopback too. On a cluster Ray's token authentication is required.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clnet.errors import ServiceError

__all__ = ["RayRuntime", "current_address", "ray_runtime"]

MAX_OBJECT_STORE = 1 << 30
"""Bytes of shared memory at most, unless the caller asks for more."""

ATTEMPTS = 2
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where Linux keeps it)

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # on a machine without GPU an actor would warn that its CUDA_VISIBLE_DEVICES changes
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray would give way to everything else on the machine, with nice 15
    "RAY_worker_niceness": "0",
    # patience on machines that are busy with something else
    "RAY_NUM_REDIS_GET_RETRIES": "120",
    "RAY_worker_register_timeout_seconds": "300",
}
TRAIN = {
    # every helper process that Train starts imports Ray, some seconds on a small machine
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
}
LOOPBACK = {
    # Ray's own switch for "the node's address is 127.0.0.1", the default on macOS and Windows:
    # with it every server socket binds loopback. `_node_ip_address` alone is resolved away.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
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
    _set({**QUIET, **TRAIN})
    if not _initialised():
        if address is None:
            _prepare_loopback(token_file)
        elif not _is_loopback(address):
            os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    if ray.is_initialized():
        yield _runtime(started=False)
        return
    if address is not None:
        _connect(address)
    else:
        _start(num_cpus, object_store_bytes)
    try:
        yield _runtime(started=address is None)
    finally:
        ray.shutdown()


def current_address() -> str | None:
    """Address of the Ray that this process is connected to; None if it is to none."""
    if not _initialised():
        return None
    import ray

    return str(ray.get_runtime_context().gcs_address)


def _initialised() -> bool:
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _set(variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def _prepare_loopback(token_file: Path | None) -> None:
    _set(LOOPBACK)
    if token_file is not None and "RAY_AUTH_TOKEN" not in os.environ:
        if not token_file.exists():
            token_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT, 0o600)
            with open(descriptor, "w", encoding="ascii") as handle:
                handle.write(secrets.token_hex(32))
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(token_file))
    if "ray" in sys.modules:  # imported before the switch was set, which it reads once
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False


def _start(num_cpus: int | None, object_store_bytes: int | None) -> None:
    """Start a local Ray; a second time if the machine was too busy for its time-outs."""
    import ray

    for attempt in range(ATTEMPTS):
        try:
            ray.init(
                num_cpus=num_cpus or os.cpu_count(),
                include_dashboard=False,
                object_store_memory=object_store_bytes or _object_store_bytes(),
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # Ray says "timed out during startup" by a bare Exception
            ray.shutdown()
            if attempt == ATTEMPTS - 1:
                raise ServiceError(
                    f"a local Ray did not start: {error} `clnet doctor` looks for the cause"
                ) from error
        else:
            return


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


def _object_store_bytes() -> int:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [MAX_OBJECT_STORE, pages // 10]
    if SHARED_MEMORY.is_dir():
        shm = os.statvfs(SHARED_MEMORY)
        limits.append(shm.f_bavail * shm.f_frsize // 2)
    return max(min(limits), 80 << 20)  # Ray refuses less than 75 MiB
