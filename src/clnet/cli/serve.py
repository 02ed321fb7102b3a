"""``clnet serve``."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from clnet.cli.options import (
    DEFAULT_WORKSPACE,
    MemoryOption,
    MirrorOption,
    OverlapOption,
    PrecisionOption,
    RayOption,
    WorkspaceOption,
    open_hub,
)
from clnet.cli.show import progress
from clnet.errors import InputError

if TYPE_CHECKING:
    from clnet.model.numerics import Precision

__all__ = ["serve"]


def serve(
    release: Annotated[str | None, typer.Option(help="Release to serve; the newest.")] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP=PLACE",
            help="local (beside the encoder) or own:REPLICAS; may be repeated.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address; this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the clients' token; a random one is shown.")
    ] = None,
    memory_budget: MemoryOption = None,
    mirror: MirrorOption = "",
    overlap: OverlapOption = None,
    precision: PrecisionOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    ray: RayOption = None,
) -> None:
    """Serve a release on HTTP until Ctrl-C.

    Beside --memory-budget a scan takes two bytes a voxel of Ray's object store (shared memory),
    and a byte a voxel per layer while its files are written.
    """
    from clnet.serve import Placement

    token = None if token_file is None else _read(token_file)
    with open_hub(workspace, ray) as hub:
        with progress("starting") as tell:
            service = hub.serve(
                release,
                Placement.parse(place or []),
                host=host,
                port=port,
                token=token,
                memory_budget=memory_budget,
                mirror=mirror,
                overlap=overlap,
                precision=cast("Precision", precision),
                progress=tell,
            )
        with service:
            typer.echo(f"serving release {service.release} at {service.url}")
            if token is None:
                typer.echo(f"clients send: Authorization: Bearer {service.token}")
            typer.echo(
                f"requests are described in {service.url}/openapi.json, which also takes the "
                "token; Ctrl-C stops it"
            )
            _wait_for_signal()


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {file}: {error}") from None
