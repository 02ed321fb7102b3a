"""``clnet doctor``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, open_hub

if TYPE_CHECKING:
    from clnet.doctor import Finding

__all__ = ["doctor"]

COLOURS = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}


def doctor(
    ray: Annotated[bool, typer.Option("--ray", help="Start Ray for real, and stop it.")] = False,
    s3: Annotated[
        str | None,
        typer.Option(
            "--s3", metavar="URL", help="Write, read and delete under s3://bucket/prefix."
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Say what is installed, what this machine has, and what it lacks. Exit code 1: not fit."""
    from clnet.doctor import diagnose, healthy

    kept = open_hub(workspace).workspace
    findings = []
    for finding in diagnose(kept.root, kept.database, ray=ray, s3=s3):
        findings.append(finding)
        if not as_json:
            _tell(finding)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    if not healthy(findings):
        raise typer.Exit(1)


def _tell(finding: Finding) -> None:
    verdict = typer.style(f"{finding.verdict:<4}", fg=COLOURS[finding.verdict], bold=True)
    typer.echo(f"{verdict}  {finding.name:<14}  {finding.seen}")
    if finding.advice:
        typer.echo(f"{'':<22}{finding.advice}")
