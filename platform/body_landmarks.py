"""How high in the body the slices of a case lie, by bones of known height that it shows whole.

0 is the bottom of the hips, 1 the top of the skull. A case that shows both ends says by itself
where all its slices lie. Others lie by the vertebrae whose usual height is known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy import vocabulary
from clnet.data_catalog.planned_case import PlannedCase
from clnet.model.bpreg import ADULT_EYES

__all__ = ["LANDMARKS", "known_heights"]

BOTTOM, TOP = ("hip_left", "hip_right"), ("skull",)

VERTEBRAE = {
    name: percent / 100 * ADULT_EYES
    for name, percent in {
        "vertebrae_L5": 25.7,
        "vertebrae_L1": 41.5,
        "vertebrae_T11": 47.6,
        "vertebrae_T5": 65.7,
        "vertebrae_C6": 79.0,
        "vertebrae_C1": 88.8,
    }.items()
}
"""Height of the centres of some vertebrae: the means over people that the scale of ``bpreg``
gives (Schuhegger 2021; its 100, the upper edge of the eyes, lies below our 1)."""

LANDMARKS = (*BOTTOM, *TOP, *VERTEBRAE)
"""What may say where slices lie; both hips are one of them."""


def known_heights(case: PlannedCase) -> NDArray[np.float64] | None:
    """Height of every slice of a case ``(Z,)``, NaN where nothing tells, else None.

    With hips and skull whole all slices are known, by these alone; otherwise those from the
    lowest landmark to the highest. None with less than two, or where a higher one lies below a
    lower one.
    """
    bottom, top = _slices(case, BOTTOM), _slices(case, TOP)
    depth = case.image.shape[0]
    seen: dict[float, float] = {}  # height to position
    if bottom.any() and not bottom[0]:
        seen[0.0] = float(np.flatnonzero(bottom)[0])
    if top.any() and not top[-1]:
        seen[1.0] = float(np.flatnonzero(top)[-1])
    slices = np.arange(depth, dtype=np.float64)
    whole = len(seen) == 2
    for name, height in VERTEBRAE.items():
        area = _slices(case, (name,))
        if area.any() and not area[0] and not area[-1]:
            seen[height] = float(np.average(slices, weights=area))
    heights = sorted(seen)
    positions = [seen[height] for height in heights]
    if len(seen) < 2 or (np.diff(positions) <= 0).any():
        return None
    if whole:
        return np.asarray((slices - seen[0.0]) / (seen[1.0] - seen[0.0]), dtype=np.float64)
    return np.interp(slices, positions, heights, left=np.nan, right=np.nan)


def _slices(case: PlannedCase, landmark: tuple[str, ...]) -> NDArray[np.int64]:
    """Voxels of a landmark in each slice ``(Z,)``; none unless all of it is labelled, and whole.

    A label with an extent ends where an annotator stopped, not where the bone does.
    """
    leaves = {leaf for name in landmark for leaf in vocabulary().leaves(name)}
    held = np.zeros(case.image.shape[0], np.int64)
    labelled: set[str] = set()
    for layer in case.contract.layers:
        labels = np.asarray(case.labels[layer])
        for entry in case.contract.for_layer(layer):
            if entry.within is None and set(entry.members) <= leaves:
                voxels = (labels == entry.value).sum(axis=(1, 2))
                if voxels.any():
                    held += voxels
                    labelled |= set(entry.members)
    return held if labelled == leaves else np.zeros_like(held)
