"""From a site's label ids to one label map per layer, and the contract that explains them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import UNKNOWN, LabelContract, LabelEntry
from clnet.anatomy.mapping import LabelMapping, Meaning
from clnet.errors import CaseRejected, ContractError

__all__ = ["LabelMaps", "translate_map", "translate_masks"]

MAX_ID = 65535
MAX_VALUES = UNKNOWN - 1

LabelMaps = tuple[dict[str, NDArray[np.uint8]], LabelContract]


def translate_map(
    ids: NDArray[Any], file: str, mapping: LabelMapping, spacing_z: float
) -> LabelMaps:
    """Label maps by layer from one map of source ids.

    Every meaning of the mapping enters the contract, seen or not: what a site labels and a
    scan does not show is absent there, not unknown.

    Args:
        ids: source ids, ``(Z, Y, X)``; whole numbers of any type.
        spacing_z: slice distance in mm, in which extents are measured.

    Raises:
        CaseRejected: an id that is no whole number from 0 to 65535, or that the mapping
            does not explain.
    """
    whole = _as_ids(ids, file)
    counts = np.zeros(MAX_ID + 1, dtype=np.int64)
    for plane in whole:
        counts += np.bincount(plane.reshape(-1), minlength=MAX_ID + 1)
    meanings: dict[int, tuple[Meaning, ...]] = {}
    for source in (np.flatnonzero(counts[1:]) + 1).tolist():
        if str(source) not in mapping.meanings:
            raise CaseRejected(
                file,
                f"mapping.{source}",
                f"id {source} ({counts[source]} voxels) has no entry; "
                "say what it means, or list it as ignored",
            )
    for key, entry in mapping.meanings.items():
        if not key.isdecimal() or int(key) > MAX_ID:
            raise CaseRejected(
                file, f"mapping.{key}", f"{key!r} is no label id; this case has one label map"
            )
        meanings[int(key)] = entry
    values = _assign_values(m for entry in meanings.values() for m in entry)
    maps: dict[str, NDArray[np.uint8]] = {}
    for layer in values:
        table = np.zeros(MAX_ID + 1, dtype=np.uint8)
        for source, entry in meanings.items():
            for meaning in entry:
                if meaning.layer == layer:
                    table[source] = values[layer][meaning]
        maps[layer] = table[whole]
    return maps, _contract(maps, values, spacing_z)


def translate_masks(
    masks: Mapping[str, NDArray[Any]],
    files: Mapping[str, str],
    mapping: LabelMapping,
    spacing_z: float,
) -> LabelMaps:
    """Label maps by layer from one mask per mapping key; any non-zero voxel counts.

    Only the masks that are given enter the contract: a name without a mask is unknown.

    Raises:
        CaseRejected: a mask that the mapping does not explain, or two masks of one layer
            that claim the same voxel.
    """
    for key in masks:
        if key not in mapping.meanings:
            raise CaseRejected(
                files[key],
                f"mapping.{key}",
                f"mask {key!r} has no entry; say what it means, or list it as ignored",
            )
    values = _assign_values(m for key in masks for m in mapping.meanings[key])
    maps: dict[str, NDArray[np.uint8]] = {}
    for key, mask in masks.items():  # one at a time: a mapping may read them only now
        if not maps:
            maps = {layer: np.zeros(mask.shape, dtype=np.uint8) for layer in values}
        inside = _as_ids(mask, files[key]) > 0
        for meaning in mapping.meanings[key]:
            grid, value = maps[meaning.layer], values[meaning.layer][meaning]
            taken = inside & (grid > 0) & (grid != value)
            if taken.any():
                raise CaseRejected(
                    files[key],
                    "overlap",
                    f"{np.count_nonzero(taken)} voxels of {meaning.name} are claimed by another "
                    f"mask of layer {meaning.layer}; anatomies of a layer exclude each other",
                )
            grid[inside] = value
    return maps, _contract(maps, values, spacing_z)


def _as_ids(voxels: NDArray[Any], file: str) -> NDArray[np.uint16]:
    if voxels.dtype.kind == "f" and not (np.isfinite(voxels) & (voxels == np.rint(voxels))).all():
        raise CaseRejected(
            file,
            "voxels",
            "label ids are not whole numbers; a label map must not be resampled by interpolation",
        )
    low, high = voxels.min(), voxels.max()
    if low < 0 or high > MAX_ID:
        raise CaseRejected(file, "voxels", f"label ids from {low:g} to {high:g}; 0..65535 is known")
    return voxels.astype(np.uint16)


def _assign_values(meanings: Iterable[Meaning]) -> dict[str, dict[Meaning, int]]:
    """Per layer a value from 1 for each meaning; equal meanings share one."""
    values: dict[str, dict[Meaning, int]] = {}
    for meaning in sorted(set(meanings), key=lambda m: (m.layer, m.name, m.members, str(m.within))):
        layer = values.setdefault(meaning.layer, {})
        layer[meaning] = len(layer) + 1
    for name, layer in values.items():
        if len(layer) > MAX_VALUES:
            raise ContractError(
                f"mapping: {len(layer)} meanings in layer {name}; {MAX_VALUES} fit in one map"
            )
    return values


def _contract(
    maps: Mapping[str, NDArray[np.uint8]],
    values: Mapping[str, Mapping[Meaning, int]],
    spacing_z: float,
) -> LabelContract:
    entries = []
    for layer, assigned in values.items():
        for meaning, value in assigned.items():
            within = meaning.within
            if within == "auto":
                slices = np.flatnonzero((maps[layer] == value).any(axis=(1, 2)))
                if len(slices) == 0:
                    continue  # no slice was drawn on: unknown everywhere
                # a slice stands for the half step on either side of its centre
                within = ((slices[0] - 0.5) * spacing_z, (slices[-1] + 0.5) * spacing_z)
            entries.append(
                LabelEntry(
                    value=value,
                    layer=layer,
                    name=meaning.name,
                    members=meaning.members,
                    within=None if within is None else (float(within[0]), float(within[1])),
                )
            )
    return LabelContract(tuple(entries))
