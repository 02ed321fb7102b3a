"""Registries on SQLite and, where its binaries are installed, on a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from registry_shelf import Shelf


def _binaries() -> Path | None:
    on_path = shutil.which("postgres")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((found for found in folders if (found / "initdb").is_file()), None)


def _as_user(folder: Path) -> list[str]:
    """How to run the server, which refuses to be root; hands `folder` to the user it gets."""
    if os.geteuid() != 0:
        return []
    if shutil.which("runuser") is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is no runuser")
    user = "postgres" if "postgres:" in Path("/etc/passwd").read_text() else "nobody"
    shutil.chown(folder, user)
    return ["runuser", "-u", user, "--"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Makes empty schemas on a PostgreSQL server of its own, reached by a socket only."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server binaries are not installed (apt install postgresql)")
    # not under tmp_path: its parents are closed to other users, and socket paths must be short
    folder = Path(tempfile.mkdtemp(prefix="clnet-pg-"))
    run = _as_user(folder)
    data = folder / "data"
    initdb = [binaries / "initdb", "-D", data, "-U", "clnet", "--no-sync", "--auth=trust"]
    subprocess.run([*run, *initdb], check=True, capture_output=True, cwd=folder)
    settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [*run, binaries / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=folder
    )
    try:
        with _connect(server, folder) as connection:

            def create() -> str:
                name = f"clnet_{uuid.uuid4().hex}"
                connection.execute(f"CREATE SCHEMA {name}")  # 100 times quicker than a database
                path = f"options=-csearch_path%3D{name}"
                return f"postgresql://clnet@/postgres?host={folder}&{path}"

            yield create
    finally:
        stop = [binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
        subprocess.run([*run, *stop], check=True, capture_output=True, cwd=folder)
        server.wait(30)
        log.close()
        shutil.rmtree(folder)


def _connect(server: subprocess.Popen[bytes], folder: Path) -> psycopg.Connection:
    for _ in range(300):
        try:
            return psycopg.connect(
                host=str(folder), user="clnet", dbname="postgres", autocommit=True
            )
        except psycopg.OperationalError:
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    raise AssertionError("PostgreSQL did not start within 30 s")


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: SQLite, or what `on_both` asks for."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path}/registry.db"
    create: Callable[[], str] = request.getfixturevalue("postgres")
    return create()


@pytest.fixture
def shelf(url: str, tmp_path: Path) -> Iterator[Shelf]:
    """A furnished registry."""
    with Shelf(url, tmp_path / "artefacts") as opened:
        yield opened.furnish()


@pytest.fixture
def other_hub(tmp_path: Path) -> Iterator[Shelf]:
    """An empty registry elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    with Shelf(f"{elsewhere}/registry.db", elsewhere / "artefacts") as opened:
        yield opened
