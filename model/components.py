"""Clean-up of label maps by connected components."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    check: Callable[[], None] = lambda: None,
) -> None:
    """Clear small 26-connected parts of labels that stand for `leaves` only, in place.

    The largest part stays; of a label that unites several anatomies (a kidney taught without its
    sides) as many as it should have, see :func:`_bodies`. What finer labels of the layer took of
    it counts as its own, so that no anatomy that is added to a release tears it apart.

    Args:
        labels: label map per layer; they may lie in files.
        names: per layer, label value to anatomy.
        leaves: anatomies to clean up.
        scratch: where the parts are numbered.
        check: called before each label; what it raises ends the work.
    """
    known, wanted = vocabulary(), frozenset(leaves)
    for layer, values in names.items():
        chosen = {
            value: [v for v, other in values.items() if known.lies_in(other, label)]
            for value, label in values.items()
            if known.members(label) <= wanted
        }
        boxes = ndimage.find_objects(labels[layer]) if chosen else []
        # the whole before what lies within it, which by then would have lost its own parts
        for value, family in sorted(chosen.items(), key=lambda item: -len(item[1])):
            check()
            if value <= len(boxes) and boxes[value - 1] is not None:
                box = _hull([boxes[v - 1] for v in family if v <= len(boxes)])
                _keep_largest(labels[layer][box], value, family, _bodies(values[value]), scratch)


def _hull(boxes: Iterable[tuple[slice, ...] | None]) -> tuple[slice, ...]:
    """The box around `boxes`, of labels that are there."""
    axes = zip(*(box for box in boxes if box is not None), strict=True)
    return tuple(
        slice(min(part.start for part in parts), max(part.stop for part in parts)) for parts in axes
    )


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


def _keep_largest(
    view: NDArray[Any], value: int, family: Sequence[int], most: int, scratch: Scratch
) -> None:
    """Clear what is labelled `value` in all but the `most` largest parts of `family`."""
    mask = scratch.zeros(view.shape, np.uint8)
    for plane, source in zip(mask, view, strict=True):
        plane[...] = np.isin(source, family)
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
            plane[cleared[part] & (plane == value)] = 0
