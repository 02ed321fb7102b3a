"""Where each anatomy of a case is: a sample of its voxels, so that no volume is ever searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import LabelContract

__all__ = ["MAX_VOXELS", "sample_foreground"]

MAX_VOXELS = 512
"""Voxels kept per contract entry."""


def sample_foreground(
    labels: Mapping[str, NDArray[np.uint8]],
    contract: LabelContract,
    z_mm: NDArray[np.float64],
    case_sha256: str,
    z_axis: int = 0,
) -> tuple[NDArray[np.int32], list[dict[str, Any]]]:
    """Random voxels of every contract entry, the same for the same case.

    Args:
        labels: layer to label map on the plan grid, ``(Z, Y, X)``.
        z_mm: slice positions; voxels outside an entry's extent are left out.
        z_axis: the axis that these are positions along.

    Returns:
        Voxel indices ``(N, 3)`` as (z, y, x), and per entry of the contract a record
        ``{layer, value, members, voxels, start, stop}``: how many voxels carry the label, and
        which rows are its sample.
    """
    seed = int(case_sha256[:32], 16)
    rows: list[NDArray[np.int32]] = []
    records: list[dict[str, Any]] = []
    start = 0
    for layer in contract.layers:
        grid = labels[layer]
        flat = np.flatnonzero(grid)
        values = grid.reshape(-1)[flat]
        order = np.argsort(values, kind="stable")
        flat, values = flat[order], values[order]
        for entry in contract.for_layer(layer):
            low, high = np.searchsorted(values, [entry.value, entry.value + 1])
            found = flat[low:high]
            if entry.within is not None:
                position = z_mm[np.unravel_index(found, grid.shape)[z_axis]]
                found = found[(position >= entry.within[0]) & (position <= entry.within[1])]
            count = len(found)
            if count > MAX_VOXELS:
                generator = np.random.Generator(np.random.Philox(seed + len(records)))
                chosen = np.argpartition(generator.random(count), MAX_VOXELS)[:MAX_VOXELS]
                found = found[np.sort(chosen)]
            voxels = np.stack(np.unravel_index(found, grid.shape), axis=1)
            rows.append(voxels.astype(np.int32))
            records.append(
                {
                    "layer": layer,
                    "value": entry.value,
                    "members": list(entry.members),
                    "voxels": count,
                    "start": start,
                    "stop": start + len(found),
                }
            )
            start += len(found)
    table = np.concatenate(rows) if rows else np.zeros((0, 3), dtype=np.int32)
    return table, records
