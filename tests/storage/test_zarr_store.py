from __future__ import annotations

import numpy as np
import pytest
import zarr

from clnet.storage import open_zarr_store


def test_a_sharded_volume_comes_back_from_any_store(url: str) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 1000, (20, 18, 16)).astype(np.int16)
    group = zarr.create_group(open_zarr_store(f"{url}/case.zarr"), zarr_format=3)
    array = group.create_array(
        "labels/organ",
        shape=voxels.shape,
        dtype=voxels.dtype,
        chunks=(5, 6, 8),
        shards=(10, 18, 16),
    )
    array[:] = voxels
    again = zarr.open_group(open_zarr_store(f"{url}/case.zarr", read_only=True), mode="r")
    found = again["labels/organ"]
    assert isinstance(found, zarr.Array)
    np.testing.assert_array_equal(np.asarray(found[:]), voxels)
    np.testing.assert_array_equal(np.asarray(found[7:13, 2:9, 1:15]), voxels[7:13, 2:9, 1:15])


def test_a_store_opened_for_reading_refuses_to_write(url: str) -> None:
    zarr.create_group(open_zarr_store(f"{url}/case.zarr"), zarr_format=3)
    with pytest.raises(ValueError, match="read-only"):
        zarr.create_group(open_zarr_store(f"{url}/case.zarr", read_only=True), path="more")
