"""`import clnet` costs nothing worth mentioning: heavy libraries are loaded where they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("SimpleITK", "alembic", "monai", "ray", "sqlalchemy", "torch", "zarr")
PROBE = """
import sys, time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start, *(name for name in {heavy} if name in sys.modules))
"""


def probe(module: str) -> tuple[float, list[str]]:
    code = PROBE.format(module=module, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *loaded = done.stdout.split()
    return float(seconds), loaded


@pytest.mark.parametrize("module", ["clnet", "clnet.cli"])
def test_import_loads_nothing_heavy(module: str) -> None:
    assert probe(module)[1] == []


def test_import_is_quick() -> None:
    # the best of three, as other processes share the machine
    assert min(probe("clnet")[0] for _ in range(3)) < 0.5
