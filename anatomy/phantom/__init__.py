"""A procedural whole-body CT phantom, pelvis to head, reproducible from a seed.

phantom = render(7, field_of_view="whole")
phantom.ct, phantom.labels["organ"], phantom.names["organ"][1]
"""

from clnet.anatomy.phantom.plan import body_plan
from clnet.anatomy.phantom.render import Phantom, render

__all__ = [
    "FIELDS_OF_VIEW",
    "PHANTOM_ANATOMIES",
    "PHANTOM_LABELS",
    "SAME_HU_PAIRS",
    "SAME_HU_PAIRS_UNENHANCED",
    "Phantom",
    "render",
]

PHANTOM_LABELS: dict[str, dict[int, str]] = body_plan().labels()
"""Per layer, the fixed number of every anatomy."""
PHANTOM_ANATOMIES: tuple[str, ...] = tuple(body_plan().layer_of)
"""Canonical ids of everything that the phantom labels."""
FIELDS_OF_VIEW: tuple[str, ...] = tuple(body_plan().fields_of_view)
"""Names that `render` takes as a field of view."""
SAME_HU_PAIRS: tuple[tuple[str, str], ...] = body_plan().same_hu_pairs
"""Neighbours of the same tissue in every contrast phase."""
SAME_HU_PAIRS_UNENHANCED: tuple[tuple[str, str], ...] = body_plan().same_hu_pairs_unenhanced
"""Neighbours of the same HU in scans without contrast."""
