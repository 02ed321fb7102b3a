"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much the tests in tests/fuzz take on; `make fuzz` asks for more."""
    parser.addoption("--broken-inputs", type=int, default=200, help="damaged inputs to contribute")
    parser.addoption(
        "--kills", type=int, default=4, help="contributions to kill at a random moment"
    )


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of openly licensed real CT, or a skip where this machine has none."""
    folder = Path(os.environ.get("CLNET_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip(f"no real CT at {folder}: set CLNET_REAL_DATA to the folder with MANIFEST.tsv")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server on loopback that speaks the real protocol; yields its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty prefix of a bucket, reached as any S3 client is: through the environment."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem().mkdirs("clnet-tests", exist_ok=True)
    return f"s3://clnet-tests/{tmp_path.name}"
