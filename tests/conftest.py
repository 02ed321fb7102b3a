"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of openly licensed real CT, or a skip where this machine has none."""
    folder = Path(os.environ.get("CLNET_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip(f"no real CT at {folder}: set CLNET_REAL_DATA to the folder with MANIFEST.tsv")
    return folder
