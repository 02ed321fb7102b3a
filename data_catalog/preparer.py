"""What prepares a case for a plan that is not one of our own: given from outside, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["PreparedScan", "Preparer", "own_order"]


class PreparedScan(Protocol):
    """A scan on a plan's grid, in the plan's own axis order."""

    @property
    def image(self) -> NDArray[np.float32]:
        """Normalised intensities."""

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """What was kept of the canonical scan, per axis (z, y, x)."""

    @property
    def axes(self) -> tuple[int, int, int]:
        """For z, y and x, the axis of the image."""

    @property
    def flips(self) -> tuple[bool, bool, bool]:
        """For z, y and x, whether the image's axis runs the other way."""


class Preparer(Protocol):
    """Prepares scans; a function of a module, so that plan stores can be pickled."""

    def __call__(
        self,
        ct: NDArray[Any],
        spacing: tuple[float, float, float],
        axcodes: str,
        plan: Mapping[str, Any],
    ) -> PreparedScan:
        """Prepare HU ``(Z, Y, X)`` in LPS, whose file had its axes as `axcodes` says."""


def own_order(labels: NDArray[np.uint8], prepared: PreparedScan) -> NDArray[np.uint8]:
    """Canonical labels ``(Z, Y, X)``, cropped and in the axis order of the prepared image."""
    kept = labels[prepared.box]
    turned = kept[tuple(slice(None, None, -1 if flip else 1) for flip in prepared.flips)]
    return np.ascontiguousarray(turned.transpose([prepared.axes.index(n) for n in range(3)]))
