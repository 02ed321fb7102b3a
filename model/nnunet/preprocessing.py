"""What nnU-Net does to a scan before its network sees it, and how the way back looks.

Facts from nnunetv2 2.8 (``preprocessing/preprocessors/default_preprocessor.py``,
``preprocessing/resampling/default_resampling.py``). Its spline resampling is a product of one
matrix per axis, so it is computed as such: the same numbers, in less time and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from clnet.errors import InputError
from clnet.model.geometry import (
    Orientation,
    Shape,
    Spacing,
    canonical_view,
    from_canonical,
    linear_matrix,
    nearest_indices,
)
from clnet.model.nnunet.plan import NnunetPlan

__all__ = ["Prepared", "normalised", "prepare", "resample_spline"]

SMALLEST_STD = 1e-8


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scan as an imported network sees it.

    Attributes:
        image: normalised, float32, in the network's own axis order.
        frame: how these axes lie to the canonical ones.
        box: what was kept of the canonical scan, per axis (z, y, x).
        back: interpolation from the plan grid to the canonical one, a matrix ``(scan, plan)``
            per canonical axis; rows of zeros lie outside the box.
    """

    image: NDArray[np.float32]
    frame: Orientation
    box: tuple[slice, slice, slice]
    back: tuple[Tensor, Tensor, Tensor]

    @property
    def axes(self) -> tuple[int, int, int]:
        """For canonical z, y and x, the axis of the image."""
        return self.frame.axes

    @property
    def flips(self) -> tuple[bool, bool, bool]:
        """For canonical z, y and x, whether the image's axis runs the other way."""
        return self.frame.flips

    @property
    def canonical(self) -> NDArray[np.float32]:
        """The image with canonical axes, a view."""
        view: NDArray[np.float32] = canonical_view(self.image, self.frame)
        return view


def prepare(
    canonical: NDArray[Any], spacing: Spacing, stored: Orientation, plan: NnunetPlan
) -> Prepared:
    """Crop, normalise and resample a scan as `plan` says.

    Args:
        canonical: HU ``(Z, Y, X)`` in LPS.
        spacing: of its axes, mm.
        stored: how the scan's file had its axes.

    Raises:
        InputError: the scan holds NaN or infinite voxels.
    """
    frame = plan.frame(stored)
    own = from_canonical(canonical, frame).astype(np.float32)
    if not np.isfinite(own).all():
        raise InputError("image: holds NaN or infinite voxels; repair or replace them first")
    inside, box = _not_zero(own)
    image = normalised(own[box], inside, plan)
    own_spacing = _permuted(spacing, frame)
    target = plan.grid(_shape(image), own_spacing)
    alone = plan.separate_axis(own_spacing)
    image = resample_spline(image, target, plan.order, alone, plan.order_z)
    kept, back = [], []
    for axis, flip in zip(frame.axes, frame.flips, strict=True):
        nearest = alone == axis and plan.logits_order_z == 0
        matrix = _back(own.shape[axis], box[axis], target[axis], nearest=nearest)
        back.append(matrix.flip(0, 1) if flip else matrix)
        low, high, size = box[axis].start, box[axis].stop, own.shape[axis]
        kept.append(slice(size - high, size - low) if flip else slice(low, high))
    return Prepared(image, frame, (kept[0], kept[1], kept[2]), (back[0], back[1], back[2]))


def _back(size: int, kept: slice, plan: int, *, nearest: bool) -> Tensor:
    length = kept.stop - kept.start
    matrix = torch.zeros((size, plan))
    if nearest:
        matrix[kept] = torch.eye(plan)[nearest_indices(plan, length)]
    else:
        matrix[kept] = linear_matrix(plan, length)
    return matrix


def _permuted(spacing: Spacing, frame: Orientation) -> Spacing:
    # files keep spacings in float32, and nnU-Net rounds what it reads there
    a, b, c = (float(np.float32(spacing[frame.axes.index(n)])) for n in range(3))
    return a, b, c


def _shape(array: NDArray[Any]) -> Shape:
    a, b, c = array.shape
    return a, b, c


def _not_zero(image: NDArray[np.float32]) -> tuple[NDArray[np.bool_], tuple[slice, ...]]:
    """Voxels that are not zero or enclosed by such ones, and the box around them."""
    mask = image != 0
    if not mask.all():
        mask = ndimage.binary_fill_holes(mask)
    found = ndimage.find_objects(mask.astype(np.uint8))
    box = found[0] if found else tuple(slice(0, size) for size in image.shape)
    return mask[box], box


def normalised(
    image: NDArray[Any], inside: NDArray[np.bool_], plan: NnunetPlan
) -> NDArray[np.float32]:
    """A cropped scan in HU as the plan's scheme has it; `inside` is what is not zero."""
    image = np.array(image, dtype=np.float32, order="C")
    if plan.scheme == "CTNormalization":
        np.clip(image, *plan.clip, out=image)
        image -= plan.mean
        image /= plan.std
    elif plan.scheme == "ZScoreNormalization":
        where = inside if plan.masked else np.ones_like(inside)
        values = image[where] if plan.masked else image
        mean, std = values.mean(), values.std()
        image[where] = (image[where] - mean) / max(std, SMALLEST_STD)
    elif plan.scheme == "RescaleTo01Normalization":
        image -= image.min()
        image /= max(float(image.max()), SMALLEST_STD)
    return image


def resample_spline(
    image: NDArray[np.float32], shape: Shape, order: int, alone: int | None, order_z: int
) -> NDArray[np.float32]:
    """`image` on a grid of `shape` over the same field of view, as nnU-Net resamples.

    Args:
        order: of the splines.
        alone: axis across which planes are resampled on their own, or None.
        order_z: across that axis, 0 or 1.
    """
    if image.shape == shape:
        return image
    planar = tuple(axis for axis in range(3) if axis != alone)
    flat = torch.from_numpy(np.ascontiguousarray(image))
    if any(image.shape[axis] != shape[axis] for axis in planar):
        result = flat
        for axis in planar:
            result = _along(result, axis, _spline(image.shape[axis], shape[axis], order))
        # splines overshoot; nnU-Net's resize keeps to the values that were there
        low, high = flat.amin(planar, keepdim=True), flat.amax(planar, keepdim=True)
        flat = torch.minimum(torch.maximum(result, low), high)
    if alone is not None and image.shape[alone] != shape[alone]:
        if order_z == 0:
            flat = flat.index_select(alone, nearest_indices(image.shape[alone], shape[alone]))
        else:
            flat = _along(flat, alone, _spline(image.shape[alone], shape[alone], 1))
    return flat.contiguous().numpy()


@lru_cache(maxsize=32)
def _spline(source: int, target: int, order: Any) -> Tensor:
    """Spline interpolation ``(target, source)`` of one axis, as ``scipy.ndimage.zoom`` does it."""
    matrix = ndimage.zoom(
        np.eye(source), (target / source, 1.0), order=order, mode="nearest", grid_mode=True
    )
    return torch.from_numpy(matrix.astype(np.float32))


def _along(volume: Tensor, axis: int, matrix: Tensor) -> Tensor:
    if len(matrix) == matrix.shape[1]:
        return volume
    rest: Sequence[int] = [a for a in range(3) if a != axis]
    moved: Tensor = torch.tensordot(matrix, volume, dims=([1], [axis]))
    order = [0, 0, 0]
    order[axis], order[rest[0]], order[rest[1]] = 0, 1, 2
    return moved.permute(order)
