"""Partial labels as one class map with an ignore value, for programs that know no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import UNKNOWN, LabelEntry
from clnet.anatomy.patch import Patch
from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import InputError

__all__ = ["class_map", "layer_of"]


def layer_of(anatomies: Sequence[str]) -> str:
    """The layer that `anatomies` share.

    Raises:
        UnknownAnatomy: the vocabulary does not know one.
        InputError: there is none, they lie in several layers, or one holds another.
    """
    known = vocabulary()
    leaves = [leaf for name in anatomies for leaf in known.leaves(name)]
    layers = sorted({known[leaf].layer for leaf in leaves})
    if len(layers) != 1:
        raise InputError(
            f"anatomies {', '.join(anatomies) or '(none)'} lie in the layers "
            f"{', '.join(layers) or '(none)'}, which may overlap; ask for those of one layer"
        )
    if len(set(leaves)) < len(leaves):
        raise InputError(f"anatomies {', '.join(anatomies)} overlap: one holds another")
    return layers[0]


def class_map(patch: Patch, anatomies: Sequence[str]) -> NDArray[np.uint8]:
    """What the labels of a patch say of `anatomies`, all of one layer.

    Returns:
        uint8, the patch's shape: 0 where none of them is, ``i`` where the i-th of them is
        (counted from 1), 255 where the labels do not tell. An unlabelled voxel is background
        only if the labels know all of `anatomies` there.

    Raises:
        InputError: as :func:`layer_of`.
    """
    layer = layer_of(anatomies)
    wanted = [frozenset(vocabulary().leaves(name)) for name in anatomies]
    every = frozenset().union(*wanted)
    codes = patch.labels.get(layer)
    if codes is None:
        return np.full(patch.image.shape, UNKNOWN, np.uint8)
    entries = patch.contract.for_layer(layer)
    table = np.full(256, UNKNOWN, np.uint8)
    table[0] = 0
    for entry in entries:
        table[entry.value] = _class_of(frozenset(entry.members), wanted, every)
    classes = table[codes]
    told = np.ones(len(patch.z_mm), np.bool_)
    for leaf in every:
        told &= _told(leaf, entries, patch.z_mm)
    along = [1, 1, 1]
    along[patch.z_axis] = -1
    classes[(codes == 0) & ~told.reshape(along)] = UNKNOWN
    return classes


def _class_of(
    members: frozenset[str], wanted: Sequence[frozenset[str]], every: frozenset[str]
) -> int:
    for index, leaves in enumerate(wanted, start=1):
        if members <= leaves:
            return index
    return UNKNOWN if members & every else 0


def _told(leaf: str, entries: Sequence[LabelEntry], z_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """On which slices the absence of a label says that `leaf` is not there."""
    told = np.zeros(len(z_mm), np.bool_)
    for entry in entries:
        if leaf in entry.members:
            low, high = entry.within or (-np.inf, np.inf)
            told |= (z_mm >= low) & (z_mm <= high)
    return told
