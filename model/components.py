"""Clean-up of label maps by connected components."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clnet.anatomy.vocabulary import vocabulary
from clnet.model.scratch import Scratch

__all__ = ["keep_largest"]

SEPARATE = frozenset({"bone", "muscle"})
"""Layers whose leaves need not touch each other where they lie on one side."""


def keep_largest(
    labels: Mapping[str, NDArray[Any]],
    names: Mapping[str, Mapping[int, str]],
    leaves: Collection[str],
    scratch: Scratch,
) -> None:
    """Clear small 26-connected parts of labels that stand for `leaves` only, in place.

    The largest part stays; of a label that unites several anatomies (a kidney taught without its
    sides) as many as it should have, see :func:`_bodies`.

    Args:
        labels: label map per layer; they may lie in files.
        names: per layer, label value to anatomy.
        leaves: anatomies to clean up.
        scratch: where the parts are numbered.
    """
    members, wanted = vocabulary().members, frozenset(leaves)
    for layer, values in names.items():
        chosen = {value: label for value, label in values.items() if members(label) <= wanted}
        boxes = ndimage.find_objects(labels[layer]) if chosen else []
        for value, label in chosen.items():
            box = boxes[value - 1] if value <= len(boxes) else None
            if box is not None:
                _keep_largest(labels[layer][box], value, _bodies(label), scratch)


def _bodies(label: str) -> int:
    """How many connected parts a label may have.

    One per side of the body for most composites. Bones and muscles are bodies of their own, as
    are anatomies that have no name together: one each, or 24 ribs would end as two.
    """
    known = vocabulary()
    members = known.members(label)
    if label not in known or known[label].layer in SEPARATE:
        return len(members)
    return len({known[member].side for member in members})


def _keep_largest(view: NDArray[Any], value: int, most: int, scratch: Scratch) -> None:
    mask = scratch.zeros(view.shape, np.uint8)
    for plane, source in zip(mask, view, strict=True):
        plane[...] = source == value
    with tempfile.TemporaryFile(dir=scratch.folder) as file:
        parts, count = cc3d.connected_components(
            mask, connectivity=26, return_N=True, binary_image=True, out_file=file
        )
        scratch.bytes += parts.nbytes
        if count <= most:
            return
        sizes = np.zeros(count + 1, np.int64)
        for plane in parts:
            sizes += np.bincount(plane.ravel(), minlength=count + 1)
        cleared = np.ones(count + 1, bool)
        cleared[0] = False
        cleared[np.argsort(-sizes[1:], kind="stable")[:most] + 1] = False
        for plane, part in zip(view, parts, strict=True):
            plane[cleared[part]] = 0
