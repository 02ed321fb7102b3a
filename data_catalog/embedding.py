"""Put labels that were stored cropped back onto the grid of their image."""

from __future__ import annotations

import numpy as np

from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.canonical import Canonical
from clnet.errors import CaseRejected

__all__ = ["embed"]

TOLERANCE = 0.1
"""How far a voxel of the crop may be from one of the image's grid, in voxels."""


def embed(
    labels: Canonical, image: Canonical, file: str, allocate: Allocate = in_memory
) -> Canonical:
    """`labels` on the grid of `image`, empty where they say nothing.

    Labels whose voxels are none of the image's come back as they are.

    Raises:
        CaseRejected: something is labelled outside of the image.
    """
    if labels.voxels.shape == image.voxels.shape and np.allclose(labels.affine, image.affine):
        return labels
    between = np.linalg.inv(image.affine) @ labels.affine
    sizes = np.array(labels.voxels.shape[::-1])
    offset = np.rint(between[:3, 3]).astype(int)
    drift = np.abs((between[:3, :3] - np.eye(3)) * (sizes - 1)).sum(axis=1)
    if (drift + np.abs(between[:3, 3] - offset)).max() > TOLERANCE:
        return labels
    start = offset[::-1]
    target, source = [], []
    for axis, size in enumerate(image.voxels.shape):
        low = max(0, start[axis])
        high = max(low, min(size, start[axis] + labels.voxels.shape[axis]))
        target.append(slice(low, high))
        source.append(slice(low - start[axis], high - start[axis]))
    whole = allocate(image.voxels.shape, labels.voxels.dtype)
    whole[tuple(target)] = labels.voxels[tuple(source)]
    lost = np.count_nonzero(labels.voxels) - np.count_nonzero(whole)
    if lost:
        raise CaseRejected(file, "affine", f"{lost} labelled voxels lie outside of the image")
    return Canonical(whole, image.affine, image.spacing, labels.axcodes)
