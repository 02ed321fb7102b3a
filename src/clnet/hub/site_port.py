"""A hub's datasets as the HTTP API for sites gives them: plain JSON, one site's alone."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clnet.errors import InputError
from clnet.hub.rows import dataset_row, listed_row
from clnet.hub.site_hub import SiteHub
from clnet.platform.workspace import Workspace
from clnet.storage import make_folder, sweep_temporaries

if TYPE_CHECKING:
    from fastapi import FastAPI

    from clnet.data_catalog import Judgement

__all__ = ["serve_sites", "site_app"]


class HubPort:
    """What a site may ask; see :class:`clnet.serve.site_api.SitePort`."""

    def __init__(self, hub: SiteHub) -> None:
        self._hub = hub

    def about(self) -> dict[str, Any]:
        """Name, quota and usage."""
        return self._hub.site.model_dump(mode="json") | {"usage": asdict(self._hub.usage())}

    def datasets(self) -> list[dict[str, Any]]:
        """The site's dataset versions."""
        withdrawn = self._hub.datasets.withdrawn()
        return [listed_row(dataset, withdrawn) for dataset in self._hub.datasets.list()]

    def dataset(self, ref: str) -> dict[str, Any]:
        """One version, with its terms and what was made from it."""
        datasets = self._hub.datasets
        dataset = datasets.get(ref)
        known = datasets.record(dataset.ref)
        return dataset_row(dataset) | {
            "terms": dataset.manifest.terms.model_dump(mode="json"),
            "obligations": list(datasets.terms(dataset.ref).obligations),
            "withdrawn": known.withdrawn_reason,
            "erased": dataset.erased,
            "went_into": datasets.touched_by(dataset.ref).model_dump(mode="json"),
            "case_ids": list(dataset.case_ids),
            "fingerprint": known.fingerprint,
        }

    def take(self, bundle: Path, accept: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
        """Verify, judge and store a bundle; gives the version and the report."""
        codes = frozenset(accept)
        if dry_run:
            judgement = self._hub.datasets.validate_bundle(bundle, accept=codes)
            return {"report": judgement.report.model_dump(mode="json")}
        judged: list[Judgement] = []
        dataset = self._hub.datasets.import_(bundle, accept=codes, tell=judged.append)
        report = judged[0].report.model_dump(mode="json") if judged else None
        return dataset_row(dataset) | {"report": report}

    def withdraw(self, ref: str, reason: str, *, erase: bool) -> dict[str, Any]:
        """Withdraw a version; gives what it went into."""
        return self._hub.datasets.withdraw(ref, reason, erase=erase).model_dump(mode="json")

    def audit(self, limit: int) -> list[dict[str, Any]]:
        """What was done with the site's datasets, newest first."""
        return [line.model_dump(mode="json") for line in self._hub.audit(limit)]


def site_app(workspace: Workspace, most_bytes: int) -> FastAPI:
    """The HTTP application of a workspace.

    Args:
        most_bytes: of a bundle that is sent.
    """
    from clnet.serve.site_api import build_site_app

    def admit(token: str) -> _Port:
        return _Port(SiteHub(workspace, token))

    uploads = workspace.root / "uploads"
    make_folder(uploads)
    sweep_temporaries(uploads)
    return build_site_app(admit, uploads, most_bytes)


class _Port:
    """A port that gives the hub's connections back."""

    def __init__(self, hub: SiteHub) -> None:
        self._hub = hub

    def __enter__(self) -> HubPort:
        return HubPort(self._hub)

    def __exit__(self, *_: object) -> None:
        self._hub.close()


def serve_sites(
    workspace: Workspace,
    *,
    host: str,
    port: int,
    most_bytes: int,
    certificate: Path | None = None,
    key: Path | None = None,
    started: Callable[[str], None] | None = None,
) -> None:
    """Answer sites on HTTP until interrupted.

    Args:
        certificate, key: PEM files for TLS, without which only this machine is listened to.
        started: told the address.

    Raises:
        InputError: an address that others reach, without TLS, or files that are not for it.
        ServiceError: the port is taken.
    """
    import uvicorn

    from clnet.serve.runtime import require_port

    if (certificate is None) != (key is None):
        raise InputError("TLS needs both a certificate and its key")
    if certificate is None and not _is_loopback(host):
        raise InputError(
            f"{host}: tokens would cross the network for all to read; give --tls-certificate and "
            "--tls-key, or listen on 127.0.0.1 behind a proxy that speaks TLS"
        )
    if certificate is not None:
        _check_tls(certificate, key)
    port = require_port(host, port)
    config = uvicorn.Config(
        site_app(workspace, most_bytes),
        host=host,
        port=port,
        log_level="warning",
        ssl_certfile=certificate,
        ssl_keyfile=str(key) if key else None,
        server_header=False,
    )
    if started is not None:
        started(f"{'https' if certificate else 'http'}://{host}:{port}")
    uvicorn.Server(config).run()


def _check_tls(certificate: Path, key: Path | None) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # what ssl itself raises is one
        raise InputError(f"TLS certificate {certificate}, key {key}: {error}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
