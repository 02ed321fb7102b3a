"""Intensities as nnU-Net normalises them, in place and slab by slab.

Facts from nnunetv2 2.8 (``preprocessing/normalization/default_normalization_schemes.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clnet.model.scratch import Room, slabs

if TYPE_CHECKING:
    from clnet.model.nnunet.plan import NnunetPlan

__all__ = ["normalise", "without_holes"]

SMALLEST_STD = 1e-8

Check = Callable[[], None] | None


def normalise(
    image: NDArray[np.float32],
    inside: NDArray[np.bool_] | None,
    plan: NnunetPlan,
    room: Room = np.zeros,
    check: Check = None,
) -> None:
    """Put a cropped scan in HU on the plan's intensities.

    Args:
        image: HU; written over.
        inside: what a masked scheme looks at; all of the scan if None.
        plan: names the scheme.
        room: where a copy of what is measured lies.
        check: asked whether to go on.
    """
    parts = slabs(len(image), image[0].size, check)
    if plan.scheme == "CTNormalization":
        for part in parts:
            np.clip(image[part], *plan.clip, out=image[part])
            image[part] -= plan.mean
            image[part] /= plan.std
    elif plan.scheme == "ZScoreNormalization":
        mean, std = _moments(image, inside, room, check)
        for part in parts:
            scores = (image[part] - mean) / max(std, SMALLEST_STD)
            image[part] = scores if inside is None else np.where(inside[part], scores, image[part])
    elif plan.scheme == "RescaleTo01Normalization":
        low = image.min()
        width = max(float(image.max() - low), SMALLEST_STD)
        for part in parts:
            image[part] -= low
            image[part] /= width


def _moments(
    image: NDArray[np.float32], inside: NDArray[np.bool_] | None, room: Room, check: Check
) -> tuple[Any, Any]:
    """Mean and standard deviation, summed as ``numpy.std`` does, which would copy in memory."""
    count = image.size if inside is None else int(np.count_nonzero(inside))
    if not count:
        return np.float32(0), np.float32(1)
    values = room((count,), np.float32)
    done = 0
    for part in slabs(len(image), image[0].size, check):
        found = image[part].ravel() if inside is None else image[part][inside[part]]
        values[done : done + len(found)] = found
        done += len(found)
    mean = values.mean()
    values -= mean
    values *= values
    return mean, np.sqrt(values.mean())


def without_holes(
    image: NDArray[np.float32], room: Room = np.zeros, check: Check = None
) -> NDArray[np.bool_]:
    """Voxels that are not zero or enclosed by such ones, as ``scipy.ndimage.binary_fill_holes``.

    What is zero is flooded from the borders, up and down through the slabs until nothing is
    gained.
    """
    outside = room(image.shape, np.bool_)
    parts = list(slabs(len(image), image[0].size))
    for sweep in cycle((parts, parts[::-1])):
        gained = False
        for part in sweep:
            if check is not None:
                check()
            gained |= _flood(image, outside, part)
        if not gained:
            break
    return np.logical_not(outside, out=outside)


def _flood(image: NDArray[np.float32], outside: NDArray[np.bool_], part: slice) -> bool:
    """Spread what is outside within a slab; whether it grew."""
    pieces, count = ndimage.label(image[part] == 0)
    below = outside[part.start - 1] if part.start else True
    above = outside[part.stop] if part.stop < len(image) else True
    reached = np.zeros(count + 1, bool)
    for seeds in (
        pieces[0][below & (pieces[0] > 0)],
        pieces[-1][above & (pieces[-1] > 0)],
        pieces[:, [0, -1]],
        pieces[:, :, [0, -1]],
    ):
        reached[seeds] = True
    reached[0] = False
    found = reached[pieces]
    grew = bool(np.count_nonzero(found) > np.count_nonzero(outside[part]))
    outside[part] = found
    return grew
