"""Labels on the image's grid: checked, or put there when the contributor asks for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.canonical import Canonical, grid_distance
from clnet.errors import CaseRejected

__all__ = ["check_same_grid", "resample_labels_to"]

GRID_TOLERANCE = 0.1
"""How far image and label grids may be apart at any corner, in voxels of the finest axis."""


def check_same_grid(image: Canonical, labels: Canonical, file: str) -> None:
    """Refuse labels that do not lie on the image's voxels.

    Raises:
        CaseRejected: another shape, or farther off than :data:`GRID_TOLERANCE`.
    """
    if labels.voxels.shape != image.voxels.shape:
        raise CaseRejected(
            file,
            "shape",
            f"labels have {labels.voxels.shape} voxels (z, y, x), "
            f"the image {image.voxels.shape}; resample the labels to the image's grid",
            "grid.shape",
        )
    z, y, x = image.voxels.shape
    distance = grid_distance(image.affine, labels.affine, (z, y, x))
    if distance > GRID_TOLERANCE * min(image.spacing):
        raise CaseRejected(
            file,
            "affine",
            f"labels lie up to {distance:.2f} mm off the image's grid; "
            "resample the labels to the image's grid, or repair the header",
            "grid.offset",
        )


def resample_labels_to(
    image: Canonical, labels: Canonical, file: str, allocate: Allocate = in_memory
) -> tuple[NDArray[Any], str]:
    """Label ids on the image's grid by nearest neighbour, and what was done, in words.

    Nearest and not linear, also for masks: an id is never made up, and a thin vessel of one
    voxel does not vanish between two samples.

    Raises:
        CaseRejected: every labelled voxel lies outside the image.
    """
    from scipy.ndimage import affine_transform

    # both affines map (x, y, z), arrays are (z, y, x)
    onto = np.linalg.inv(labels.affine) @ image.affine
    matrix, offset = onto[:3, :3][::-1, ::-1], onto[:3, 3][::-1]
    moved = allocate(image.voxels.shape, labels.voxels.dtype)
    affine_transform(labels.voxels, matrix, offset, output=moved, order=0, mode="constant", cval=0)
    if labels.voxels.any() and not moved.any():
        raise CaseRejected(file, "affine", "no labelled voxel lies inside the image", "grid.apart")
    grid = " x ".join(f"{size:.3g}" for size in labels.spacing)
    return moved, f"from {labels.voxels.shape} voxels of {grid} mm (z, y, x) by nearest neighbour"
