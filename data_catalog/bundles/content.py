"""A bundled case as it would be stored, once everything that it claims is known to hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy import LabelContract, vocabulary
from clnet.anatomy.contract import UNKNOWN
from clnet.data_catalog.bundles.manifest import BundledCase
from clnet.data_catalog.canonical import to_canonical
from clnet.data_catalog.case import CaseContent, describe_case
from clnet.data_catalog.hounsfield import as_hounsfield
from clnet.data_catalog.volume import Volume
from clnet.errors import CaseRejected, ContractError, IntegrityError

__all__ = ["checked_content"]

SPACING_TOLERANCE = 1e-6
"""Relative difference between the declared voxel size and the affine's."""


def checked_content(
    case: BundledCase, file: str, read: Callable[[str], NDArray[Any]]
) -> CaseContent:
    """The case, whose voxels `read` gives by path.

    Raises:
        CaseRejected: no CT in HU, or geometry, contract or label values that no contribution
            can lead to.
        IntegrityError: not the content that the manifest line hashes.
    """
    record = case.record
    contract = _contract(case, file)
    expected = {"ct", *(f"labels/{layer}" for layer in contract.layers)}
    if record.arrays.keys() != expected:
        raise CaseRejected(file, "arrays", f"{sorted(record.arrays)}; the contract says otherwise")
    ct = as_hounsfield(read("ct"), file)
    affine = np.array(case.affine, dtype=np.float64)
    grid = to_canonical(Volume(ct.transpose(2, 1, 0), affine, file))
    if grid.axcodes != "LPS" or not np.allclose(
        grid.spacing, record.spacing, rtol=SPACING_TOLERANCE, atol=0.0
    ):
        raise CaseRejected(file, "affine", "not the canonical grid of that voxel size")
    labels = {layer: read(f"labels/{layer}") for layer in contract.layers}
    for layer, voxels in labels.items():
        allowed = {0, UNKNOWN, *(entry.value for entry in contract.for_layer(layer))}
        strange = set(np.flatnonzero(np.bincount(voxels.reshape(-1)))) - allowed
        if strange:
            raise CaseRejected(
                file, f"labels.{layer}", f"value {min(strange)} has no meaning in the contract"
            )
    content = CaseContent(ct, labels, contract, record.spacing, affine, case.axcodes)
    if describe_case(record.id, content) != record:
        raise IntegrityError(f"{file}: case {record.id} is not the one that was signed")
    return content


def _contract(case: BundledCase, file: str) -> LabelContract:
    try:
        contract = LabelContract.from_json(case.contract)
    except (KeyError, TypeError, ValueError, IndexError, ContractError) as error:
        raise CaseRejected(file, "contract", f"malformed ({error})") from None
    if not contract.entries:
        raise CaseRejected(file, "contract", "names no anatomy")
    known = vocabulary()
    for entry in contract.entries:
        members = entry.members
        if any(m not in known or known.leaves(m) != (m,) for m in members):
            raise CaseRejected(file, "contract", f"{', '.join(members)[:200]}: no known anatomies")
        if members != tuple(sorted(set(members))) or {known[m].layer for m in members} != {
            entry.layer
        }:
            raise CaseRejected(file, "contract", f"{entry.name[:200]} is not of one layer")
        if entry.name not in {known.composite_of(members), "+".join(members)}:
            raise CaseRejected(file, "contract", f"{entry.name[:200]!r} is not what it is called")
        if entry.within is not None and not all(math.isfinite(v) for v in entry.within):
            raise CaseRejected(file, "contract", f"{entry.name}: its extent is no number")
    if contract.to_json() != list(case.contract):
        raise CaseRejected(file, "contract", "not in the form that is stored")
    return contract
