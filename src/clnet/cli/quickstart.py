"""``clnet quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, RayOption, WorkspaceOption
from clnet.cli.show import record

__all__ = ["quickstart"]


def quickstart(
    ct: Annotated[
        Path | None, typer.Option(help="A CT of your own, as NIfTI, to segment too.")
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Make the starter release first (hours).")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    ray: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole path on made-up patients: contribute, train, prune, release, serve, segment.

    Run again, it reuses what is there. Exit code 1: your CT came back without a result.
    """
    from rich.console import Console

    from clnet.quickstart import run
    from clnet.stages import Stages

    stages = Stages(Console(stderr=True)) if as_json else None
    summary = run(workspace, ct=ct, from_scratch=from_scratch, ray=ray, stages=stages)
    if as_json:
        record(summary, as_json=True)
    if summary["refused"]:
        raise typer.Exit(1)
