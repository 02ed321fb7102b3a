"""The Ray that the service runs on: one that is there already, or a small one of this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from pathlib import Path

from clnet.errors import ServiceError

__all__ = ["LOOPBACK", "free_port", "require_port", "start_ray", "stop_serve"]

LOOPBACK = "127.0.0.1"
MAX_OBJECT_STORE = 2 << 30  # a scan of 512 x 512 x 1000 voxels is 0.5 GiB
STOP_SECONDS = 60
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
    # patience on machines that are busy with something else
    "RAY_NUM_REDIS_GET_RETRIES": "120",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
}


def start_ray(num_cpus: int | None = None) -> bool:
    """Use the Ray of this process, or start one that listens to this machine alone.

    Args:
        num_cpus: of a Ray that is started; all of the machine by default.

    Returns:
        Whether it was started here, so that the caller is the one to shut it down.

    Raises:
        ServiceError: Ray could not start.
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
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus or os.cpu_count(),
            include_dashboard=False,
            object_store_memory=_object_store_bytes(),
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises plain exceptions where a process is late
        raise ServiceError(
            f"Ray did not start: {error} Wait until the machine is less busy and try again"
        ) from error
    return True


def stop_serve() -> None:
    """Stop Ray Serve and leave Ray running."""
    import ray
    from ray import serve
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    if client is not None:
        # the controller ends itself in this call; with retries, as `serve.shutdown` asks for it,
        # Ray prints on the user's terminal that the call failed and is tried again
        stop = client._controller.graceful_shutdown.options(max_task_retries=0)
        with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            ray.get(stop.remote(), timeout=STOP_SECONDS)
    serve.shutdown()  # type: ignore[no-untyped-call]


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
