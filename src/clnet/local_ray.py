"""How Ray is configured, and how one of this machine alone is started, to train and to serve.

A local Ray listens on loopback, and asks for a token even there, as other users of the machine
can reach loopback too.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from clnet.errors import ServiceError

__all__ = ["is_connected", "prepare_cluster", "prepare_private", "set_defaults", "start"]

ATTEMPTS = 2
MIN_OBJECT_STORE = 80 << 20  # Ray refuses less than 75 MiB
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
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
}
LOOPBACK = {
    # Ray's own switch for "the node's address is 127.0.0.1", the default on macOS and Windows:
    # with it every server socket binds loopback. `_node_ip_address` alone is resolved away.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}


def is_connected() -> bool:
    """Whether this process is connected to a Ray; imports none."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def set_defaults(variables: Mapping[str, str]) -> None:
    """Set those environment variables that the user has not set."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def prepare_private(token_file: Path | None = None) -> None:
    """Configure the local Ray that this process is about to start.

    Args:
        token_file: where the token is kept; made if absent. By default Ray's own place,
            ``~/.ray/auth_token``.
    """
    set_defaults({**QUIET, **LOOPBACK})
    if token_file is not None and "RAY_AUTH_TOKEN" not in os.environ:
        if not token_file.exists():
            token_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT, 0o600)
            with open(descriptor, "w", encoding="ascii") as handle:
                handle.write(secrets.token_hex(32))
        os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(token_file))
    _read_environment_again()
    if "ray" in sys.modules:
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False


def prepare_cluster(*, loopback: bool) -> None:
    """Configure this process to join a cluster; unless it is on this machine, with a token."""
    set_defaults(QUIET)
    if not loopback:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    _read_environment_again()


def start(
    num_cpus: int | None = None,
    *,
    object_store_bytes: int | None = None,
    max_object_store_bytes: int = 1 << 30,
) -> None:
    """Start a local Ray; a second time if the machine was too busy for Ray's time-outs.

    Args:
        num_cpus: all of the machine by default.
        object_store_bytes: of shared memory; by default half of what /dev/shm has free, a tenth
            of the memory, and `max_object_store_bytes` at most.

    Raises:
        ServiceError: it did not start.
    """
    import ray

    for attempt in range(ATTEMPTS):
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus or os.cpu_count(),
                include_dashboard=False,
                object_store_memory=object_store_bytes
                or _object_store_bytes(max_object_store_bytes),
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


def _read_environment_again() -> None:
    """Ray reads its settings once, when it is imported: a program may have done so before."""
    if "ray" in sys.modules:
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")


def _object_store_bytes(limit: int) -> int:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [limit, pages // 10]
    if SHARED_MEMORY.is_dir():
        shm = os.statvfs(SHARED_MEMORY)
        limits.append(shm.f_bavail * shm.f_frsize // 2)
    return max(min(limits), MIN_OBJECT_STORE)
