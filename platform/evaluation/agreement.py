"""How well two masks of one anatomy agree: Dice, surface Dice, Hausdorff distance, volume.

Surfaces and distances are MONAI's. The normalised surface Dice (NSD) follows Nikolov et al.
2018 (arXiv 1809.04430): the share of both surfaces, by area, that lies within a tolerance of
the other one. HD95 is the larger of the two 95th percentiles of surface distances.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Agreement", "agree", "dice"]

Mask = NDArray[np.bool_]


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
    nsd, hd95 = _surfaces(expected, got, spacing, tolerance_mm)
    return Agreement(dice(expected, got), nsd, hd95, held, found)


def _bounding_box(first: Mask, second: Mask) -> tuple[slice, ...]:
    """Of both masks together, found without a third volume."""
    box = []
    for axis in range(first.ndim):
        others = tuple(a for a in range(first.ndim) if a != axis)
        filled = np.flatnonzero(first.any(axis=others) | second.any(axis=others))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)


def _surfaces(
    reference: Mask, predicted: Mask, spacing: tuple[float, float, float], tolerance_mm: float
) -> tuple[float, float]:
    """NSD and HD95 of two masks that are not empty."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    y, y_pred = (
        torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (reference, predicted)
    )
    with warnings.catch_warnings():
        # MONAI 1.6 passes itself an argument that it has deprecated
        warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
        nsd = compute_surface_dice(
            y_pred,
            y,
            class_thresholds=[tolerance_mm],
            include_background=True,
            spacing=spacing,
            use_subvoxels=True,
        )
        hd95 = compute_hausdorff_distance(
            y_pred, y, include_background=True, percentile=95, spacing=spacing
        )
    distance = float(hd95)
    assert math.isfinite(distance)  # both masks hold a voxel
    return float(nsd), distance
