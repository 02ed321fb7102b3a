"""Is this image a CT in Hounsfield units? Air is -1000, fat about -100, water 0, metal 3000."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.allocation import Allocate, in_memory, slabs
from clnet.errors import CaseRejected

__all__ = ["as_hounsfield"]

PLAUSIBLE = (-3100.0, 4500.0)
"""HU that scanners write, from paddings (-3024) to dense metal on extended scales."""

MAX_IMPLAUSIBLE = 0.01
MIN_RANGE = 50.0

MAX_LABELS = 16
"""An image of no more different whole values than this is rather a label map."""

INT16 = np.iinfo(np.int16)


def as_hounsfield(
    voxels: NDArray[Any], file: str, allocate: Allocate = in_memory
) -> NDArray[np.int16]:
    """`voxels` as int16 HU, rounded; same shape. Taken in slabs: `voxels` may lie in a file.

    Args:
        voxels: as stored, rescaled.
        file: where they came from, for messages.
        allocate: gives room for the result, which is `voxels` itself if that is int16 already.

    No air is needed: a crop of the spine passes. What no CT lacks is a voxel below 0 HU, as
    fat and noise are everywhere; an image without one was rescaled or is no CT.

    Raises:
        CaseRejected: NaN or infinity, a constant image, no value below 0 (8-bit pictures,
            intensities scaled to 0..1, a rescale intercept not applied), a range too small
            for tissue (normalised intensities), or more than 1 % outside -3100..4500.
    """
    parts = slabs(voxels)
    if voxels.dtype.kind == "f" and not all(np.isfinite(voxels[part]).all() for part in parts):
        raise CaseRejected(file, "voxels", "holds NaN or infinity", "hu.not-finite")
    low = float(min(voxels[part].min() for part in parts))
    high = float(max(voxels[part].max() for part in parts))
    seen = f"values from {low:g} to {high:g}"
    if low == high:
        raise CaseRejected(file, "voxels", f"every voxel is {low:g}: an empty image", "hu.constant")
    if low >= 0:
        code, guess = _without_negatives(voxels, high)
        raise CaseRejected(
            file,
            "voxels",
            f"{seen} are not Hounsfield units: fat and air are below 0; {guess}",
            code,
        )
    if high - low < MIN_RANGE:
        raise CaseRejected(
            file,
            "voxels",
            f"{seen} are not Hounsfield units: normalised? Give the original CT",
            "hu.normalised",
        )
    beyond = sum(
        np.count_nonzero((voxels[part] < PLAUSIBLE[0]) | (voxels[part] > PLAUSIBLE[1]))
        for part in parts
    )
    outside = beyond / voxels.size
    if outside > MAX_IMPLAUSIBLE:
        raise CaseRejected(
            file,
            "voxels",
            f"{seen}, {outside:.1%} outside {PLAUSIBLE[0]:g}..{PLAUSIBLE[1]:g}: not Hounsfield "
            "units; check the rescale slope and intercept",
            "hu.implausible",
        )
    if voxels.dtype == np.int16:
        return voxels
    # in the order of the axes that `voxels` has
    order = np.argsort(np.abs(voxels.strides), kind="stable")[::-1]
    hu = allocate(tuple(voxels.shape[axis] for axis in order), np.int16)
    hu = hu.transpose(np.argsort(order))
    for part in parts:
        whole = np.rint(voxels[part]) if voxels.dtype.kind == "f" else voxels[part]
        hu[part] = np.clip(whole, INT16.min, INT16.max)
    return hu


def _without_negatives(voxels: NDArray[Any], high: float) -> tuple[str, str]:
    """Code and likely reason for an image whose values begin at 0."""
    sample = voxels[tuple(slice(None, None, max(1, size // 64)) for size in voxels.shape)]
    whole = bool((sample == np.rint(sample)).all())
    if whole and len(np.unique(sample)) <= MAX_LABELS and high <= 255:
        return "hu.mask", "is this a label map?"
    if high <= 2.0:
        return "hu.normalised", "intensities were normalised; give the original CT"
    if high <= 255:
        return "hu.picture", "a windowed picture? Give the original CT"
    return "hu.shifted", "apply the rescale slope and intercept, or check that this is a CT"
