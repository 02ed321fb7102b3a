"""``clnet releases``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clnet.cli.decoders import decoder_row
from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, open_hub
from clnet.cli.show import listing, progress, record
from clnet.errors import InputError

if TYPE_CHECKING:
    from clnet.decoders_registry import ReleaseDiff, ReleaseRecord
    from clnet.platform.certificate import Certificate

__all__ = ["app"]

app = typer.Typer(help="What is served: encoder, body-part model, decoders.", no_args_is_help=True)


@app.command(
    epilog="Examples: clnet releases create 2026.11 --alias production; "
    "clnet releases create 2026.12 abdomen/spleen@2 --parent 2026.11; "
    "clnet releases create 2027.01 --encoder starter@1 --policy policy.yaml, where policy.yaml "
    'says, for example, "largest_component: [liver, kidney]"'
)
def create(
    name: Annotated[str, typer.Argument(help="Name of the release; it never changes.")],
    decoders: Annotated[
        list[str] | None, typer.Argument(help="Decoder versions; or use --alias.")
    ] = None,
    alias: Annotated[
        str, typer.Option(help="Without versions: every group's version of this name.")
    ] = "production",
    parent: Annotated[
        str | None, typer.Option(help="Release to extend; what it segments keeps its voxels.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Merge policy as YAML or JSON: gating, calibration, anomaly_aware (true or "
            "false), precedence (parent, newest or equal), largest_component (anatomies), notice "
            "(text); the parent's.",
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Encoder to pin; the parent's, or the decoders'.")
    ] = None,
    body_part_model: Annotated[
        str | None, typer.Option(help="Body-part model to pin; the parent's, or the decoders'.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Put decoders together as a release."""
    chosen: list[str] | str = decoders if decoders else alias
    settings = None if policy is None else _settings_in(policy)
    with progress("probing") as tell:
        release = open_hub(workspace).releases.create(
            name,
            chosen,
            encoder=encoder,
            body_part_model=body_part_model,
            parent=parent,
            policy=settings,
            progress=tell,
        )
    record(_row(release), as_json=as_json)


@app.command("list", epilog="Example: clnet releases list")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """All releases, oldest first."""
    rows = [_row(release) for release in open_hub(workspace).releases.list()]
    listing(rows, as_json=as_json, empty="no release yet: clnet releases create, or import")


