"""From a case's grid to a plan's: which millimetre each voxel of the plan grid stands for.

Both grids cover the same physical extent. Along each axis the plan grid has
``round(size * spacing / target)`` voxels, and the centre of voxel ``i`` lies at
``(i + 0.5) * step - 0.5`` source voxels, ``step = size / new_size``: the convention of
``torch.nn.functional.interpolate(align_corners=False)``, which inference uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["grid_shape", "resample_image", "resample_labels", "slice_positions"]

ANTI_ALIAS_FROM = 1.5
"""Downsampling factor above which the image is smoothed before it is sampled."""


def grid_shape(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    target: tuple[float, float, float],
) -> tuple[int, int, int]:
    """Voxels of the plan grid, ``(z, y, x)``, at least one along each axis."""
    z, y, x = (
        max(1, round(size * own / new))
        for size, own, new in zip(shape, spacing, target, strict=True)
    )
    return z, y, x


def slice_positions(size: int, new_size: int, spacing: float) -> NDArray[np.float64]:
    """Centres of the plan grid's slices in mm from the centre of the case's slice 0."""
    step = size / new_size
    return ((np.arange(new_size, dtype=np.float64) + 0.5) * step - 0.5) * spacing


def resample_image(image: NDArray[Any], new_shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Linear resampling of a ``(Z, Y, X)`` volume; equal shapes come back unchanged.

    Axes that shrink by more than 1.5 are first smoothed by a Gaussian of
    ``(factor - 1) / 2`` voxels, so that thin structures are averaged, not skipped.
    """
    from scipy import ndimage

    result = image.astype(np.float32)
    for axis, size in enumerate(new_shape):
        factor = image.shape[axis] / size
        if factor > ANTI_ALIAS_FROM:
            result = ndimage.gaussian_filter1d(result, (factor - 1) / 2, axis=axis, mode="nearest")
        result = _linear(result, size, axis, 0)
    return result


def resample_labels(
    labels: NDArray[np.uint8], new_shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Each label resampled linearly as a mask of its own; the largest share wins a voxel.

    Value 0 takes part like any label and loses ties. Equal shapes come back unchanged.
    """
    from scipy import ndimage

    if labels.shape == new_shape:
        return labels.copy()
    best = np.zeros(new_shape, dtype=np.float32)
    total = np.zeros(new_shape, dtype=np.float32)
    result = np.zeros(new_shape, dtype=np.uint8)
    boxes: Sequence[tuple[slice, ...] | None] = ndimage.find_objects(labels)
    for index, box in enumerate(boxes):
        if box is None:
            continue
        # one voxel of margin holds every sample that the label can reach
        source = tuple(
            slice(max(0, s.start - 1), min(n, s.stop + 1))
            for s, n in zip(box, labels.shape, strict=True)
        )
        target = tuple(
            _reach(s, n, m) for s, n, m in zip(source, labels.shape, new_shape, strict=True)
        )
        share = (labels[source] == index + 1).astype(np.float32)
        for axis in range(3):
            share = _linear(
                share,
                new_shape[axis],
                axis,
                source[axis].start,
                full_size=labels.shape[axis],
                window=target[axis],
            )
        wins = share > best[target]
        best[target][wins] = share[wins]
        result[target][wins] = index + 1
        total[target] += share
    result[best < 1 - total] = 0
    return result


def _reach(source: slice, size: int, new_size: int) -> slice:
    """Plan voxels whose samples fall into `source`."""
    step = size / new_size
    first = int(np.floor((source.start + 0.5) / step - 0.5))
    last = int(np.ceil((source.stop - 0.5) / step - 0.5))
    return slice(
        max(0, first) if source.start > 0 else 0,
        min(new_size, last + 1) if source.stop < size else new_size,
    )


def _linear(
    values: NDArray[np.float32],
    new_size: int,
    axis: int,
    start: int,
    *,
    full_size: int | None = None,
    window: slice | None = None,
) -> NDArray[np.float32]:
    """Sample one axis of a crop that begins at `start` of an axis of `full_size` voxels."""
    size = values.shape[axis] if full_size is None else full_size
    if size == new_size and window is None:
        return values
    positions = slice_positions(size, new_size, 1.0)[window or slice(None)]
    positions = np.clip(positions, 0, size - 1)
    low = np.floor(positions).astype(np.intp)
    weight = (positions - low).astype(np.float32)
    last = values.shape[axis] - 1
    before = np.clip(low - start, 0, last)
    after = np.clip(np.minimum(low + 1, size - 1) - start, 0, last)
    shape = [1, 1, 1]
    shape[axis] = -1
    w = weight.reshape(shape)
    sampled: NDArray[np.float32] = values.take(before, axis) * (1 - w)
    sampled += values.take(after, axis) * w
    return sampled
