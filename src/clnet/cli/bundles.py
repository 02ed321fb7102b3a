"""``clnet datasets bundle|push|import``: versions on their way from hub to hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clnet.cli.options import (
    DEFAULT_WORKSPACE,
    AcceptOption,
    JsonOption,
    PassphraseOption,
    ReportOption,
    WorkspaceOption,
    open_datasets,
    passphrase_in,
    text_in,
)
from clnet.cli.report import show_judgement
from clnet.cli.show import progress, record
from clnet.hub.rows import dataset_row

if TYPE_CHECKING:
    from clnet.data_catalog import Judgement

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog="Example: clnet datasets bundle site-a/abdomen@1 --to a.clnet --key site-a.pem")
def bundle(
    ref: Annotated[str, typer.Argument(help="site/name@version; the newest without @.")],
    to: Annotated[Path, typer.Option(help="File to make.")],
    key: Annotated[Path, typer.Option(help="The site's private key (clnet sites key make).")],
    passphrase_file: PassphraseOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write a version as one signed archive, to carry to a hub that no network leads to."""
    datasets = open_datasets(workspace)
    with progress(f"bundling {ref}") as tell:
        signed_by = datasets.bundle(ref, to, key, passphrase_in(passphrase_file), tell)
    values = {"ref": datasets.get(ref).ref, "file": str(to), "bytes": to.stat().st_size}
    record(values | {"key": signed_by}, as_json=as_json)


@app.command(
    epilog="Example: clnet datasets push site-a/abdomen@1 --to https://hub.example "
    "--key site-a.pem --token-file token"
)
def push(
    ref: Annotated[str, typer.Argument(help="site/name@version; the newest without @.")],
    to: Annotated[str, typer.Option(metavar="URL", help="Hub that takes it.")],
    key: Annotated[Path, typer.Option(help="The site's private key (clnet sites key make).")],
    token_file: Annotated[Path, typer.Option(help="File with the site's token on that hub.")],
    passphrase_file: PassphraseOption = None,
    accept: AcceptOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Bundle a version and send it to a hub over HTTP."""
    from clnet.hub.remote import RemoteHub

    with RemoteHub(to, text_in("--token-file", token_file)) as hub:
        taken = hub.datasets.push(
            open_datasets(workspace), ref, key, passphrase_in(passphrase_file), accept=accept or ()
        )
    record({name: value for name, value in taken.items() if name != "report"}, as_json=as_json)


@app.command("import", epilog="Example: clnet datasets import a.clnet")
def import_(
    file: Annotated[Path, typer.Argument(help="Bundle that a site made and signed.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only verify, validate and report.")
    ] = False,
    accept: AcceptOption = None,
    report: ReportOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Verify a bundle's signature, judge its cases, and store them under its own name.

    The key must be registered (clnet sites key add). One case at fault refuses it all.
    """
    datasets = open_datasets(workspace)
    codes = frozenset(accept or ())
    if dry_run:
        with progress(f"validating {file.name}") as tell:
            judgement = datasets.validate_bundle(file, tell, accept=codes)
        show_judgement(judgement, report, as_json=as_json)
        raise typer.Exit(2 if judgement.report.refused else 0)
    judged: list[Judgement] = []
    try:
        with progress(f"importing {file.name}") as tell:
            dataset = datasets.import_(file, tell, accept=codes, tell=judged.append)
    finally:
        if judged and not as_json:
            show_judgement(judged[0], report, as_json=False)
    record(dataset_row(dataset), as_json=as_json)
