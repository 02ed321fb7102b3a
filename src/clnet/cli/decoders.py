"""``clnet decoders``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, open_hub
from clnet.cli.show import listing, record
from clnet.errors import InputError

if TYPE_CHECKING:
    from clnet.decoders_registry import DecoderRecord

__all__ = ["app", "decoder_row"]

app = typer.Typer(help="Decoder versions of anatomy groups.", no_args_is_help=True)

Ref = Annotated[str, typer.Argument(help="group@version or group@alias; the newest without @.")]


def decoder_row(decoder: DecoderRecord) -> dict[str, Any]:
    """A decoder version in one line."""
    return {
        "ref": decoder.ref,
        "aliases": list(decoder.aliases),
        "status": decoder.status,
        "anatomies": list(decoder.anatomies),
        "pruned": decoder.ticket.sparsity if decoder.ticket else 0.0,
        "encoder": decoder.encoder_ref,
        "sha256": decoder.sha256[:12],
    }


@app.command("list", epilog="Example: clnet decoders list --group abdomen/liver")
def list_(
    group: Annotated[str | None, typer.Option(help="Only this anatomy group.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """All decoder versions."""
    rows = [decoder_row(decoder) for decoder in open_hub(workspace).decoders.list(group)]
    listing(rows, as_json=as_json, empty="no decoder yet: clnet jobs submit trains one")


@app.command(epilog="Example: clnet decoders show abdomen/liver@production")
def show(
    ref: Ref,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure seconds per patch on this machine.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """One version: what it learned, its ticket and what that saves, its metrics."""
    decoders = open_hub(workspace).decoders
    decoder = decoders.get(ref)
    values = decoder.model_dump(mode="json")
    values["terms"] = decoders.terms(decoder.ref).model_dump(mode="json")
    if decoder.ticket is not None or speed:
        values["footprint"] = decoders.footprint(decoder.ref, speed=speed)
    record(values, as_json=as_json)


@app.command(epilog="Example: clnet decoders promote abdomen/liver@3 --alias production")
def promote(
    ref: Annotated[str, typer.Argument(help="group@version.")],
    alias: Annotated[str, typer.Option(help="Name to point at the version.")] = "production",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Point an alias of a group at a version."""
    group, _, version = ref.partition("@")
    if not version.isdecimal():
        raise InputError(f"{ref}: name the version to promote, such as {group}@1")
    decoder = open_hub(workspace).decoders.promote(group, int(version), alias)
    record(decoder_row(decoder), as_json=as_json)


@app.command(epilog="Example: clnet decoders lineage abdomen/liver@3 --json")
def lineage(
    ref: Ref, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False
) -> None:
    """Everything that a version came from, down to the datasets."""
    tree = open_hub(workspace).decoders.lineage(ref)
    if as_json:
        typer.echo(json.dumps(tree, indent=1, default=str))
        return
    from rich.console import Console
    from rich.tree import Tree

    root = Tree(_name(tree))
    _grow(root, tree)
    Console(highlight=False, markup=False).print(root)


def _grow(branch: Any, node: dict[str, Any]) -> None:
    for parent in node.get("from", ()):
        _grow(branch.add(_name(parent)), parent)


def _name(node: dict[str, Any]) -> str:
    role = node.get("role")
    again = " (see above)" if node.get("repeated") else ""
    digest = f"  {node['sha256'][:12]}" if "sha256" in node else ""
    return f"{role + ': ' if role else ''}{node['kind']} {node['ref']}{digest}{again}"
