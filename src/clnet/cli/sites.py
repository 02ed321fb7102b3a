"""``clnet sites``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clnet.cli.options import (
    DEFAULT_WORKSPACE,
    JsonOption,
    PassphraseOption,
    WorkspaceOption,
    open_hub,
    passphrase_in,
)
from clnet.cli.show import listing, record
from clnet.errors import InputError

if TYPE_CHECKING:
    from clnet.decoders_registry import SiteRecord
    from clnet.hub import Hub

__all__ = ["app"]

app = typer.Typer(help="Who contributes: namespaces, tokens, keys, quotas.", no_args_is_help=True)
tokens = typer.Typer(help="Access tokens of a site.", no_args_is_help=True)
keys = typer.Typer(help="Keys with which a site signs its bundles.", no_args_is_help=True)
app.add_typer(tokens, name="token")
app.add_typer(keys, name="key")

SiteArgument = Annotated[str, typer.Argument(help="Name of the site.")]
BytesOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Most that its cases may take, such as 500GiB.")
]
CasesOption = Annotated[int | None, typer.Option(help="Most cases that it may store.")]
LabelOption = Annotated[str, typer.Option(help="What it is for.")]


@app.command(epilog="Example: clnet sites add site-a --title 'Hospital A' --most-bytes 500GiB")
def add(
    name: Annotated[str, typer.Argument(help="Its namespace: datasets are called NAME/...")],
    title: Annotated[str, typer.Option(help="Its full name.")] = "",
    most_bytes: BytesOption = None,
    most_cases: CasesOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Register a site."""
    hub = open_hub(workspace)
    site = hub.sites.add(name, title, most_bytes=_size(most_bytes), most_cases=most_cases)
    record(_row(hub, site), as_json=as_json)


@app.command("list", epilog="Example: clnet sites list --json")
def list_(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """All sites, with what they keep and may keep."""
    hub = open_hub(workspace)
    rows = [_row(hub, site) for site in hub.sites.list()]
    listing(rows, as_json=as_json, empty="no site yet: clnet sites add --help")


@app.command(epilog="Example: clnet sites show site-a")
def show(
    name: SiteArgument,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """One site: quota, tokens, keys, datasets."""
    hub = open_hub(workspace)
    values = _row(hub, hub.sites.get(name)) | {
        "tokens": [t.model_dump(mode="json", exclude={"site"}) for t in hub.sites.tokens(name)],
        "keys": [k.model_dump(mode="json", exclude={"site"}) for k in hub.sites.keys(name)],
        "datasets": [d.ref for d in hub.datasets.list() if d.name.startswith(f"{name}/")],
    }
    record(values, as_json=as_json)


@app.command(epilog="Example: clnet sites quota site-a --most-bytes 1TiB")
def quota(
    name: SiteArgument,
    most_bytes: BytesOption = None,
    most_cases: CasesOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Change how much a site may keep; what is not given is not limited."""
    hub = open_hub(workspace)
    site = hub.sites.set_quota(name, most_bytes=_size(most_bytes), most_cases=most_cases)
    record(_row(hub, site), as_json=as_json)


@app.command(
    epilog="Example: clnet sites serve --host 0.0.0.0 --tls-certificate c.pem --tls-key k.pem"
)
def serve(
    host: Annotated[str, typer.Option(help="Address; this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8443,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file; for other hosts.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    most_upload: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest bundle that is taken.")
    ] = "100GiB",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Let sites send bundles and see their own datasets over HTTP, until Ctrl-C."""
    from clnet.hub.site_port import serve_sites

    serve_sites(
        open_hub(workspace).workspace,
        host=host,
        port=port,
        most_bytes=_size(most_upload) or 0,
        certificate=tls_certificate,
        key=tls_key,
        started=lambda url: typer.echo(f"hub for sites at {url}; Ctrl-C stops it"),
    )


@tokens.command("add", epilog="Example: clnet sites token add site-a --label ingest --days 90")
def add_token(
    site: SiteArgument,
    label: LabelOption = "",
    days: Annotated[float | None, typer.Option(help="After which it ends; never.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Make an access token. It is shown once and kept nowhere."""
    made = open_hub(workspace).sites.add_token(site, label, days=days)
    record({"token": made.token} | made.record.model_dump(mode="json"), as_json=as_json)


@tokens.command("list", epilog="Example: clnet sites token list site-a")
def list_tokens(
    site: SiteArgument,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """A site's tokens by id, never what would let anybody in."""
    rows = [t.model_dump(mode="json") for t in open_hub(workspace).sites.tokens(site)]
    listing(rows, as_json=as_json, empty=f"no token yet: clnet sites token add {site}")


@tokens.command("revoke", epilog="Example: clnet sites token revoke 0f3a...")
def revoke_token(
    key: Annotated[str, typer.Argument(metavar="ID", help="Id of the token.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Make a token useless."""
    record(open_hub(workspace).sites.revoke_token(key).model_dump(mode="json"), as_json=as_json)


@keys.command("make", epilog="Example: clnet sites key make site-a.pem")
def make_key(
    file: Annotated[Path, typer.Argument(help="File to make; it never leaves the site.")],
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a private key at the site, and show the public one, which the hub registers."""
    from clnet.data_catalog.bundles import make_key

    public = make_key(file, passphrase_in(passphrase_file))
    record({"file": str(file), "public_key": public}, as_json=as_json)


@keys.command("add", epilog="Example: clnet sites key add site-a 3b6a27bc... --label laptop")
def add_key(
    site: SiteArgument,
    key: Annotated[str, typer.Argument(help="Public key in hex, or a PEM file with it.")],
    label: LabelOption = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Register a public key at the hub, once the site confirmed it by another way."""
    found = open_hub(workspace).sites.add_key(site, key, label)
    record(found.model_dump(mode="json"), as_json=as_json)


@keys.command("list", epilog="Example: clnet sites key list site-a")
def list_keys(
    site: SiteArgument,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """A site's public keys."""
    rows = [k.model_dump(mode="json") for k in open_hub(workspace).sites.keys(site)]
    listing(rows, as_json=as_json, empty=f"no key yet: clnet sites key add {site}")


@keys.command("revoke", epilog="Example: clnet sites key revoke 21fe31df")
def revoke_key(
    fingerprint: Annotated[str, typer.Argument(help="How its fingerprint begins.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Take no more bundles that are signed with a key."""
    found = open_hub(workspace).sites.revoke_key(fingerprint)
    record(found.model_dump(mode="json"), as_json=as_json)


def _row(hub: Hub, site: SiteRecord) -> dict[str, Any]:
    usage = hub.sites.usage(site.name)
    return {
        "name": site.name,
        "title": site.title,
        "bytes": usage.bytes,
        "most_bytes": site.most_bytes,
        "cases": usage.cases,
        "most_cases": site.most_cases,
        "created": f"{site.created:%Y-%m-%d %H:%M}",
    }


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    from pydantic import ByteSize, TypeAdapter, ValidationError

    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise InputError(f"size {text}: write it like 500GiB or 2000000000") from None
