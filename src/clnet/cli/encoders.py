"""``clnet encoders``."""

from __future__ import annotations

from typing import Annotated

import typer

from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, open_hub
from clnet.cli.show import listing, record

__all__ = ["app"]

app = typer.Typer(help="Frozen encoders.", no_args_is_help=True)


@app.command("list", epilog="Example: clnet encoders list")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Every version of every encoder."""
    rows = [
        {
            "ref": encoder.ref,
            "spacing_zyx_mm": encoder.plan.get("spacing"),
            "features": encoder.config.get("features"),
            "created": f"{encoder.created:%Y-%m-%d %H:%M}",
            "sha256": encoder.sha256,
        }
        for encoder in open_hub(workspace).encoders.list()
    ]
    listing(rows, as_json=as_json, empty="no encoder yet: clnet releases import starter brings one")


@app.command(epilog="Example: clnet encoders show encoder/starter@1")
def show(
    ref: Annotated[str, typer.Argument(help="encoder/name@version; the newest without @.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """One encoder: its plan, its shape, and how it came to be."""
    encoder = open_hub(workspace).encoders.get(ref)
    record(encoder.model_dump(mode="json"), as_json=as_json)
