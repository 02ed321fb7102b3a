"""The HTTP API for sites: a real server, the remote hub, and those who may not come in."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from typer.testing import CliRunner

import clnet
from clnet.cli import app
from clnet.hub.remote import RemoteHub
from clnet.hub.site_port import serve_sites, site_app

MAPPING = {"1": "liver", "2": "spleen"}


@pytest.fixture
def url(hub: clnet.Hub) -> Iterator[str]:
    """The address of the hub's API."""
    config = uvicorn.Config(
        site_app(hub.workspace, 50 << 20), host="127.0.0.1", port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    (listening,) = server.servers[0].sockets
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def remote(hub: clnet.Hub, url: str) -> Iterator[RemoteHub]:
    """The hub as site-a reaches it; site-b has a dataset of its own there."""
    hub.sites.add("site-a", most_cases=2)
    opened = clnet.connect(url, token=hub.sites.add_token("site-a", "push").token)
    assert isinstance(opened, RemoteHub)
    with opened:
        yield opened


@pytest.fixture
def key(hub: clnet.Hub, remote: RemoteHub, tmp_path: Path) -> Path:
    hub.sites.add_key("site-a", hub.sites.make_key(tmp_path / "a.pem"))
    return tmp_path / "a.pem"


def test_a_site_sends_lists_and_withdraws(
    hub: clnet.Hub, remote: RemoteHub, key: Path, site: Path, tmp_path: Path
) -> None:
    hub.datasets.contribute("site-b/secret", site, MAPPING, "CC-BY-4.0")
    with clnet.connect(tmp_path / "at-the-site") as there:
        dataset = there.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-NC-4.0")
        taken = remote.datasets.push(there.datasets, "site-a/d", key)
    assert (taken["ref"], taken["sha256"]) == (dataset.ref, dataset.sha256)
    assert taken["report"]["quarantined"] == []
    assert [row["ref"] for row in remote.datasets.list()] == ["site-a/d@1"]
    shown = remote.datasets.get("site-a/d@1")
    assert (shown["obligations"], shown["fingerprint"]["cases"]) == (["BY", "NC"], 2)
    assert remote.site()["usage"]["cases"] == 2
    assert remote.datasets.withdraw("site-a/d@1", "wish", erase=True)["dataset"] == "site-a/d@1"
    assert remote.datasets.get("site-a/d@1")["erased"]
    (row,) = remote.datasets.list()
    assert (row["withdrawn"], row["erased"]) == ("wish", True)
    actions = [line["action"] for line in remote.audit()]
    assert actions == ["dataset.erase", "dataset.withdraw", "dataset.import", "dataset.record"]
    assert list((hub.workspace.root / "uploads").iterdir()) == []
    with pytest.raises(clnet.NotFound):
        remote.datasets.get("site-b/secret@1")
    with pytest.raises(clnet.AccessDenied):
        remote.datasets.withdraw("site-b/secret@1", "no")
    assert len(hub.datasets.list()) == 2


def test_the_command_line_pushes(
    hub: clnet.Hub, remote: RemoteHub, key: Path, site: Path, url: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(hub.sites.add_token("site-a").token)
    with clnet.connect(tmp_path / "at-the-site") as there:
        there.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0")
    arguments = ["datasets", "push", "site-a/d@1", "--to", url, "--key", str(key)]
    arguments += ["--token-file", str(tmp_path / "token"), "--json"]
    workspace = {"CLNET_WORKSPACE": str(tmp_path / "at-the-site")}
    done = CliRunner().invoke(app, arguments, env=workspace, catch_exceptions=False)
    assert json.loads(done.stdout)["ref"] == "site-a/d@1"
    hub.datasets.get("site-a/d@1").verify()


def test_what_is_refused_here_is_refused_there_in_the_same_words(
    hub: clnet.Hub, remote: RemoteHub, key: Path, site: Path, tmp_path: Path
) -> None:
    with clnet.connect(tmp_path / "at-the-site") as there:
        there.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0")
        there.datasets.bundle("site-a/d", tmp_path / "b", key)
    hub.sites.set_quota("site-a", most_cases=1)
    with pytest.raises(clnet.QuotaExceeded, match="its quota is 1"):
        remote.datasets.import_(tmp_path / "b")
    (tmp_path / "noise").write_bytes(b"noise" * 1000)
    with pytest.raises(clnet.InputError, match="not a bundle"):
        remote.datasets.import_(tmp_path / "noise")
    (tmp_path / "large").write_bytes(bytes(51 << 20))
    with pytest.raises(clnet.ClnetError):
        remote.datasets.import_(tmp_path / "large")
    hub.sites.revoke_key(hub.sites.keys("site-a")[0].fingerprint)
    with pytest.raises(clnet.AccessDenied, match="revoked"):
        remote.datasets.import_(tmp_path / "b", dry_run=True)
    assert hub.datasets.list() == ()


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer \xff"])
def test_nobody_comes_in_without_a_token(hub: clnet.Hub, url: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    with httpx.Client(base_url=url, headers=headers) as client:
        assert client.get("/healthz").status_code == 200
        for method, path in (
            ("GET", "/v1/site"),
            ("GET", "/v1/datasets"),
            ("GET", "/v1/datasets/a/b@1"),
            ("DELETE", "/v1/datasets/a/b@1?reason=x"),
            ("POST", "/v1/datasets"),
            ("GET", "/v1/audit"),
        ):
            answer = client.request(method, path, content=b"x" if method == "POST" else None)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_crosses_no_network_in_the_clear(hub: clnet.Hub) -> None:
    with pytest.raises(clnet.InputError, match="https"):
        clnet.connect("http://hub.example", token="x")
    with pytest.raises(clnet.InputError, match="TLS"):
        serve_sites(hub.workspace, host="0.0.0.0", port=1, most_bytes=1)
    with pytest.raises(clnet.InputError, match="token"):
        clnet.connect("https://hub.example")
