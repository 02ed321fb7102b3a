"""What nnU-Net does to a scan before its network sees it, and how the way back looks.

Facts from nnunetv2 2.8 (``preprocessing/preprocessors/default_preprocessor.py``). Whatever has
the size of a scan lies in files; in memory are slabs of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array, vstack

from clnet.errors import InputError
from clnet.model.geometry import (
    Orientation,
    Shape,
    Spacing,
    canonical_view,
    in_scan_order,
    linear_matrix,
    nearest_indices,
)
from clnet.model.nnunet.intensities import normalise, without_holes
from clnet.model.nnunet.plan import NnunetPlan
from clnet.model.nnunet.resampling import resample_spline
from clnet.model.scratch import Scratch, slabs

__all__ = ["Prepared", "prepare"]

Check = Callable[[], None] | None
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scan as an imported network sees it.

    Attributes:
        image: normalised, float32, in the network's own axis order; it lies in a file.
        frame: how these axes lie to the canonical ones.
        box: what was kept of the canonical scan, per axis (z, y, x).
        back: interpolation from the plan grid to the canonical one, a matrix ``(scan, plan)``
            per canonical axis; rows of zeros lie outside the box.
    """

    image: NDArray[np.float32]
    frame: Orientation
    box: Box
    back: tuple[csr_array, csr_array, csr_array]

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
    canonical: NDArray[Any],
    spacing: Spacing,
    stored: Orientation,
    plan: NnunetPlan,
    scratch: Scratch,
    check: Check = None,
) -> Prepared:
    """Crop, normalise and resample a scan as `plan` says.

    Args:
        canonical: HU ``(Z, Y, X)`` in LPS.
        spacing: of its axes, mm.
        stored: how the scan's file had its axes.
        plan: of the imported network.
        scratch: where the image lies.
        check: called often; what it raises ends the work.

    Raises:
        InputError: the scan holds NaN or infinite voxels.
    """
    frame = plan.frame(stored)
    box = _box(canonical, check)
    own = in_scan_order(canonical[box], frame)
    image: NDArray[np.float32] = scratch.zeros(own.shape, np.float32)
    for part in slabs(len(own), own[0].size, check):
        image[part] = own[part]
    masked = plan.scheme == "ZScoreNormalization" and plan.masked
    inside = without_holes(image, scratch.zeros, check) if masked else None
    normalise(image, inside, plan, scratch.zeros, check)
    own_spacing = _permuted(spacing, frame)
    target = plan.grid(_shape(image), own_spacing)
    alone = plan.separate_axis(own_spacing)
    image = resample_spline(image, target, plan.order, alone, plan.order_z, scratch.zeros, check)
    back = []
    alone_back = plan.separate_axis_back(own_spacing)
    for size, kept, axis, flip in zip(canonical.shape, box, frame.axes, frame.flips, strict=True):
        nearest = alone_back == axis and plan.logits_order_z == 0
        turned = slice(size - kept.stop, size - kept.start) if flip else kept
        matrix = _back(size, turned, target[axis], nearest=nearest)
        back.append(csr_array(matrix[::-1, ::-1]) if flip else matrix)
    return Prepared(image, frame, box, (back[0], back[1], back[2]))


def _back(size: int, kept: slice, plan: int, *, nearest: bool) -> csr_array:
    length = kept.stop - kept.start
    if nearest:
        own = eye_array(plan, dtype=np.float32, format="csr")[nearest_indices(plan, length).numpy()]
    else:
        own = linear_matrix(plan, length)
    outside = [
        csr_array((count, plan), dtype=np.float32) for count in (kept.start, size - kept.stop)
    ]
    return csr_array(vstack((outside[0], own, outside[1])))


def _permuted(spacing: Spacing, frame: Orientation) -> Spacing:
    # files keep spacings in float32, and nnU-Net rounds what it reads there
    a, b, c = (float(np.float32(spacing[frame.axes.index(n)])) for n in range(3))
    return a, b, c


def _shape(array: NDArray[Any]) -> Shape:
    a, b, c = array.shape
    return a, b, c


def _box(canonical: NDArray[Any], check: Check) -> Box:
    """The smallest box around what is not zero; all where everything is.

    Raises:
        InputError: the scan holds NaN or infinite voxels.
    """
    z, y, x = (np.zeros(size, bool) for size in canonical.shape)
    for part in slabs(len(canonical), canonical[0].size, check):
        slab = canonical[part].astype(np.float32)
        if not np.isfinite(slab).all():
            raise InputError("image: holds NaN or infinite voxels; repair or replace them first")
        held = slab != 0
        z[part] = held.any(axis=(1, 2))
        y |= held.any(axis=(0, 2))
        x |= held.any(axis=(0, 1))
    if not z.any():
        return slice(0, len(z)), slice(0, len(y)), slice(0, len(x))
    first, second, third = (_reach(axis) for axis in (z, y, x))
    return first, second, third


def _reach(held: NDArray[np.bool_]) -> slice:
    """From the first to the last that is held."""
    found = np.flatnonzero(held)
    return slice(int(found[0]), int(found[-1]) + 1)
