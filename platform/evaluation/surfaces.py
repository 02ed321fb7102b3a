"""Surfaces of a mask as points, so that memory grows with surface and not with volume.

Two notions are in use. *Surface elements* (Nikolov et al. 2018, arXiv 1809.04430) lie between
voxels and have an area, which MONAI's table tells from the eight voxels around; the surface
Dice counts them. *Border voxels* are those of the mask with a neighbour outside; Hausdorff
distances of MONAI, MedPy and others are between them. Both equal MONAI's own results.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["border_voxels", "nearest", "surface_elements"]

Spacing = tuple[float, float, float]
Points = NDArray[np.float64]


def surface_elements(
    mask: NDArray[np.bool_], spacing: Spacing
) -> tuple[Points, NDArray[np.float32]]:
    """Where the surface of a mask ``(Z, Y, X)`` is, ``(N, 3)`` mm, and its areas, mm²."""
    areas, kernel = _areas(spacing)
    padded = np.pad(mask, 1).view(np.uint8)
    size = tuple(side - 1 for side in padded.shape)
    code = np.zeros(size, np.uint8)
    for corner in np.ndindex(2, 2, 2):
        seen = padded[tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))]
        code += seen * kernel[corner]
    cut = (code != 0) & (code != len(areas) - 1)
    return np.argwhere(cut) * np.asarray(spacing), areas[code[cut]]


def border_voxels(mask: NDArray[np.bool_], spacing: Spacing) -> Points:
    """Voxels of a mask ``(Z, Y, X)`` that touch its outside by a face, ``(N, 3)`` mm."""
    from scipy.ndimage import binary_erosion

    border = np.argwhere(mask & ~binary_erosion(mask))
    return np.asarray(border * np.asarray(spacing), dtype=np.float64)


def nearest(points: Points, others: Points) -> NDArray[np.float64]:
    """Distance in mm from each of `points` to the nearest of `others`."""
    from scipy.spatial import KDTree

    distances, _ = KDTree(others, leafsize=32).query(points)
    return np.asarray(distances, dtype=np.float64)


@lru_cache(maxsize=8)
def _areas(spacing: Spacing) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Area by the code of eight neighbours, and each neighbour's part in the code."""
    from monai.metrics.utils import get_code_to_measure_table

    areas, kernel = get_code_to_measure_table(spacing)
    return areas.numpy().astype(np.float32), kernel[0, 0].numpy().astype(np.uint8)
