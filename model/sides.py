"""Are left and right where the header says? Pairs of anatomies tell."""

from __future__ import annotations

from collections.abc import Mapping

from clnet.anatomy.vocabulary import vocabulary
from clnet.model.statistics import Measure

__all__ = ["swapped_sides"]

LEAST_ML = 1.0  # smaller finds may be specks of anything
LEAST_MM = 10.0  # nearer to each other than this, a pair says nothing


def swapped_sides(sizes: Mapping[str, Measure], spacing: float, voxel_ml: float) -> tuple[str, ...]:
    """Left anatomies that lie to the right of their counterparts.

    Args:
        sizes: by anatomy.
        spacing: mm of a voxel from right to left.
        voxel_ml: millilitres of a voxel.
    """
    known = vocabulary()
    found = []
    for name, left in sorted(sizes.items()):
        if name not in known or known[name].side != "left":
            continue
        right = sizes.get(name.removesuffix("_left") + "_right")
        if right is None or min(left.voxels, right.voxels) * voxel_ml < LEAST_ML:
            continue
        if (right.x / right.voxels - left.x / left.voxels) * spacing > LEAST_MM:
            found.append(name)
    return tuple(found)
