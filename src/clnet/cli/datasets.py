"""``clnet datasets``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, open_hub
from clnet.cli.show import listing, progress, record
from clnet.errors import InputError

if TYPE_CHECKING:
    from clnet.data_catalog import Dataset, Terms

__all__ = ["app"]

app = typer.Typer(help="Datasets that sites contribute.", no_args_is_help=True)


@app.command(
    epilog="Example: clnet datasets contribute site-a/abdomen ./amos "
    "--mapping mapping.yaml --licence CC-BY-4.0 --attribution 'Hospital A' --obligation BY"
)
def contribute(
    name: Annotated[str, typer.Argument(help="site/name; a new version is made.")],
    source: Annotated[
        Path, typer.Argument(help="Folder with images/ and labels/, or imagesTr/ and labelsTr/.")
    ],
    mapping: Annotated[
        Path, typer.Option(help="YAML: source label to anatomy (see docs/labels.md).")
    ],
    licence: Annotated[str, typer.Option(help="SPDX identifier, or LicenseRef-NAME.")],
    attribution: Annotated[str, typer.Option(help="Whom to name, and how.")] = "",
    consent: Annotated[str, typer.Option(help="On what ground the images may be used.")] = "",
    obligation: Annotated[
        list[str] | None, typer.Option(help="BY, NC, SA, ND or AGREEMENT; may be repeated.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Store a new version of a dataset: all of its cases, or nothing."""
    terms = _terms(licence, attribution, consent, obligation or [])
    hub = open_hub(workspace)
    with progress(f"contributing {name}") as tell:
        dataset = hub.datasets.contribute(name, source, mapping, terms, tell)
    record(_row(dataset), as_json=as_json)


@app.command("list", epilog="Example: clnet datasets list --json")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Every version of every dataset."""
    rows = [_row(dataset) for dataset in open_hub(workspace).datasets.list()]
    listing(rows, as_json=as_json, empty="no dataset yet: clnet datasets contribute --help")


@app.command(epilog="Example: clnet datasets show site-a/abdomen@1")
def show(
    ref: Annotated[str, typer.Argument(help="site/name@version; the newest without @.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """One version: terms, cases, and what was made from it."""
    hub = open_hub(workspace)
    dataset = hub.datasets.get(ref)
    manifest = dataset.manifest.model_dump(mode="json")
    values = _row(dataset) | {
        "terms": manifest["terms"],
        "went_into": hub.datasets.touched_by(dataset.ref).model_dump(mode="json"),
        "case_ids": list(dataset.case_ids),
    }
    record(values, as_json=as_json)


@app.command(epilog="Example: clnet datasets fingerprint site-a/abdomen@1 --json")
def fingerprint(
    ref: Annotated[str, typer.Argument(help="site/name@version; the newest without @.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """What a version holds: cases, spacing, intensity, anatomies with voxel counts."""
    values = open_hub(workspace).datasets.fingerprint(ref)
    if as_json:
        record(values, as_json=True)
        return
    anatomies = values["anatomies"]
    record({key: value for key, value in values.items() if key != "anatomies"}, as_json=False)
    rows = [{"anatomy": name} | counts for name, counts in anatomies.items()]
    listing(rows, as_json=False, empty="no anatomy is labelled")


def _row(dataset: Dataset) -> dict[str, Any]:
    manifest = dataset.manifest
    return {
        "ref": dataset.ref,
        "cases": len(dataset),
        "licence": manifest.terms.licence,
        "created": f"{manifest.created:%Y-%m-%d %H:%M}",
        "sha256": dataset.sha256,
    }


def _terms(licence: str, attribution: str, consent: str, obligations: list[str]) -> Terms:
    from pydantic import ValidationError

    from clnet.data_catalog import Terms

    values = {
        "licence": licence,
        "attribution": attribution,
        "consent": consent,
        "obligations": frozenset(name.upper() for name in obligations),
    }
    try:
        return Terms.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"--{first['loc'][0]}: {first['msg']}") from None
