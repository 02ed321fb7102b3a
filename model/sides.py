"""Are left and right where the header says? Pairs of anatomies tell, and unpaired ones beside
the midline.

A network may name the sides of a pair by where they lie in the image, so that a mirrored scan looks
right to it. The heart and the liver have no counterpart that could be taken for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from clnet.anatomy.asymmetry import asymmetry
from clnet.anatomy.vocabulary import vocabulary
from clnet.model.statistics import Measure

__all__ = ["misplaced", "swapped_sides"]

LEAST_ML = 1.0  # smaller finds may be specks of anything
LEAST_SLICES = 3  # fewer show too little of an anatomy to say where it lies
LEAST_MM = 10.0  # nearer to each other than this, a pair says nothing
LEAST_ORGAN_ML = 50.0  # less of an unpaired organ is a part, which may well reach across
BESIDE_MM = 5.0  # as near as this to the midline, an organ is on no side


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
        right = sizes.get(_counterpart(name), Measure())
        if not all(_shown(side, voxel_ml, LEAST_ML) for side in (left, right)):
            continue
        if (_middle(right) - _middle(left)) * spacing > LEAST_MM:
            found.append(name)
    return tuple(found)


def misplaced(sizes: Mapping[str, Measure], spacing: float, voxel_ml: float) -> tuple[str, ...]:
    """Unpaired anatomies that lie on the wrong side of the midline.

    Body and spine both have to say so, as far as they were looked for: a field of view that is not
    centred moves the one, a crooked back the other.

    Args:
        sizes, spacing, voxel_ml: see :func:`swapped_sides`.
    """
    known = asymmetry()
    lines = [_together(sizes, names) for names in known.midline.values()]
    middles = [_middle(line) for line in lines if _shown(line, voxel_ml, LEAST_ML)]
    if not middles:
        return ()
    found = []
    for names, towards_left in ((known.left, 1), (known.right, -1)):
        for name in names:
            organ = _together(sizes, (name,))
            if not _shown(organ, voxel_ml, LEAST_ORGAN_ML):
                continue
            offsets = [towards_left * (_middle(organ) - middle) * spacing for middle in middles]
            if max(offsets) < 0 and sum(offsets) / len(offsets) < -BESIDE_MM:
                found.append(name)
    return tuple(sorted(found))


def _counterpart(left: str) -> str:
    """Id of the other side; the word may stand anywhere: ``kidney_left``, ``rib_left_7``."""
    return "_".join("right" if word == "left" else word for word in left.split("_"))


def _together(sizes: Mapping[str, Measure], names: tuple[str, ...]) -> Measure:
    """What was found of these anatomies, by their own name or by that of their leaves."""
    leaves = {leaf for name in names for leaf in (name, *vocabulary().leaves(name))}
    return sum((size for name, size in sizes.items() if name in leaves), Measure())


def _shown(size: Measure, voxel_ml: float, least_ml: float) -> bool:
    return size.voxels * voxel_ml >= least_ml and size.slices >= LEAST_SLICES


def _middle(size: Measure) -> float:
    return size.x / size.voxels
