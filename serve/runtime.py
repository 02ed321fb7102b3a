"""The Ray that the service runs on: one that is there already, or a small one of this machine."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

from clnet.errors import ServiceError

__all__ = ["LOOPBACK", "free_port", "require_port", "start_ray"]

LOOPBACK = "127.0.0.1"
MAX_OBJECT_STORE = 2 << 30  # a scan of 512 x 512 x 1000 voxels is 0.5 GiB
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where Linux keeps it)

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # on a machine without GPU an actor would warn that its CUDA_VISIBLE_DEVICES changes
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray's own switch for "the node's address is 127.0.0.1", so that all its sockets bind there
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # other users of the machine reach loopback too
    "RAY_AUTH_MODE": "token",
    # Ray would give way to everything else on the machine, with nice 15
    "RAY_worker_niceness": "0",
}


def start_ray(num_cpus: int | None = None) -> bool:
    """Use the Ray of this process, or start one that listens to this machine alone.

    Args:
        num_cpus: of a Ray that is started; all of the machine by default.

    Returns:
        Whether it was started here, so that the caller is the one to shut it down.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return False
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    from ray._private import ray_constants
    from ray._raylet import Config  # type: ignore[attr-defined]

    # both were read from the environment when ray was imported, perhaps before it was set
    ray_constants.ENABLE_RAY_CLUSTER = False
    Config.initialize("")
    ray.init(
        address="local",
        num_cpus=num_cpus or os.cpu_count(),
        include_dashboard=False,
        object_store_memory=_object_store_bytes(),
        log_to_driver=False,
        configure_logging=False,
        logging_level=logging.ERROR,
    )
    return True


def free_port(host: str) -> int:
    """A TCP port of `host` that nobody listens on at this moment."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_port(host: str, port: int) -> None:
    """Make sure that the service can listen on `port`.

    Raises:
        ServiceError: another program does, or `host` is not an address of this machine.
    """
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServiceError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another port, "
                "or 0 for any free one"
            ) from None


def _object_store_bytes() -> int:
    """Shared memory for scans and features; what does not fit is kept on disk by Ray."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [MAX_OBJECT_STORE, pages // 8]
    if SHARED_MEMORY.is_dir():
        space = os.statvfs(SHARED_MEMORY)
        limits.append(space.f_bavail * space.f_frsize // 2)
    return max(min(limits), 80 << 20)  # Ray refuses less than 75 MiB


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
