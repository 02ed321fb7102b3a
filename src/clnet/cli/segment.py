"""``clnet segment``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from clnet.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    MemoryOption,
    MirrorOption,
    OverlapOption,
    PrecisionOption,
    WorkspaceOption,
    folder_to_write,
    open_hub,
)
from clnet.cli.show import listing, progress, record

if TYPE_CHECKING:
    from clnet.model.numerics import Precision

__all__ = ["segment"]


def segment(
    image: Annotated[Path, typer.Argument(help="CT as NIfTI, NRRD or MHA.")],
    output: Annotated[
        Path,
        typer.Option(callback=folder_to_write, help="Folder for label maps and statistics."),
    ],
    release: Annotated[str | None, typer.Option(help="Release to use; the newest.")] = None,
    anatomy: Annotated[
        list[str] | None, typer.Option(help="Only this anatomy; may be repeated.")
    ] = None,
    memory_budget: MemoryOption = None,
    mirror: MirrorOption = "",
    overlap: OverlapOption = None,
    precision: PrecisionOption = "auto",
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="cpu, cuda or cuda:1 to compute on; a GPU where there is one."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how the work was divided to fit the memory.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Segment one CT in this process; masks come back on its own grid."""
    hub = open_hub(workspace)
    with progress("segmenting") as tell:
        scan = hub.segment(
            image,
            release,
            anatomy,
            tell,
            memory_budget=memory_budget,
            mirror=mirror,
            overlap=overlap,
            precision=cast("Precision", precision),
            device=device,
        )
    if explain:
        typer.echo(scan.result.effort.describe(), err=True)
    files = [str(path) for path in scan.save(output)]
    statistics = scan.statistics()
    if as_json:
        record(statistics | {"files": files}, as_json=True)
        return
    rows = [_row(name, values) for name, values in statistics["anatomies"].items()]
    listing(rows, as_json=False, empty="nothing was looked for")
    for warning in statistics["warnings"]:
        typer.echo(f"{typer.style('warning:', fg=typer.colors.YELLOW)} {warning}", err=True)
    if notice := statistics["release"]["notice"]:
        typer.secho(notice, fg=typer.colors.YELLOW, bold=True)
    typer.echo(f"written: {', '.join(files)}")


def _row(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "anatomy": name,
        "state": values["state"].replace("_", " "),
        "ml": values["volume_ml"],
        "mean_hu": values["mean_hu"],
        "decoder": values["decoder"],
    }
