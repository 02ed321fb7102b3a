"""The Ray that the service runs on: one that is there already, or a small one of this machine."""

from __future__ import annotations

import contextlib
import socket

from clnet import local_ray
from clnet.errors import InputError, ServiceError

__all__ = ["LOOPBACK", "require_port", "start_ray", "stop_serve"]

LOOPBACK = "127.0.0.1"
MAX_OBJECT_STORE = 2 << 30  # a scan of 512 x 512 x 1000 voxels is 0.5 GiB
STOP_SECONDS = 60
MAX_PORT = 65535


def start_ray(num_cpus: int | None = None) -> bool:
    """Use the Ray of this process, or start one that listens to this machine alone.

    Args:
        num_cpus: of a Ray that is started; all of the machine by default.

    Returns:
        Whether it was started here, so that the caller is the one to shut it down.

    Raises:
        ServiceError: Ray could not start.
    """
    if local_ray.is_connected():
        return False
    local_ray.prepare_private()
    local_ray.start(num_cpus, max_object_store_bytes=MAX_OBJECT_STORE)
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


def require_port(host: str, port: int) -> int:
    """Make sure that the service can listen on `port`; gives it, or a free one for 0.

    Raises:
        InputError: no port has that number.
        ServiceError: another program listens there, or `host` is not an address of this machine.
    """
    if not 0 <= port <= MAX_PORT:
        raise InputError(f"port {port}: 1 to {MAX_PORT}, or 0 for any free one")
    with socket.socket(_family(host)) as probe:
        if port:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServiceError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another host or "
                "port, 0 for any free one"
            ) from None
        return int(probe.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
