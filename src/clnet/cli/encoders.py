"""``clnet encoders``."""

from __future__ import annotations

from typing import Annotated

import typer

from clnet.cli.jobs import follow, settings_of
from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, RayOption, WorkspaceOption, open_hub
from clnet.cli.show import listing, record

__all__ = ["app"]

app = typer.Typer(help="Frozen encoders.", no_args_is_help=True)

DatasetOption = Annotated[
    list[str], typer.Option(help="Whole-body dataset to learn from; may be repeated.")
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Field of the job; may be repeated."),
]


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


@app.command(
    epilog="Examples: clnet encoders train whole-body --dataset ref/whole-body@1 --follow; "
    "clnet encoders train whole-body --dataset ref/whole-body@1 --set workers=4 "
    "--set batch_size=8 --set spacing=[1.5,1.5,1.5]"
)
def train(
    name: Annotated[str, typer.Argument(help="Of the encoder; one that is there gets a version.")],
    dataset: DatasetOption,
    settings: SettingsOption = None,
    wait: Annotated[bool, typer.Option("--follow", help="Show events up to the end.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    ray: RayOption = None,
) -> None:
    """Queue the training of a general encoder; it goes on from its checkpoint if interrupted.

    `clnet jobs` shows and cancels it like any other job.
    """
    hub = open_hub(workspace, ray)
    handle = hub.encoders.submit(tuple(dataset), name, **settings_of(settings or []))
    if not wait:
        typer.echo(handle.id)
        return
    job = follow(handle)
    typer.echo(", ".join(job.results) or job.error)
    if job.status != "succeeded":
        raise typer.Exit(1)


@app.command(epilog="Example: clnet encoders plan --dataset ref/whole-body@1 --set features=16")
def plan(
    dataset: DatasetOption,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Show the plan and the network that a training on these datasets would use."""
    hub = open_hub(workspace)
    made, network = hub.encoders.plan(tuple(dataset), **settings_of(settings or []))
    record({"plan": made.to_dict(), "network": network.to_dict()}, as_json=as_json)
