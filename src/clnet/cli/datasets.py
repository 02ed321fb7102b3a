"""``clnet datasets``."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clnet.cli.bundles import app as bundles
from clnet.cli.options import (
    DEFAULT_WORKSPACE,
    AcceptOption,
    JsonOption,
    ObligationOption,
    RayOption,
    ReportOption,
    WorkspaceOption,
    file_to_write,
    open_datasets,
)
from clnet.cli.report import show_judgement
from clnet.cli.show import listing, progress, record
from clnet.cli.terms import terms_of
from clnet.errors import InputError
from clnet.hub.rows import dataset_row, listed_row
from clnet.storage import atomic_write

if TYPE_CHECKING:
    from clnet.data_catalog import Judgement

__all__ = ["app"]


class ExportTo(Enum):
    """Formats of :func:`export`."""

    nifti = "nifti"
    nnunet = "nnunet"


app = typer.Typer(help="Datasets that sites contribute.", no_args_is_help=True)
app.add_typer(bundles)


@app.command(
    epilog="Example: clnet datasets contribute site-a/abdomen --source ./amos --recipe amos22"
)
def contribute(
    name: Annotated[str, typer.Argument(help="site/name; a new version is made.")],
    source: Annotated[
        Path, typer.Option(help="Folder with the scans and labels; its layout is recognised.")
    ],
    format: Annotated[
        str | None, typer.Option(help="Layout of the folder (clnet datasets formats).")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Public dataset that it is a copy of (clnet datasets recipes)."),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="YAML: label id or name to anatomy (see docs/labels.md); else the recipe's, or "
            "the names in the source."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="SPDX identifier, or LicenseRef-NAME; else the recipe's.")
    ] = None,
    attribution: Annotated[str | None, typer.Option(help="Whom to name, and how.")] = None,
    consent: Annotated[
        str | None, typer.Option(help="On what ground the images may be used.")
    ] = None,
    obligation: ObligationOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only validate and report; nothing is stored.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse it all where one case is at fault.")
    ] = False,
    deidentify: Annotated[
        bool,
        typer.Option(
            "--deidentify", help="Take files whose headers may name a person, without it."
        ),
    ] = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Put labels on another grid onto the image's.")
    ] = False,
    accept: AcceptOption = None,
    report: ReportOption = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="Cases at once, on Ray; each takes some 0.5 GiB whatever the scan."
        ),
    ] = 1,
    ray: RayOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Validate cases, and store those that pass as a new version of a dataset.

    The others are quarantined: reported, and not stored. Exit code 2: nothing was stored (or
    would be), because every case is at fault, or one under --strict.
    """
    from clnet.data_catalog import IntakeRules, load_recipe

    known = load_recipe(recipe) if recipe else None
    rules = IntakeRules(strict, deidentify, resample, frozenset(accept or ()))
    datasets = open_datasets(workspace, ray)
    if dry_run:
        with progress(f"validating {name}") as tell:
            judgement = datasets.validate(
                name,
                source,
                mapping,
                tell,
                format=format,
                recipe=known,
                rules=rules,
                workers=workers,
            )
        show_judgement(judgement, report, as_json=as_json)
        raise typer.Exit(2 if judgement.report.refused else 0)
    terms = terms_of(
        known.terms if known else None, licence, attribution, consent, obligation or None
    )
    judged: list[Judgement] = []
    try:
        with progress(f"contributing {name}") as tell:
            dataset = datasets.contribute(
                name,
                source,
                mapping,
                terms,
                tell,
                format=format,
                recipe=known,
                rules=rules,
                tell=judged.append,
                workers=workers,
            )
    except InputError:
        if judged:
            show_judgement(judged[0], report, as_json=as_json)
        raise
    if as_json:
        if report is not None:
            judged[0].write(report)
        told = judged[0].report.model_dump(mode="json", include={"quarantined", "findings"})
        record(dataset_row(dataset) | told, as_json=True)
        return
    show_judgement(judged[0], report, as_json=False)
    record(dataset_row(dataset), as_json=False)


