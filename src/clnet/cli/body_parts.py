"""``clnet body-parts``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clnet.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    ObligationOption,
    WorkspaceOption,
    open_hub,
)
from clnet.cli.show import listing, progress
from clnet.cli.terms import terms_of

__all__ = ["app"]

app = typer.Typer(help="Body-part models: where on the body a slice is.", no_args_is_help=True)


@app.command("list", epilog="Example: clnet body-parts list")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Every version of every body-part model."""
    rows = [
        {"ref": one.ref, "created": f"{one.created:%Y-%m-%d %H:%M}", "sha256": one.sha256}
        for one in open_hub(workspace).body_parts.list()
    ]
    listing(rows, as_json=as_json, empty="no body-part model yet: clnet body-parts train --help")


@app.command(epilog="Example: clnet body-parts train whole-body --dataset ref/whole-body@1")
def train(
    name: Annotated[str, typer.Argument(help="Of the model; one that is there gets a version.")],
    dataset: Annotated[
        list[str],
        typer.Option(
            help="Dataset to learn from, hips, skull or vertebrae labelled; may be repeated."
        ),
    ],
    steps: Annotated[int, typer.Option(min=1, help="Of the optimiser.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and sampling.")] = 0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Train a body-part model: the order of slices, then heights from bones."""
    with progress("body parts") as tell:
        made = open_hub(workspace).body_parts.train(tuple(dataset), name, steps, seed, tell)
    typer.echo(made.ref)


@app.command(
    "import-bpreg",
    epilog="Example: clnet body-parts import-bpreg public_bpr_model --licence Apache-2.0",
)
def import_bpreg(
    folder: Annotated[Path, typer.Argument(help="With model.pt and inference-settings.json.")],
    licence: Annotated[
        str, typer.Option(help="Of model and data: SPDX identifier, or LicenseRef-NAME.")
    ],
    name: Annotated[str, typer.Option(help="Of the model.")] = "bpreg",
    attribution: Annotated[str, typer.Option(help="Whom to name, and how.")] = "",
    consent: Annotated[str, typer.Option(help="On what ground the data may be used.")] = "",
    obligation: ObligationOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Bring the public bpreg model; weights alone are read, no code is run."""
    terms = terms_of(None, licence, attribution or None, consent or None, obligation)
    typer.echo(open_hub(workspace).body_parts.import_bpreg(folder, terms, name).ref)
