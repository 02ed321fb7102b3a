"""A Ray that the slow tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clnet.platform.ray_runtime import RayRuntime, ray_runtime


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayRuntime]:
    """Ray on two CPUs."""
    token = tmp_path_factory.mktemp("ray") / "token"
    with ray_runtime(num_cpus=2, object_store_bytes=200 << 20, token_file=token) as runtime:
        yield runtime
