"""OME-Zarr metadata of a case, so that viewers open it and its labels where they lie.

After NGFF 0.5, https://ngff.openmicroscopy.org/0.5/: the case is an image of one resolution, each
layer a label image under ``labels/``. The format knows scales and translations only, so the whole
affine stays in the case's own attributes beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import UNKNOWN, LabelContract, LabelEntry
from clnet.anatomy.vocabulary import vocabulary

__all__ = ["LEVEL", "image_metadata", "label_metadata", "labels_metadata"]

VERSION = "0.5"
LEVEL = "0"
"""Path of the only resolution of a label image, within it."""

NO_COLOUR = "#808080"


def image_metadata(
    name: str, path: str, spacing: Sequence[float], affine: NDArray[np.float64]
) -> dict[str, Any]:
    """Attributes of an image group whose voxels lie at `path`.

    Args:
        name: of the image.
        path: of the array within the group.
        spacing: mm, ``(z, y, x)``.
        affine: ``(x, y, z, 1)`` indices in LPS order to RAS+ mm. Only its origin is told, in
            LPS+ mm, the frame in which the axes of an unrotated case grow.
    """
    right, anterior, superior = (float(mm) for mm in affine[:3, 3])
    transformations = [
        {"type": "scale", "scale": [float(mm) for mm in spacing]},
        {"type": "translation", "translation": [superior, -anterior, -right]},
    ]
    axes = [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "zyx"]
    datasets = [{"path": path, "coordinateTransformations": transformations}]
    return {
        "version": VERSION,
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
    }


def labels_metadata(contract: LabelContract) -> dict[str, Any]:
    """Attributes of the group ``labels``: what lies in it."""
    return {"version": VERSION, "labels": list(contract.layers)}


def label_metadata(
    layer: str,
    contract: LabelContract,
    spacing: Sequence[float],
    affine: NDArray[np.float64],
) -> dict[str, Any]:
    """Attributes of the group of one label image, with names and colours of its values."""
    entries = contract.for_layer(layer)
    colours = [{"label-value": e.value, "rgba": _rgba(_colour(e), 255)} for e in entries]
    properties = [{"label-value": e.value, "anatomy": e.name} for e in entries]
    return image_metadata(layer, LEVEL, spacing, affine) | {
        "image-label": {
            "colors": [*colours, {"label-value": UNKNOWN, "rgba": _rgba(NO_COLOUR, 64)}],
            "properties": [*properties, {"label-value": UNKNOWN, "anatomy": "unknown"}],
            "source": {"image": "../../"},
        }
    }


def _colour(entry: LabelEntry) -> str:
    known = vocabulary()
    return known[entry.name].colour if entry.name in known else NO_COLOUR


def _rgba(colour: str, opacity: int) -> list[int]:
    return [*bytes.fromhex(colour.removeprefix("#")), opacity]
