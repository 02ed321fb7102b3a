"""From a site's label ids to one label map per layer, and the contract that explains them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import UNKNOWN, LabelContract, LabelEntry
from clnet.anatomy.mapping import LabelMapping, Meaning, Within
from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.overlap import MaskStack, Overlap
from clnet.errors import CaseRejected, ContractError

__all__ = ["LabelMaps", "translate_map", "translate_masks"]

MAX_ID = 65535
MAX_VALUES = UNKNOWN - 1
ROUNDING = 1e-6  # mm, as where extents are read

Extent = tuple[float, float] | tuple[()] | None

LabelMaps = tuple[dict[str, NDArray[np.uint8]], LabelContract]


def translate_map(
    ids: NDArray[Any],
    file: str,
    mapping: LabelMapping,
    spacing_z: float,
    allocate: Allocate = in_memory,
) -> LabelMaps:
    """Label maps by layer from one map of source ids.

    Every meaning of the mapping enters the contract, seen or not: what a site labels and a
    scan does not show is absent there, not unknown.

    Args:
        ids: source ids, ``(Z, Y, X)``; whole numbers of any type.
        spacing_z: slice distance in mm, in which extents are measured.
        allocate: gives room for the maps.

    Raises:
        CaseRejected: an id that is no whole number from 0 to 65535, or that the mapping
            does not explain.
    """
    _check_ids(ids, file)
    counts = np.zeros(MAX_ID + 1, dtype=np.int64)
    for plane in ids:
        counts += np.bincount(plane.astype(np.uint16).reshape(-1), minlength=MAX_ID + 1)
    meanings: dict[int, tuple[Meaning, ...]] = {}
    for source in (np.flatnonzero(counts[1:]) + 1).tolist():
        if str(source) not in mapping.meanings:
            raise CaseRejected(
                file,
                f"mapping.{source}",
                f"id {source} ({counts[source]} voxels) has no entry; "
                "say what it means, or list it as ignored",
                "label.unmapped",
            )
    for key, entry in mapping.meanings.items():
        if not key.isdecimal() or int(key) > MAX_ID:
            raise CaseRejected(
                file,
                f"mapping.{key}",
                f"{key!r} is no label id; this case has one label map",
                "label.mapping",
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
        maps[layer] = allocate(ids.shape, np.uint8)
        for z, plane in enumerate(ids):
            maps[layer][z] = table[plane.astype(np.uint16)]
    return maps, _contract(maps, values, spacing_z)


def translate_masks(
    masks: Mapping[str, NDArray[Any]],
    files: Mapping[str, str],
    mapping: LabelMapping,
    spacing_z: float,
    allocate: Allocate = in_memory,
) -> tuple[dict[str, NDArray[np.uint8]], LabelContract, tuple[Overlap, ...]]:
    """Label maps by layer from one mask per mapping key; any non-zero voxel counts.

    Only the masks that are given enter the contract: a name without a mask is unknown. Where
    two masks of a layer overlap a little, the voxels are a union of both. What a mask draws
    outside the extent that it was given, where it tells nothing, takes nothing from another.

    Args:
        masks: mapping key to mask ``(Z, Y, X)``; looked up one by one, so that they need not
            lie in memory together.
        files: the file of every key.
        allocate: gives room for the maps.

    Raises:
        CaseRejected: a mask that the mapping does not explain, or two masks of one layer
            that overlap by more than :data:`.overlap.MAX_SHARE` of the smaller one.
    """
    for key in masks:
        if key not in mapping.meanings:
            raise CaseRejected(
                files[key],
                f"mapping.{key}",
                f"mask {key!r} has no entry; say what it means, or list it as ignored",
                "label.unmapped",
            )
    values = _assign_values(m for key in masks for m in mapping.meanings[key])
    stacks = {layer: MaskStack(len(values[layer]), allocate) for layer in values}
    painted_by: dict[tuple[str, int], str] = {}
    for key, mask in masks.items():
        _check_ids(mask, files[key])
        for meaning in mapping.meanings[key]:
            value = values[meaning.layer][meaning]
            known = _known_slices(meaning.within, len(mask), spacing_z)
            stacks[meaning.layer].paint(mask, value, np.flatnonzero(known))
            painted_by.setdefault((meaning.layer, value), files[key])
    for key, mask in masks.items():
        for meaning in mapping.meanings[key]:
            if isinstance(meaning.within, tuple):
                unknown = ~_known_slices(meaning.within, len(mask), spacing_z)
                value = values[meaning.layer][meaning]
                stacks[meaning.layer].fill(mask, value, np.flatnonzero(unknown))
    maps: dict[str, NDArray[np.uint8]] = {}
    overlaps: list[Overlap] = []
    entries: list[LabelEntry] = []
    for layer, stack in stacks.items():
        named = {value: meaning for meaning, value in values[layer].items()}
        for first, second, voxels, share in stack.overlaps():
            overlap = Overlap(
                layer,
                named[first].name,
                named[second].name,
                voxels,
                share,
                painted_by[layer, second],
            )
            overlap.check()
            overlaps.append(overlap)
        extents = {
            value: _extent(meaning.within, stack.slices(value), spacing_z)
            for value, meaning in named.items()
        }
        maps[layer], shared = stack.finish(painted_by[layer, min(named)])
        entries += _entries(layer, values[layer], extents)
        entries += [
            _shared_entry(
                layer, value, [named[v] for v in sorted(both)], [extents[v] for v in both]
            )
            for value, both in shared.items()
        ]
    return maps, LabelContract(tuple(entries)), tuple(overlaps)


def _check_ids(voxels: NDArray[Any], file: str) -> None:
    whole = voxels.dtype.kind != "f" or all(
        (np.isfinite(plane) & (plane == np.rint(plane))).all() for plane in voxels
    )
    if not whole:
        raise CaseRejected(
            file,
            "voxels",
            "label ids are not whole numbers; a label map must not be resampled by interpolation",
            "label.not-whole",
        )
    low, high = voxels.min(), voxels.max()
    if low < 0 or high > MAX_ID:
        raise CaseRejected(
            file,
            "voxels",
            f"label ids from {low:g} to {high:g}; 0..65535 is known",
            "label.not-whole",
        )


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
    entries: list[LabelEntry] = []
    for layer, assigned in values.items():
        extents = {
            value: _extent(
                meaning.within,
                np.flatnonzero([(plane == value).any() for plane in maps[layer]])
                if meaning.within == "auto"
                else np.empty(0, np.intp),
                spacing_z,
            )
            for meaning, value in assigned.items()
        }
        entries += _entries(layer, assigned, extents)
    return LabelContract(tuple(entries))


def _known_slices(within: Within, count: int, spacing_z: float) -> NDArray[np.bool_]:
    """Which slices have their centre in a given extent; all of them without one."""
    if within is None or within == "auto":
        return np.ones(count, np.bool_)
    z_mm = np.arange(count) * spacing_z
    return np.asarray((z_mm >= within[0] - ROUNDING) & (z_mm <= within[1] + ROUNDING))


def _extent(within: Within, slices: NDArray[np.intp], spacing_z: float) -> Extent:
    """Where a label is known: everywhere (None), nowhere (an empty tuple), or from mm to mm."""
    if within is None:
        return None
    if within != "auto":
        return float(within[0]), float(within[1])
    if len(slices) == 0:
        return ()  # no slice was drawn on: unknown everywhere
    # a slice stands for the half step on either side of its centre
    return float((slices[0] - 0.5) * spacing_z), float((slices[-1] + 0.5) * spacing_z)


def _entries(
    layer: str, assigned: Mapping[Meaning, int], extents: Mapping[int, Extent]
) -> list[LabelEntry]:
    entries = []
    for meaning, value in assigned.items():
        within = extents[value]
        if within is not None and len(within) == 0:
            continue
        entries.append(
            LabelEntry(
                value=value, layer=layer, name=meaning.name, members=meaning.members, within=within
            )
        )
    return entries


def _shared_entry(
    layer: str, value: int, meanings: Sequence[Meaning], extents: Sequence[Extent]
) -> LabelEntry:
    """What voxels mean that several masks claim: one of these anatomies, nobody knows which."""
    members = tuple(sorted({member for meaning in meanings for member in meaning.members}))
    limits = [extent for extent in extents if extent]
    return LabelEntry(
        value=value,
        layer=layer,
        name="+".join(members),
        members=members,
        within=(max(low for low, _ in limits), min(high for _, high in limits)) if limits else None,
    )
