"""The benchmark of contributions at a tiny size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell")
def test_workers_store_the_same_and_are_measured(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/ingest.py", "--workspace", str(tmp_path / "work")]
    command += ["--out", str(tmp_path / "ingest.json"), "--data", "nowhere"]
    command += ["--cases", "3", "--slices", "20", "--lengths", "24,48", "--edge", "64"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "ingest.json").read_text())
    assert result["figures"]["same_dataset"] is True
    assert set(result["figures"]["seconds"]) == {"1", "2"}
    assert all(peak > 0 for peak in result["figures"]["worker_peak_mib"].values())
    assert len(result["targets"]) == 4
    assert not (tmp_path / "work").exists()
