"""``clnet evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clnet.cli.options import JsonOption, folder_to_write
from clnet.cli.show import listing, progress

if TYPE_CHECKING:
    from clnet.platform.evaluation.summary import Figure, Summary

__all__ = ["evaluate"]


def evaluate(
    reference: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of labels that count as the truth.")
    ],
    prediction: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of labels to judge, of any system.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            callback=folder_to_write,
            help="Folder for metrics.csv, summary.json, box plots.",
        ),
    ],
    mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML: what label values or mask names mean."),
    ] = None,
    prediction_mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The same for the prediction, if it differs."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="MM", help="Distance that the NSD forgives.")
    ] = 2.0,
    jobs: Annotated[int, typer.Option(metavar="N", help="Cases compared side by side.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Score segmentations against a reference: DSC, NSD, HD95, volume; per anatomy and group.

    Either folder holds CASE.nii.gz label maps (with --mapping), CASE/NAME.nii.gz masks, or
    folders that `clnet segment` wrote. What one side does not label is not evaluated.
    """
    from clnet.platform.evaluation import evaluate as compare

    with progress("comparing") as tell:
        found = compare(
            reference,
            prediction,
            mapping=mapping,
            prediction_mapping=prediction_mapping,
            tolerance_mm=tolerance,
            jobs=jobs,
            progress=tell,
        )
    files = found.save(out)
    if as_json:
        typer.echo((out / "summary.json").read_text(encoding="utf-8"))
    else:
        order = sorted(found.anatomies, key=lambda a: (found.places[a].region, a))
        rows = [_row("anatomy", name, found.anatomies[name]) for name in order]
        listing(rows, as_json=False, empty="neither side labels an anatomy")
        typer.echo("")
        rows = [_row("region", name, summary) for name, summary in found.regions.items()]
        rows.append(_row("region", "all", found.overall))
        listing(rows, as_json=False, empty="")
    for case, reason in found.problems.items():
        _warn(f"{case}: not evaluated: {reason}")
    if found.unmatched:
        _warn(f"predictions without a reference: {', '.join(found.unmatched)}")
    typer.echo(f"written: {', '.join(str(file) for file in files)}", err=as_json)


def _row(kind: str, name: str, summary: Summary) -> dict[str, Any]:
    figures = summary.figures
    reasons = sorted(summary.not_evaluated.items(), key=lambda item: -item[1])
    return {
        kind: name,
        "n": figures["dsc"].n,
        "DSC": _cell(figures["dsc"], 3),
        "NSD": _cell(figures["nsd"], 3),
        "HD95 mm": _cell(figures["hd95_mm"], 1),
        "volume error ml": _cell(figures["volume_error_ml"], 1),
        "missed": summary.findings.get("missed", 0) or None,
        "false positive": summary.findings.get("false positive", 0) or None,
        "not evaluated": "; ".join(f"{count}× {reason}" for reason, count in reasons) or None,
    }


def _cell(figure: Figure, digits: int) -> str | None:
    if figure.mean is None:
        return None
    mean = f"{figure.mean:.{digits}f}"
    if figure.low is None or figure.high is None:
        return mean
    return f"{mean} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def _warn(text: str) -> None:
    typer.echo(f"{typer.style('warning:', fg=typer.colors.YELLOW)} {text}", err=True)
