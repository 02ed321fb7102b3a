from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same tests run on a folder and on S3."""
    if request.param == "local":
        return str(tmp_path / "store")
    prefix: str = request.getfixturevalue("s3_url")
    return prefix
