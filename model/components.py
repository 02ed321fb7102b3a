"""Clean-up of label maps by connected components."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clnet.model.scratch import Scratch

__all__ = ["keep_largest"]


def keep_largest(
    labels: Mapping[str, NDArray[Any]],
    names: Mapping[str, Mapping[int, str]],
    anatomies: Collection[str],
    scratch: Scratch,
) -> None:
    """Clear all but the largest 26-connected part of each of `anatomies`, in place.

    Args:
        labels: label map per layer; they may lie in files.
        names: per layer, label value to anatomy.
        anatomies: to clean up.
        scratch: where the parts are numbered.
    """
    for layer, values in names.items():
        chosen = [value for value, anatomy in values.items() if anatomy in anatomies]
        boxes = ndimage.find_objects(labels[layer]) if chosen else []
        for value in chosen:
            box = boxes[value - 1] if value <= len(boxes) else None
            if box is not None:
                _keep_largest(labels[layer][box], value, scratch)


def _keep_largest(view: NDArray[Any], value: int, scratch: Scratch) -> None:
    mask = scratch.zeros(view.shape, np.uint8)
    for plane, source in zip(mask, view, strict=True):
        plane[...] = source == value
    with tempfile.TemporaryFile(dir=scratch.folder) as file:
        parts, count = cc3d.connected_components(
            mask, connectivity=26, return_N=True, binary_image=True, out_file=file
        )
        scratch.bytes += parts.nbytes
        if count < 2:
            return
        sizes = np.zeros(count + 1, np.int64)
        for plane in parts:
            sizes += np.bincount(plane.ravel(), minlength=count + 1)
        largest = int(sizes[1:].argmax()) + 1
        for plane, part in zip(view, parts, strict=True):
            plane[(part != 0) & (part != largest)] = 0
