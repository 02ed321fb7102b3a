"""What running an imported network takes beyond running one of our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from clnet.model.body_part import BodyPartModel
from clnet.model.body_part_curve import BodyPartCurve
from clnet.model.encoder import Encoder
from clnet.model.geometry import Orientation, Spacing, plan_shape, resample
from clnet.model.inference import SlidingWindow

__all__ = ["imported_window", "scan_curve"]

OVERLAP = 0.5
BODY_PART_MM = 3.0
"""Finest grid that body parts are looked for on: an imported plan may be far finer."""


def imported_window(window: SlidingWindow, frame: Orientation, encoder: Encoder) -> SlidingWindow:
    """Windows as nnU-Net places them, in the precision that it computes in."""
    own = encoder.config.precision(encoder.device)
    precision = own if window.precision == "auto" else window.precision
    overlap = OVERLAP if window.overlap is None else window.overlap
    return replace(window, overlap=overlap, frame=frame, precision=precision)


def scan_curve(bpr: BodyPartModel, canonical: NDArray[Any], spacing: Spacing) -> BodyPartCurve:
    """Body-part scores of a scan ``(Z, Y, X)`` in HU, whatever plan its network has."""
    z, y, x = canonical.shape
    target = (
        max(spacing[0], BODY_PART_MM),
        max(spacing[1], BODY_PART_MM),
        max(spacing[2], BODY_PART_MM),
    )
    hu = resample(canonical, plan_shape((z, y, x), spacing, target))
    d, h, w = (
        size * old / new for size, old, new in zip(canonical.shape, spacing, hu.shape, strict=True)
    )
    return bpr.curve(bpr.normalise(hu), (d, h, w))
