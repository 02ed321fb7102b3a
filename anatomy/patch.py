"""One labelled patch of a CT, on its way from a store to a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import LabelContract

__all__ = ["Patch"]


@dataclass(frozen=True, slots=True)
class Patch:
    """A block of a case resampled to a plan, with what is known of its voxels.

    Attributes:
        image: normalised intensity, float32, shape ``(Z, Y, X)``.
        labels: layer to label map, uint8, shape ``(Z, Y, X)``; values are the contract's.
        contract: what the values mean, and so what is unknown.
        z_mm: position of each slice centre in mm from the case's slice 0, shape ``(Z,)``.
        case: id of the case, for messages and lineage.
        z_axis: the axis that `z_mm` runs along; not 0 only where an imported network has its
            axes in another order, to which image and labels then keep.
    """

    image: NDArray[np.float32]
    labels: dict[str, NDArray[np.uint8]]
    contract: LabelContract
    z_mm: NDArray[np.float64]
    case: str
    z_axis: int = 0
