"""``clnet tune``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, RayOption, WorkspaceOption, open_hub
from clnet.cli.show import listing, progress

__all__ = ["tune"]


def tune(
    decoders: Annotated[
        list[str], typer.Argument(help="Anatomy groups (newest dense version) or versions.")
    ],
    space: Annotated[str, typer.Option(help="Search space: a name, or a YAML file.")] = "default",
    tolerance: Annotated[
        float, typer.Option(help="How much lower the mean validation DSC may be.")
    ] = 0.01,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    ray: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search how much of dense decoders can be cut, and register the pruned versions."""
    with progress("searching") as tell:
        found = open_hub(workspace, ray).tune(decoders, space, tolerance, tell)
    rows = [
        {
            "dense": each.dense.ref,
            "pruned": each.pruned.ref,
            "rate": each.pruned.ticket.rate if each.pruned.ticket else None,
            "mean_dsc": each.pruned.metrics.get("mean_dsc"),
            "within_tolerance": each.within,
            "reason": each.pruned.status_reason,
        }
        | ({"trials": [asdict(trial) for trial in each.trials]} if as_json else {})
        for each in found
    ]
    listing(rows, as_json=as_json, empty="")
