"""Starting a Ray of one's own, whatever the program did with Ray before."""

from __future__ import annotations

import subprocess
import sys

import pytest

AFTER_IMPORT = """
import ray  # before anything of clnet, as a user's own script may
{start}
assert ray.get(ray.remote(lambda: 42).remote()) == 42
assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
ray.shutdown()
"""
FOR_TRAINING = """
from clnet.platform.ray_runtime import ray_runtime
runtime = ray_runtime(num_cpus=1)
runtime.__enter__()
"""
FOR_SERVING = """
from clnet.serve.runtime import start_ray
start_ray(num_cpus=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", [FOR_TRAINING, FOR_SERVING], ids=["training", "serving"])
def test_a_program_may_have_imported_ray_before(start: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", AFTER_IMPORT.format(start=start)], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