@app.command(epilog="Example: clnet releases show 2026.11")
def show(
    name: Annotated[str, typer.Argument(help="Name of the release.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """One release: its parts, its terms, and its decoders tier by tier."""
    release = open_hub(workspace).releases.get(name)
    if as_json:
        record(release.model_dump(mode="json"), as_json=True)
        return
    terms = release.terms.model_dump(mode="json")
    record(_row(release) | {"terms": terms, "policy": release.policy}, as_json=False)
    rows = [
        {"tier": tier} | decoder_row(decoder)
        for tier, decoders in enumerate(release.tiers)
        for decoder in decoders
    ]
    rows += [{"tier": "support"} | decoder_row(decoder) for decoder in release.supporters]
    listing(rows, as_json=False, empty="")


@app.command(
    epilog="Examples: clnet releases diff 2026.11 2026.12; "
    "clnet releases diff 2026.11 2026.12 --on ct.nii.gz --on phantom:7"
)
def diff(
    before: Annotated[str, typer.Argument(help="Name of a release.")],
    after: Annotated[str, typer.Argument(help="Name of another.")],
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCAN",
            help="Segment this scan with both and count changed voxels per anatomy of BEFORE; "
            "phantom:SEED for a phantom. May be repeated.",
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """What changed from one release to another, by anatomy group.

    Warns where nothing keeps the voxels that BEFORE labels: it is not an ancestor of AFTER, or
    groups of AFTER claim voxels with, or before, those that both have.
    """
    releases = open_hub(workspace).releases
    compared = releases.diff(before, after)
    found = compared.model_dump(mode="json")
    rows: list[dict[str, Any]] = []
    if on:
        with progress("segmenting") as tell:
            rows = [c.to_dict() for c in releases.changed_voxels(before, after, on, tell)]
    if as_json:
        record(found | {"voxels": rows} if on else found, as_json=True)
        return
    _tell_diff(compared)
    if on:
        listing(rows, as_json=False, empty=f"{before} looks for nothing")


@app.command(
    epilog="Examples: clnet releases verify 2026.12; "
    "clnet releases verify 2026.12 --against 2026.11"
)
def verify(
    name: Annotated[str, typer.Argument(help="Name of the release.")],
    against: Annotated[
        str | None, typer.Option(metavar="OLDER", help="Tell what changed since this release.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Check that nothing is damaged and nothing forgotten; exit code 1 if something is.

    Artefacts are hashed. Decoders answer to their phantoms again: to the bit where the numerics
    class is the same, to a tolerance where it is not. A decoder that carries no probe, and a
    group that OLDER has and the release has not, are exit code 1 too. That voxels of OLDER may
    change hands is a warning, and no failure.
    """
    with progress("asking") as tell:
        found = open_hub(workspace).releases.verify(name, against, tell)
    if as_json:
        record(found.model_dump(mode="json") | {"ok": found.ok}, as_json=True)
    else:
        _tell(found)
    if not found.ok:
        raise typer.Exit(1)


def _tell(found: Certificate) -> None:
    rows = [
        {
            "decoder": check.ref,
            "sha256": check.sha256[:12],
            "verdict": check.verdict,
            "by": check.checked_by,
            "detail": check.detail,
        }
        for check in found.decoders
    ]
    listing(rows, as_json=False, empty="")
    for fault in found.faults:
        typer.secho(f"damaged: {', '.join(fault.refs)}: {fault.reason}", fg=typer.colors.RED)
    typer.echo(f"artefacts: {found.whole} of {found.artefacts} whole, {found.total_bytes} bytes")
    if found.without_probe:
        count = len(found.without_probe)
        typer.secho(
            f"{count} of {len(found.decoders)} decoders carry no probe: their hashes were checked, "
            "their answers cannot be; clnet releases create makes probes",
            fg=typer.colors.RED,
        )
    if found.against is not None:
        _tell_diff(found.against)
        for ref in found.removed:
            typer.secho(
                f"removed: {ref} is in {found.against.before} and its group is not in "
                f"{found.release}",
                fg=typer.colors.RED,
            )
    colour = typer.colors.GREEN if found.ok else typer.colors.RED
    verdict = "verified" if found.ok else "NOT verified"
    typer.secho(f"release {found.release} {verdict}", fg=colour, bold=True)
    if found.against is not None and found.against.warnings:
        typer.secho(
            f"but what {found.against.before} segments is not protected in {found.release}: "
            "see the warnings above",
            fg=typer.colors.YELLOW,
            bold=True,
        )


def _tell_diff(found: ReleaseDiff) -> None:
    """What changed, without tiers that did not; then the warnings."""
    values = found.model_dump(mode="json", exclude={"warnings"})
    values["tiers"] = {
        group: (was, now)
        for group, (was, now) in found.tiers.items()
        if None not in (was, now) and was != now
    }
    record(values, as_json=False)
    for warning in found.warnings:
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW)


@app.command(epilog="Example: clnet releases export 2026.11 ./release-2026.11")
def export(
    name: Annotated[str, typer.Argument(help="Name of the release.")],
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write a release and all it came from as a folder, to carry elsewhere."""
    size = open_hub(workspace).releases.export(name, folder)
    record({"release": name, "folder": str(folder), "bytes": size}, as_json=as_json)


@app.command(
    "import",
    epilog="Examples: clnet releases import starter; clnet releases import ./release-2026.11",
)
def import_(
    folder: Annotated[
        Path, typer.Argument(help="Folder that an export wrote, or starter: the shipped one.")
    ],
    alias: Annotated[
        str | None, typer.Option(help="Give this alias to its decoders where it is free.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Add a release from such a folder; may be repeated."""
    release = open_hub(workspace).releases.import_(folder, alias)
    done = {"added": list(release.added), "reused": len(release.reused)}
    record(_row(release) | done, as_json=as_json)


def _settings_in(file: Path) -> dict[str, Any]:
    """The merge policy that a file holds.

    Raises:
        InputError: the file cannot be read, or holds no policy.
    """
    from yaml import YAMLError

    from clnet.anatomy.strict_yaml import load_yaml
    from clnet.hub.release_policy import checked_policy

    try:
        return checked_policy(load_yaml(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, YAMLError, InputError) as error:
        raise InputError(f"--policy {file}: {error}") from None


def _row(release: ReleaseRecord) -> dict[str, Any]:
    return {
        "name": release.name,
        "decoders": len(release.decoders),
        "anatomies": sum(len(decoder.anatomies) for decoder in release.decoders),
        "encoder": release.encoder_ref,
        "body_part_model": release.body_part_model_ref,
        "parent": release.parent,
        "created": f"{release.created:%Y-%m-%d %H:%M}",
        "sha256": release.sha256[:12],
    }
