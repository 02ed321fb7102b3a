"""``clnet audit``."""

from __future__ import annotations

from typing import Annotated

import typer

from clnet.cli.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, open_hub
from clnet.cli.show import listing, record

__all__ = ["app"]

app = typer.Typer(help="The journal: who did what, when.", no_args_is_help=True)


@app.command("list", epilog="Example: clnet audit list --subject site-a/abdomen@1")
def list_(
    subject: Annotated[str | None, typer.Option(help="Only what was done to this.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Lines.")] = 50,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """The newest lines, newest first."""
    lines = open_hub(workspace).audit(subject, limit)
    if as_json:
        listing([line.model_dump(mode="json") for line in lines], as_json=True, empty="")
        return
    rows = [
        {
            "at": f"{line.at:%Y-%m-%d %H:%M:%S}",
            "actor": line.actor,
            "action": line.action,
            "subject": line.subject,
            "detail": ", ".join(f"{key}={value}" for key, value in line.detail.items()),
            "sha256": line.sha256[:12],
        }
        for line in lines
    ]
    listing(rows, as_json=False, empty="nothing was done yet")


@app.command(epilog="Example: clnet audit verify --head 5f70bf18...")
def verify(
    head: Annotated[
        str | None, typer.Option(help="Hash that an earlier verify gave; it must still be there.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """See that no line was changed, removed or put in between; exit code 1 if one was.

    Write the head down where this machine cannot change it: with it a later verify also shows
    whether the newest lines were cut off.
    """
    check = open_hub(workspace).check_audit(head)
    values = {"ok": check.ok, "lines": check.lines, "head": check.head}
    record(values | {"faults": list(check.faults)}, as_json=as_json)
    if not check.ok:
        raise typer.Exit(1)
