"""What a bundle says of itself: the dataset's manifest, and each case's geometry and contract.

A bundle is a ZIP archive without compression of its own::

    bundle.json              this description
    bundle.sig               fingerprint of the site's key, and its signature of bundle.json
    cases/000000/ct          voxels, deflated; their hashes are in bundle.json
    cases/000000/organ       one label map a layer
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from clnet.data_catalog.case import Case
from clnet.data_catalog.manifest import CaseRecord
from clnet.data_catalog.terms import Terms

__all__ = [
    "INDEX",
    "SIGNATURE",
    "BundleManifest",
    "BundledCase",
    "Signature",
    "describe",
    "member",
    "signed_bytes",
]

INDEX, SIGNATURE = "bundle.json", "bundle.sig"
CONTEXT = b"clnet dataset bundle 1\n"
"""Before what is signed, so that a signature is worth nothing for anything else."""

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Row = tuple[Number, Number, Number, Number]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Signature(_Strict):
    """``bundle.sig``.

    Attributes:
        key: fingerprint of the public key.
        signature: 64 bytes in hex.
    """

    key: Hex
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")


class BundledCase(_Strict):
    """One case: its manifest line, and all but its voxels."""

    record: CaseRecord
    affine: tuple[Row, Row, Row, Row]
    axcodes: str = Field(pattern=r"^[LR][AP][SI]$|^[LR][SI][AP]$|^[AP][LR][SI]$|^[AP][SI][LR]$|"
                         r"^[SI][LR][AP]$|^[SI][AP][LR]$")  # fmt: skip
    contract: tuple[dict[str, Any], ...]


class BundleManifest(_Strict):
    """``bundle.json``.

    Attributes:
        sha256: of the dataset version; what is imported must hash to it.
    """

    format: Literal["clnet-dataset-bundle/1"] = "clnet-dataset-bundle/1"
    name: str
    version: int = Field(ge=1, lt=2**31)
    sha256: Hex
    created: datetime
    terms: Terms
    cases: tuple[BundledCase, ...]

    @property
    def ref(self) -> str:
        """``site/name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def members(self) -> dict[str, int]:
        """Every file of voxels, and the bytes that it unpacks to."""
        return {
            member(index, path): math.prod(case.record.shape) * itemsize(path)
            for index, case in enumerate(self.cases)
            for path in case.record.arrays
        }


def describe(case: Case) -> BundledCase:
    """What a bundle says of a stored case."""
    return BundledCase(
        record=case.record,
        affine=tuple(tuple(float(v) for v in row) for row in case.affine),
        axcodes=case.axcodes,
        contract=tuple(case.contract.to_json()),
    )


def member(index: int, path: str) -> str:
    """Name in the archive of an array (``ct``, ``labels/organ``) of a case."""
    return f"cases/{index:06d}/{path.rpartition('/')[2]}"


def itemsize(path: str) -> int:
    """Bytes a voxel: int16 for the scan, uint8 for label maps."""
    return np.dtype(np.int16 if path == "ct" else np.uint8).itemsize


def signed_bytes(index: bytes) -> bytes:
    """What a signature covers, from the bytes of ``bundle.json``."""
    return CONTEXT + index
