"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clnet.hub import Hub

__all__ = ["JsonOption", "MemoryOption", "RayOption", "WorkspaceOption", "open_hub"]

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        envvar="CLNET_WORKSPACE",
        metavar="DIR",
        help="Folder of datasets, registry and results.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory-budget",
        metavar="SIZE",
        help="What one scan may take beside the networks, such as 4GiB; half of what is free. "
        "Less takes longer and gives the same.",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        envvar="CLNET_RAY",
        metavar="ADDRESS",
        help="Ray cluster to use; a local Ray is started by default.",
    ),
]

DEFAULT_WORKSPACE = Path("clnet-workspace")


def open_hub(workspace: Path, ray: str | None = None) -> Hub:
    """The hub of a workspace."""
    from clnet.hub import connect

    return connect(workspace, ray=ray)