@app.command(epilog="Example: clnet datasets recipes amos22")
def recipes(
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Public datasets whose labels, layout and terms are known."""
    from clnet.data_catalog import load_recipe
    from clnet.data_catalog import recipes as known

    if name is not None:
        values = load_recipe(name).model_dump(mode="json", exclude_none=True)
        record(values, as_json=as_json)
        return
    rows = [
        {
            "recipe": recipe.id,
            "title": recipe.title,
            "cases": recipe.cases,
            "anatomies": len(recipe.meanings.anatomies),
            "licence": recipe.licence,
            "obligations": " ".join(sorted(recipe.obligations)),
        }
        for recipe in known().values()
    ]
    listing(rows, as_json=as_json, empty="no recipe")


@app.command(epilog="Example: clnet datasets formats")
def formats(as_json: JsonOption = False) -> None:
    """Layouts of folders that are recognised."""
    from clnet.data_catalog.sources import format_names, looks_for

    rows = [{"format": name, "looks_for": looks_for(name)} for name in format_names()]
    listing(rows, as_json=as_json, empty="no format")


@app.command("list", epilog="Example: clnet datasets list --anatomy liver --site site-a")
def list_(
    anatomy: Annotated[
        list[str] | None,
        typer.Option(help="Only datasets whose labels can teach it; repeat for several."),
    ] = None,
    site: Annotated[str | None, typer.Option(help="Only datasets of this site.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Every version of every dataset, or those that are asked for.

    Those that were withdrawn say why; none of them can teach an anatomy.
    """
    wanted = anatomy or []
    rows, datasets = [], open_datasets(workspace)
    withdrawn = datasets.withdrawn()
    for dataset in datasets.list(wanted, site):
        row = listed_row(dataset, withdrawn)
        if wanted:
            found = [known for name in wanted if (known := dataset.teaches(name))]
            row["teaches"] = [asdict(known) if as_json else str(known) for known in found]
        rows.append(row)
    empty = "no dataset yet: clnet datasets contribute --help"
    if wanted or site is not None:
        empty = "no dataset here matches; clnet datasets list shows all"
    listing(rows, as_json=as_json, empty=empty)


@app.command(epilog="Example: clnet datasets show site-a/abdomen@1")
def show(
    ref: Annotated[str, typer.Argument(help="site/name@version; the newest without @.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """One version: terms, cases, and what was made from it."""
    datasets = open_datasets(workspace)
    dataset = datasets.get(ref)
    manifest = dataset.manifest.model_dump(mode="json")
    known = datasets.record(dataset.ref)
    values = dataset_row(dataset) | {
        "terms": manifest["terms"],
        "obligations": list(datasets.terms(dataset.ref).obligations),
        "withdrawn": known.withdrawn_reason,
        "erased": dataset.erased,
        "went_into": datasets.touched_by(dataset.ref).model_dump(mode="json"),
        "case_ids": list(dataset.case_ids),
        "quarantined": dataset.validation.quarantine() if dataset.validation else [],
    }
    record(values, as_json=as_json)


@app.command(epilog="Example: clnet datasets withdraw site-a/abdomen@1 --reason 'consent revoked'")
def withdraw(
    ref: Annotated[str, typer.Argument(help="site/name@version.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    erase: Annotated[
        bool, typer.Option("--erase", help="Remove its voxels from this hub as well.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Let nothing more learn from a version, and list what was made from it."""
    touched = open_datasets(workspace).withdraw(ref, reason, erase=erase)
    record(touched.model_dump(mode="json"), as_json=as_json)


@app.command(epilog="Example: clnet datasets duplicates --json")
def duplicates(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Scans that several sites contributed. For hub admins: patients were in both."""
    found = open_datasets(workspace).cross_site_duplicates()
    rows = [
        {"ref": ref} | entry.model_dump() for ref, entries in found.items() for entry in entries
    ]
    listing(rows, as_json=as_json, empty="no scan was contributed by two sites")


@app.command(epilog="Example: clnet datasets fingerprint --plot catalog.png")
def fingerprint(
    ref: Annotated[
        str | None, typer.Argument(help="site/name@version; the newest without @. All without it.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=file_to_write, help="Draw datasets side by side, as PNG."
        ),
    ] = None,
    body_part_model: Annotated[
        str | None,
        typer.Option(help="Model that says where along the body scans and labels lie."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """What a version holds: cases, spacing, intensity, anatomies with voxel counts.

    With a body-part model (--body-part-model starter) also where along the body, 0 at the
    bottom of the pelvis and 1 at the top of the head.
    """
    datasets = open_datasets(workspace)
    if plot is not None:
        with progress("drawing the catalog") as tell:
            picture = datasets.figure(None if ref is None else [ref], body_part_model, tell)
        atomic_write(plot, picture)
        record({"picture": str(plot)}, as_json=as_json)
        return
    if ref is None:
        newest = {dataset.manifest.name: dataset.ref for dataset in datasets.list()}
        rows = [{"ref": ref} | _in_one_line(datasets.fingerprint(ref)) for ref in newest.values()]
        listing(rows, as_json=as_json, empty="no dataset yet: clnet datasets contribute")
        return
    values = dict(datasets.fingerprint(ref))
    if body_part_model is not None:
        with progress(f"measuring {ref}") as tell:
            extents = datasets.body_extents(ref, body_part_model, tell)
        values["body_parts"] = extents.model_dump(mode="json")
    if as_json:
        record(values, as_json=True)
        return
    anatomies = values["anatomies"]
    record({key: value for key, value in values.items() if key != "anatomies"}, as_json=False)
    rows = [{"anatomy": name} | counts for name, counts in anatomies.items()]
    listing(rows, as_json=False, empty="no anatomy is labelled")


def _in_one_line(found: dict[str, Any]) -> dict[str, Any]:
    z, y, x = found["spacing_zyx_mm"]["median"]
    return {
        "cases": found["cases"],
        "anatomies": len(found["anatomies"]),
        "spacing_mm": f"{z:g} x {y:g} x {x:g}",
        "labelled_hu": found["foreground_hu"].get("mean"),
    }


@app.command(epilog="Example: clnet datasets export site-a/abdomen@1 --to ./out --format nnunet")
def export(
    ref: Annotated[str, typer.Argument(help="site/name@version; the newest without @.")],
    to: Annotated[Path, typer.Option(help="Folder to make.")],
    format: Annotated[ExportTo, typer.Option(help="Masks by name, or nnU-Net v2 raw.")] = (
        ExportTo.nifti
    ),
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write a version as files, on the grid and in the orientation that each scan came in."""
    datasets = open_datasets(workspace)
    with progress(f"exporting {ref}") as tell:
        folder = datasets.export(ref, to, format.value, tell)
    record({"ref": datasets.get(ref).ref, "folder": str(folder)}, as_json=as_json)
