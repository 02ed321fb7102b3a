"""Clean-up of label maps by connected components."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["keep_largest"]


def keep_largest(
    labels: Mapping[str, NDArray[Any]],
    names: Mapping[str, Mapping[int, str]],
    anatomies: Collection[str],
) -> None:
    """Clear all but the largest 26-connected part of each of `anatomies`, in place."""
    for layer, values in names.items():
        chosen = [value for value, anatomy in values.items() if anatomy in anatomies]
        boxes = ndimage.find_objects(labels[layer]) if chosen else []
        for value in chosen:
            box = boxes[value - 1] if value <= len(boxes) else None
            if box is None:
                continue
            view = labels[layer][box]
            mask = view == value
            parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
            if count > 1:
                largest = np.bincount(parts.ravel())[1:].argmax() + 1
                view[mask & (parts != largest)] = 0
