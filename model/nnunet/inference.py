"""What running an imported network takes beyond running one of our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.model.body_part import BodyPartModel
from clnet.model.body_part_curve import BodyPartCurve
from clnet.model.encoder import Encoder
from clnet.model.geometry import Orientation, Spacing, plan_shape, resample_into
from clnet.model.inference import SlidingWindow
from clnet.model.nnunet.plan import NnunetPlan
from clnet.model.scratch import Room, slabs

__all__ = ["imported_window", "scan_curve"]

OVERLAP = 0.5
BODY_PART_MM = 3.0
"""Finest grid that body parts are looked for on: an imported plan may be far finer."""


def imported_window(
    window: SlidingWindow, frame: Orientation, plan: NnunetPlan, encoder: Encoder
) -> SlidingWindow:
    """Windows as nnU-Net places them, in the precision that it computes in.

    As there, of the axes to mirror only those stay that the network was trained on mirrored.
    """
    own = encoder.config.precision(encoder.device)
    precision = own if window.precision == "auto" else window.precision
    overlap = OVERLAP if window.overlap is None else window.overlap
    mirror = tuple(axis for axis in window.mirror if frame.axes[axis] in plan.mirror)
    return replace(window, overlap=overlap, frame=frame, precision=precision, mirror=mirror)


def scan_curve(
    bpr: BodyPartModel,
    canonical: NDArray[Any],
    spacing: Spacing,
    room: Room = np.zeros,
    check: Callable[[], None] | None = None,
) -> BodyPartCurve:
    """Body-part scores of a scan ``(Z, Y, X)`` in HU, whatever plan its network has.

    Args:
        bpr: finds body parts.
        canonical: the scan.
        spacing: of its axes, mm.
        room: where its image on a coarser grid lies.
        check: called often; what it raises ends the work.
    """
    z, y, x = canonical.shape
    target = (
        max(spacing[0], BODY_PART_MM),
        max(spacing[1], BODY_PART_MM),
        max(spacing[2], BODY_PART_MM),
    )
    image = room(plan_shape((z, y, x), spacing, target), np.float32)
    resample_into(canonical, image, check)
    for part in slabs(len(image), image[0].size, check):
        image[part] = bpr.normalise(image[part])
    d, h, w = (
        size * old / new
        for size, old, new in zip(canonical.shape, spacing, image.shape, strict=True)
    )
    return bpr.curve(image, (d, h, w), check)
