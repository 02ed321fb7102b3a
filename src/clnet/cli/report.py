"""Validation reports on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clnet.cli.show import listing, record

if TYPE_CHECKING:
    from clnet.data_catalog import Judgement

__all__ = ["show_judgement"]

SHOWN = 50
"""Findings on a terminal; a file has room for all."""


def show_judgement(judgement: Judgement, folder: Path | None, *, as_json: bool) -> None:
    """Print a report, and write it into `folder` with its pictures."""
    report = judgement.report
    if folder is not None:
        judgement.write(folder)
    if as_json:
        record(report.model_dump(mode="json"), as_json=True)
        return
    listing(report.rows()[:SHOWN], as_json=False, empty="nothing to complain about")
    if len(report.findings) > SHOWN:
        typer.echo(f"... and {len(report.findings) - SHOWN} more; --report DIR has all", err=True)
    typer.echo(report.summary, err=True)
    if folder is not None:
        typer.echo(f"report: {folder / 'report.html'}", err=True)
