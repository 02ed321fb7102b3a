"""A scan on another grid by splines, as nnU-Net resamples it, in bounded memory.

Facts from nnunetv2 2.8 (``preprocessing/resampling/default_resampling.py``). Its spline
resampling is a product of one matrix per axis, so it is computed as such: the same numbers, in
less time and memory. Across the first axis an image is taken in columns, along the others in
slabs; what lies between goes to a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from clnet.model.geometry import Shape, nearest_indices
from clnet.model.scratch import Room, slabs

__all__ = ["resample_spline"]

Check = Callable[[], None] | None
Step = tuple[int, Tensor]


def resample_spline(
    image: NDArray[np.float32],
    shape: Shape,
    order: int,
    alone: int | None,
    order_z: int,
    room: Room = np.zeros,
    check: Check = None,
) -> NDArray[np.float32]:
    """`image` on a grid of `shape` over the same field of view, as nnU-Net resamples.

    Args:
        order: of the splines.
        alone: axis across which planes are resampled on their own, or None.
        order_z: across that axis, 0 or 1.
        room: where what is made lies.
        check: asked whether to go on.
    """
    if image.shape == shape:
        return image
    planar = tuple(axis for axis in range(3) if axis != alone)
    volume = torch.from_numpy(np.ascontiguousarray(image))
    within: list[Step] = [
        (axis, _spline(image.shape[axis], shape[axis], order))
        for axis in planar
        if image.shape[axis] != shape[axis]
    ]
    # splines overshoot; nnU-Net's resize keeps to the values that were there
    bounds = (volume.amin(planar, True), volume.amax(planar, True)) if within else None
    across: list[Step] = []
    if alone is not None and image.shape[alone] != shape[alone]:
        sizes = image.shape[alone], shape[alone]
        across = [(alone, nearest_indices(*sizes) if order_z == 0 else _spline(*sizes, 1))]
    if within and within[0][0] == 0:
        volume = _by_columns(volume, within.pop(0)[1], room, check)
    along_first = alone == 0 and bool(across)
    if bounds or not along_first:
        volume = _by_slabs(volume, within, bounds, [] if along_first else across, room, check)
    if along_first:
        volume = _by_columns(volume, across[0][1], room, check)
    return volume.numpy()


def _by_columns(volume: Tensor, step: Tensor, room: Room, check: Check) -> Tensor:
    """`volume` resampled along its first axis."""
    result = torch.from_numpy(room((len(step), *volume.shape[1:]), np.float32))
    source, target = volume.flatten(1), result.flatten(1)
    for part in slabs(source.shape[1], max(len(source), len(target)), check):
        target[:, part] = _along(source[:, part], 0, step)
    return result


def _by_slabs(
    volume: Tensor,
    within: Sequence[Step],
    bounds: tuple[Tensor, Tensor] | None,
    across: Sequence[Step],
    room: Room,
    check: Check,
) -> Tensor:
    """`volume` resampled along its other axes, and kept to `bounds` before it goes across."""
    sizes = list(volume.shape)
    for axis, step in (*within, *across):
        sizes[axis] = len(step)
    result = torch.from_numpy(room(tuple(sizes), np.float32))
    most = max(volume.shape[1], sizes[1]) * max(volume.shape[2], sizes[2])
    for part in slabs(len(volume), most, check):
        slab = volume[part]
        for axis, step in within:
            slab = _along(slab, axis, step)
        if bounds is not None:
            low, high = (bound[part] if len(bound) > 1 else bound for bound in bounds)
            slab = torch.minimum(torch.maximum(slab, low), high)
        for axis, step in across:
            slab = _along(slab, axis, step)
        result[part] = slab
    return result


def _along(volume: Tensor, axis: int, step: Tensor) -> Tensor:
    """`volume` with one axis multiplied by a matrix, or picked from by indices."""
    if step.ndim == 1:
        return volume.index_select(axis, step)
    moved: Tensor = torch.tensordot(step, volume, dims=([1], [axis]))
    return moved.movedim(0, axis)


def _spline(source: int, target: int, order: Any) -> Tensor:
    """Spline interpolation ``(target, source)`` of one axis, as ``scipy.ndimage.zoom`` does it."""
    matrix = torch.empty((target, source))
    # in columns: at once it would take three squares of the longer axis, in float64
    for part in slabs(source, 8 * max(source, target)):
        impulses = np.eye(source, part.stop - part.start, -part.start)
        found = ndimage.zoom(
            impulses, (target / source, 1.0), order=order, mode="nearest", grid_mode=True
        )
        matrix[:, part] = torch.from_numpy(found.astype(np.float32))
    return matrix
