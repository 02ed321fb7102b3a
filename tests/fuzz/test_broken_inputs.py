"""Whatever is broken about an input, it is refused with a reason, or stored exactly as it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TWO_GIB = 2 * 1024**3


@pytest.mark.slow
def test_broken_inputs_are_refused_or_stored_as_they_read(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = request.config.getoption("--broken-inputs")
    paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, HERE / "feed.py", tmp_path, str(count), "20261"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    tally = told["tally"]
    print(json.dumps(told, indent=1))
    assert tally["detectable refused"] >= 0.75 * count
    assert tally["silent stored"] > 0
    assert sum(told["codes"].values()) == tally["detectable refused"] + tally["silent refused"]
    assert told["peak"] < TWO_GIB
