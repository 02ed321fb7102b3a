"""`clnet anatomies`: look up the vocabulary."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from clnet.anatomy import Anatomy

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Look up the anatomies that decoders predict, their groups, layers and other names.

\b
Examples:
  clnet anatomies list --region Abdomen
  clnet anatomies show "left kidney" --json
  clnet anatomies resolve "Liver" OAR_Parotid_L
  ls masks | sed 's/.nii.gz//' | clnet anatomies resolve -
""",
)


@app.command("list")
def list_anatomies(
    region: Annotated[
        str | None, typer.Option(help="Only this region, as 'Head & Neck' or head_neck.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Only this layer, as organ or bone.")] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Also names that are unions of others, or cut across them."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON array.")] = False,
) -> None:
    """List the anatomies: id, English name, region, layer and group, separated by tabs.

    \b
    Examples:
      clnet anatomies list
      clnet anatomies list --region head_neck --layer vessel
      clnet anatomies list --all --json
    """
    from clnet.anatomy.vocabulary import LAYERS, REGIONS, vocabulary

    wanted = None
    if region is not None:
        names = {name.casefold(): name for slug, name in REGIONS.items()}
        wanted = REGIONS.get(region.casefold()) or names.get(region.casefold())
        if wanted is None:
            raise typer.BadParameter(f"{region!r} is none of {', '.join(REGIONS)}")
    if layer is not None and layer not in LAYERS:
        raise typer.BadParameter(f"{layer!r} is none of {', '.join(LAYERS)}")
    found = [
        anatomy
        for anatomy in vocabulary()
        if (everything or anatomy.leaf)
        and wanted in (None, anatomy.region)
        and layer in (None, anatomy.layer)
    ]
    if as_json:
        typer.echo(json.dumps([_record(anatomy) for anatomy in found], indent=2))
        return
    for anatomy in found:
        cells = (anatomy.id, anatomy.name, anatomy.region, anatomy.layer, _group(anatomy) or "-")
        typer.echo("\t".join(cells))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Any name of the anatomy.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show what is known of one anatomy.

    \b
    Examples:
      clnet anatomies show kidney_left
      clnet anatomies show "Thyroid" --json
    """
    from clnet.anatomy import vocabulary

    record = _record(vocabulary()[vocabulary().resolve(name)])
    if as_json:
        typer.echo(json.dumps(record, indent=2))
        return
    for key, value in record.items():
        text = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{key:<9} {'-' if text in (None, '') else text}")


@app.command()
def resolve(
    names: Annotated[list[str], typer.Argument(help="Names, or - for one per line of input.")],
) -> None:
    """Print each name, a tab, and its canonical id, or ? if no anatomy has the name.

    \b
    Examples:
      clnet anatomies resolve "Right Kidney" hepatic_tumor
      clnet anatomies resolve - < labels.txt
    """
    from clnet.anatomy import vocabulary

    for name in _from_input() if names == ["-"] else names:
        typer.echo(f"{name}\t{vocabulary().find(name) or '?'}")


def _from_input() -> Iterator[str]:
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


def _group(anatomy: Anatomy) -> str | None:
    from clnet.anatomy import default_stratification

    return default_stratification().group_of(anatomy.id).id if anatomy.leaf else None


def _record(anatomy: Anatomy) -> dict[str, Any]:
    return {**anatomy.model_dump(mode="json"), "leaf": anatomy.leaf, "group": _group(anatomy)}
