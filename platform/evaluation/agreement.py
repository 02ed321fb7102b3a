"""How well two masks of one anatomy agree: Dice, surface Dice, Hausdorff distance, volume.

The normalised surface Dice (NSD) follows Nikolov et al. 2018 (arXiv 1809.04430): the share of
both surfaces, by area, that lies within a tolerance of the other one. HD95 is the larger of
the two 95th percentiles of surface distances. Both are equal to MONAI's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clnet.platform.evaluation.surfaces import border_voxels, nearest, surface_elements

__all__ = ["Agreement", "agree", "dice"]

Mask = NDArray[np.bool_]

ROUNDING = 1e-6
"""Share of the tolerance by which a distance may exceed it: headers keep spacings in float32, and
5 voxels of 0.4 mm must not be further than 2 mm by the last bit of a product."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two masks of one anatomy in one scan.

    What only one of them holds scores a Dice and NSD of 0 and has no distance; what neither
    holds has no score at all.

    Attributes:
        dsc: Dice score, 0 to 1.
        nsd: normalised surface Dice at the tolerance, 0 to 1.
        hd95_mm: 95th percentile of the Hausdorff distance.
        reference_voxels, predicted_voxels: sizes of the masks.
    """

    dsc: float | None
    nsd: float | None
    hd95_mm: float | None
    reference_voxels: int
    predicted_voxels: int


def dice(reference: Mask, predicted: Mask) -> float:
    """Dice score of two masks, of which one at least holds a voxel."""
    hit = int(np.count_nonzero(reference & predicted))
    total = int(np.count_nonzero(reference)) + int(np.count_nonzero(predicted))
    return 2 * hit / total


def agree(
    reference: Mask, predicted: Mask, spacing: tuple[float, float, float], tolerance_mm: float
) -> Agreement:
    """Compare two masks ``(Z, Y, X)``; memory grows with their common bounding box only.

    Args:
        reference: what is there.
        predicted: what was found.
        spacing: mm, ``(z, y, x)``.
        tolerance_mm: distance up to which surfaces count as equal, for the NSD.
    """
    held, found = int(np.count_nonzero(reference)), int(np.count_nonzero(predicted))
    if not held or not found:
        score = 0.0 if held or found else None
        return Agreement(score, score, None, held, found)
    box = _bounding_box(reference, predicted)
    expected, got = reference[box], predicted[box]
    return Agreement(
        dsc=dice(expected, got),
        nsd=_surface_dice(expected, got, spacing, tolerance_mm),
        hd95_mm=_hausdorff_95(expected, got, spacing),
        reference_voxels=held,
        predicted_voxels=found,
    )


def _bounding_box(first: Mask, second: Mask) -> tuple[slice, ...]:
    """Of both masks together, found without a third volume."""
    box = []
    for axis in range(first.ndim):
        others = tuple(a for a in range(first.ndim) if a != axis)
        filled = np.flatnonzero(first.any(axis=others) | second.any(axis=others))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)


def _surface_dice(
    reference: Mask, predicted: Mask, spacing: tuple[float, float, float], tolerance_mm: float
) -> float:
    there, its_areas = surface_elements(reference, spacing)
    found, areas = surface_elements(predicted, spacing)
    limit = tolerance_mm * (1 + ROUNDING)
    near = its_areas[nearest(there, found) <= limit].sum(dtype=np.float64)
    near += areas[nearest(found, there) <= limit].sum(dtype=np.float64)
    return float(near / (its_areas.sum(dtype=np.float64) + areas.sum(dtype=np.float64)))


def _hausdorff_95(reference: Mask, predicted: Mask, spacing: tuple[float, float, float]) -> float:
    there, found = border_voxels(reference, spacing), border_voxels(predicted, spacing)
    return float(
        max(np.percentile(nearest(there, found), 95), np.percentile(nearest(found, there), 95))
    )
