"""From a scan's own grid to the canonical one and back, and between spacings.

Canonical arrays are ``(Z, Y, X)`` with +z superior, +y posterior, +x left (LPS). Affines map
voxel indices of an array in nibabel's order to RAS+ mm. Oblique and sheared grids are treated
by the axes they are nearest to, as nibabel does: no voxel is interpolated here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csc_array, csr_array, hstack
from torch import Tensor

from clnet.errors import InputError
from clnet.model.scratch import slabs

__all__ = [
    "Orientation",
    "canonical_view",
    "from_canonical",
    "image_matrix",
    "in_scan_order",
    "linear_matrix",
    "nearest_indices",
    "orientation_from",
    "orientation_of",
    "plan_shape",
    "resample",
    "resample_into",
    "to_canonical",
]

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]

PREFILTER_FACTOR = 1.5  # coarser steps than this alias without a low-pass
SLAB_VOXELS = 1 << 18  # voxels of the scan that are float32 at once while down-sampling


@dataclass(frozen=True, slots=True)
class Orientation:
    """Which array axis runs along z, y and x, and which of them run backwards.

    Attributes:
        axes: for canonical axes (z, y, x), the axis of the scan's array.
        flips: for canonical axes (z, y, x), whether the scan's axis points the other way.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]


def orientation_of(affine: NDArray[Any]) -> Orientation:
    """The canonical axes nearest to those of `affine`.

    Follows nibabel's ``io_orientation``: the closest shearless matrix (polar decomposition),
    whose strongest columns choose their world axis first.

    Raises:
        InputError: `affine` is not a finite, invertible 4x4 matrix.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InputError("affine: a finite 4x4 matrix expected; repair the image header")
    directions = matrix[:3, :3]
    zooms = np.sqrt((directions**2).sum(axis=0))
    if (zooms == 0).any() or np.linalg.matrix_rank(directions / zooms) < 3:
        raise InputError("affine: its axes do not span space; repair the image header")
    p, _, q = np.linalg.svd(directions / zooms)
    rotation = p @ q
    to_world = [0, 0, 0]
    signs = [1, 1, 1]
    for axis in np.argsort(-np.max(rotation**2, axis=0), kind="stable"):
        world = int(np.argmax(np.abs(rotation[:, axis])))
        to_world[axis] = world
        signs[axis] = 1 if rotation[world, axis] > 0 else -1
        rotation[world] = 0
    z, y, x = (to_world.index(world) for world in (2, 1, 0))
    # RAS points to the right and to the front, LPS to the left and to the back
    return Orientation((z, y, x), (signs[z] < 0, signs[y] > 0, signs[x] > 0))


def orientation_from(codes: str) -> Orientation:
    """The orientation of an array with these axis codes, such as ``RAS`` (nibabel's meaning)."""
    backwards, forwards = "IAR", "SPL"  # against and along canonical z, y, x
    axes = [
        next(i for i, code in enumerate(codes) if code in pair)
        for pair in zip(backwards, forwards, strict=True)
    ]
    z, y, x = axes
    flips = [codes[axis] == code for axis, code in zip(axes, backwards, strict=True)]
    return Orientation((z, y, x), (flips[0], flips[1], flips[2]))


def to_canonical(
    array: NDArray[Any], affine: NDArray[Any]
) -> tuple[NDArray[Any], Spacing, Orientation]:
    """A view of `array` in canonical order, its spacing (z, y, x) in mm, and the way back.

    Raises:
        InputError: `array` is not three-dimensional or empty, or `affine` is unusable.
    """
    if array.ndim != 3 or array.size == 0:
        raise InputError(f"image: shape {array.shape}: a volume of three axes expected")
    orientation = orientation_of(affine)
    zooms = np.sqrt((np.asarray(affine, dtype=np.float64)[:3, :3] ** 2).sum(axis=0))
    z, y, x = (float(zooms[axis]) for axis in orientation.axes)
    return canonical_view(array, orientation), (z, y, x), orientation


def canonical_view(array: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """A view of an array of `orientation` with canonical axes."""
    return _flip(array.transpose(orientation.axes), orientation)


def from_canonical(labels: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """The canonical ``(Z, Y, X)`` array in the scan's own axis order, contiguous."""
    return np.ascontiguousarray(in_scan_order(labels, orientation))


def in_scan_order(labels: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    """A view of the canonical ``(Z, Y, X)`` array in the scan's own axis order."""
    inverse = tuple(orientation.axes.index(axis) for axis in range(3))
    return _flip(labels, orientation).transpose(inverse)


def _flip(array: NDArray[Any], orientation: Orientation) -> NDArray[Any]:
    return array[tuple(slice(None, None, -1 if flip else 1) for flip in orientation.flips)]


def plan_shape(shape: Shape, spacing: Spacing, target: Spacing) -> Shape:
    """Voxels of the same field of view at another spacing, at least one per axis."""
    z, y, x = (
        max(1, round(size * old / new))
        for size, old, new in zip(shape, spacing, target, strict=True)
    )
    return z, y, x


def linear_matrix(source: int, target: int) -> csr_array:
    """Linear interpolation ``(target, source)`` of one axis over a fixed field of view, float32.

    Voxel centres follow ``align_corners=False``: target ``i`` lies at
    ``(i + 0.5) * source / target - 0.5``, the edge voxels are held beyond the ends.
    """
    centres = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    below = np.floor(centres).astype(np.int64)
    weight = centres - below
    columns = np.stack((below, np.minimum(below + 1, source - 1)), axis=1)
    weights = np.stack((1 - weight, weight), axis=1).astype(np.float32)
    matrix = csr_array(
        (weights.ravel(), columns.ravel(), np.arange(0, 2 * target + 1, 2)), shape=(target, source)
    )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def nearest_indices(source: int, target: int) -> Tensor:
    """Source voxel nearest to each target voxel over a fixed field of view; halves go up."""
    centres = (np.arange(target) + 0.5) * (source / target) - 0.5
    return torch.from_numpy(np.clip(np.floor(centres + 0.5), 0, source - 1).astype(np.int64))


@lru_cache(maxsize=8)  # a scan asks for the same again and again
def image_matrix(source: int, target: int) -> csc_array:
    """:func:`linear_matrix`, after a low-pass where it would skip voxels.

    Where a step is longer than 1.5 voxels, a Gaussian of ``0.5 * (step - 1)`` voxels comes
    first, so that thin structures are averaged, not skipped.
    """
    matrix = linear_matrix(source, target)
    step = source / target
    if step <= PREFILTER_FACTOR:
        return csc_array(matrix)
    # in columns: all of the low-pass would be a square of the longer axis
    columns = []
    for part in slabs(source, 4 * source):
        impulses = np.eye(source, part.stop - part.start, -part.start)
        smooth = gaussian_filter1d(impulses, 0.5 * (step - 1), axis=0, mode="nearest")
        columns.append(csc_array(matrix @ smooth.astype(np.float32)))
    return csc_array(hstack(columns))


def resample(volume: NDArray[Any], shape: Shape) -> NDArray[np.float32]:
    """`volume` ``(Z, Y, X)`` on a grid of `shape` over the same field of view, float32."""
    result = np.zeros(shape, np.float32)
    resample_into(volume, result)
    return result


def resample_into(
    volume: NDArray[Any], result: NDArray[np.float32], check: Callable[[], None] | None = None
) -> bool:
    """Put `volume` ``(Z, Y, X)`` on the grid of `result`, which holds zeros, in place.

    Taken in slabs of slices, so that no float copy of the scan is made.

    Args:
        volume: the scan.
        result: over the same field of view; it may lie in a file.
        check: called between slabs; what it raises ends the work.

    Returns:
        Whether all voxels are finite.
    """
    depth, height, width = volume.shape
    shape = result.shape
    down_z = image_matrix(depth, shape[0])
    down_y = torch.from_numpy(image_matrix(height, shape[1]).toarray())
    down_x = torch.from_numpy(image_matrix(width, shape[2]).toarray()).T
    planes_of = torch.from_numpy(result).view(shape[0], -1)
    step = max(1, SLAB_VOXELS // (height * width))
    finite = True
    for start in range(0, depth, step):
        # a copy always: a single slice that runs backwards counts as contiguous as it is
        slab = np.array(volume[start : start + step], dtype=np.float32, order="C")
        finite = finite and bool(np.isfinite(slab).all())
        planes = down_y @ (torch.from_numpy(slab) @ down_x)
        weights = down_z[:, start : start + step]
        if weights.nnz:
            near = slice(int(weights.indices.min()), int(weights.indices.max()) + 1)
            rows = torch.from_numpy(weights[near].toarray())
            planes_of[near].addmm_(rows, planes.flatten(1))
        if check is not None:
            check()
    return finite
