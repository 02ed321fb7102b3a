"""``clnet``: the commands, and how errors reach the person at the keyboard."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from clnet import __version__
from clnet.cli import (
    anatomies,
    audit,
    body_parts,
    datasets,
    decoders,
    encoders,
    jobs,
    releases,
    sites,
)
from clnet.cli.doctor import doctor
from clnet.cli.evaluate import evaluate
from clnet.cli.quickstart import quickstart
from clnet.cli.segment import segment
from clnet.cli.serve import serve
from clnet.cli.tune import tune
from clnet.errors import ClnetError, InputError

__all__ = ["app", "main"]

app = typer.Typer(
    name="clnet",
    help="Continual learning for whole-body CT segmentation: one frozen encoder, many small "
    "decoders, nothing forgotten.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(anatomies.app, name="anatomies")
app.add_typer(datasets.app, name="datasets")
app.add_typer(encoders.app, name="encoders")
app.add_typer(body_parts.app, name="body-parts")
app.add_typer(jobs.app, name="jobs")
app.add_typer(decoders.app, name="decoders")
app.add_typer(releases.app, name="releases")
app.add_typer(sites.app, name="sites")
app.add_typer(audit.app, name="audit")
app.command(epilog="Example: clnet quickstart --ct my-ct.nii.gz")(quickstart)
app.command(epilog="Example: clnet tune abdomen/liver --tolerance 0.01")(tune)
app.command(
    epilog="Examples: clnet segment ct.nii.gz --output out --anatomy liver; "
    "clnet segment ct.nii.gz --output out --mirror zyx --overlap 0.5 --precision float32"
)(segment)
app.command(epilog="Example: clnet evaluate --reference truth --prediction found --out scores")(
    evaluate
)
app.command(epilog="Example: clnet serve --release 2026.11 --place abdomen/liver=own:2")(serve)
app.command(epilog="Example: clnet doctor --ray")(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clnet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and stop.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run ``clnet``. Exit code 2: what was asked cannot be done as asked; 1: it failed."""
    try:
        app()
    except ClnetError as error:
        text = typer.style("error:", fg=typer.colors.RED, bold=True)
        typer.echo(f"{text} {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)
