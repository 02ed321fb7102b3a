"""Where voxels lie while they are read: in memory, or wherever the caller has room for them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Allocate", "contiguous", "in_memory", "slabs"]

SLAB_VOXELS = 1 << 20


class Allocate(Protocol):
    """Gives arrays of zeros, rows first; of files, where memory shall not grow with a scan."""

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike, /) -> NDArray[Any]:
        """An array that can be written."""


def in_memory(shape: tuple[int, ...], dtype: DTypeLike, /) -> NDArray[Any]:
    """An array in memory."""
    return np.zeros(shape, dtype)


def slabs(voxels: NDArray[Any]) -> list[tuple[slice, ...]]:
    """Parts of about a million voxels that lie together, in the order in which they lie."""
    axis = int(np.argmax(np.abs(voxels.strides)))
    step = max(1, SLAB_VOXELS * voxels.shape[axis] // max(1, voxels.size))
    before = (slice(None),) * axis
    return [(*before, slice(i, i + step)) for i in range(0, voxels.shape[axis], step)]


def contiguous(voxels: NDArray[Any], allocate: Allocate) -> NDArray[Any]:
    """`voxels` with rows first: as they are, or copied slab by slab."""
    if voxels.flags.c_contiguous:
        return voxels
    copy = allocate(voxels.shape, voxels.dtype)
    for slab in slabs(copy):
        copy[slab] = voxels[slab]
    return copy
