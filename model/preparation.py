"""A scan made ready for a network: on the plan's grid, with the way back to its own.

The one place that knows how a plan turns a scan; what follows takes any :class:`Prepared`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from clnet.errors import InputError
from clnet.model.body_part import BodyPartModel
from clnet.model.body_part_curve import BodyPartCurve
from clnet.model.geometry import (
    Orientation,
    Shape,
    Spacing,
    linear_matrix,
    plan_shape,
    resample_into,
    to_canonical,
)
from clnet.model.nnunet.inference import scan_curve
from clnet.model.nnunet.plan import NnunetPlan
from clnet.model.nnunet.preprocessing import prepare as prepare_nnunet
from clnet.model.plan import Plan
from clnet.model.scratch import Scratch, slabs
from clnet.model.watch import Watch

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scan that a network can be run on.

    Attributes:
        ct: HU on the canonical grid, a view of what was given.
        spacing: of the canonical grid (z, y, x), mm.
        orientation: the way from the canonical grid to the scan's own.
        image: what the network reads, normalised float32 ``(Z, Y, X)`` on the plan's grid.
        back: linear interpolation from the plan's grid to the canonical one, a sparse matrix
            ``(canonical, plan)`` per axis. Empty rows lie outside the plan's grid.
        curve: scan-wide body-part scores, or None without a body-part model.
        frame: how an imported network's axes lie to the canonical ones, or None.
    """

    ct: NDArray[Any]
    spacing: Spacing
    orientation: Orientation
    image: NDArray[np.float32]
    back: tuple[csr_array, csr_array, csr_array]
    curve: BodyPartCurve | None
    frame: Orientation | None = None

    @property
    def shape(self) -> Shape:
        """Voxels of the canonical grid."""
        z, y, x = self.ct.shape
        return z, y, x

    @property
    def plan_shape(self) -> Shape:
        """Voxels of the plan's grid."""
        z, y, x = self.image.shape
        return z, y, x


def prepare(
    ct: NDArray[Any],
    affine: NDArray[Any],
    plan: Plan,
    bpr: BodyPartModel | None,
    scratch: Scratch,
    watch: Watch,
) -> Prepared:
    """Orient, resample and normalise a CT, and find its body parts, slab by slab.

    Args:
        ct: HU, in nibabel's axis order, any orientation.
        affine: 4x4, voxel indices to RAS+ mm.
        plan: target grid and intensities.
        bpr: finds body parts.
        scratch: where the image lies.
        watch: asked whether to go on.

    Raises:
        InputError: the image is not a volume of finite HU.
    """
    canonical, spacing, orientation = to_canonical(ct, affine)
    if isinstance(plan, NnunetPlan):
        own = prepare_nnunet(canonical, spacing, orientation, plan, scratch, watch.check)
        curve = None
        if bpr is not None:
            curve = scan_curve(bpr, canonical, spacing, scratch.zeros, watch.check)
        watch.check()
        return Prepared(canonical, spacing, orientation, own.canonical, own.back, curve, own.frame)
    z, y, x = canonical.shape
    shape = plan_shape((z, y, x), spacing, plan.spacing)
    image = scratch.zeros(shape, np.float32)
    if not resample_into(canonical, image, watch.check):
        raise InputError("image: holds NaN or infinite voxels; repair or replace them first")
    d, h, w = (
        size * old / new for size, old, new in zip(canonical.shape, spacing, shape, strict=True)
    )
    curve = None
    plane = shape[1] * shape[2]
    if bpr is not None:
        seen = scratch.zeros(shape, np.float32)
        for slab in slabs(shape[0], plane, watch.check):
            seen[slab] = bpr.normalise(image[slab])
        curve = bpr.curve(seen, (d, h, w), watch.check)
    for slab in slabs(shape[0], plane, watch.check):
        image[slab] = plan.normalise(image[slab])
    watch.check()
    back = tuple(linear_matrix(p, c) for p, c in zip(shape, canonical.shape, strict=True))
    return Prepared(canonical, spacing, orientation, image, (back[0], back[1], back[2]), curve)
