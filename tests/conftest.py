"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_stores import KEYS, moto, s3rver

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
    with moto() as address:
        yield address


@pytest.fixture(scope="session")
def second_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another one, of other hands, that keeps its objects on disk; yields its address."""
    with s3rver(tmp_path_factory.mktemp("s3rver")) as address:
        yield address


@pytest.fixture
def s3_url(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty prefix of a bucket, reached as any S3 client is: through the environment."""
    return _prefix(s3_server, tmp_path, monkeypatch)


@pytest.fixture(params=["s3_server", "second_s3_server"])
def any_s3(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """As `s3_url`, of either server."""
    return _prefix(request.getfixturevalue(request.param), tmp_path, monkeypatch)


def _prefix(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # file systems are kept by their arguments, which the environment is none of
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdirs("clnet-tests", exist_ok=True)
    return f"s3://clnet-tests/{tmp_path.name}"
