"""What a dataset version is: its cases by content hash, its terms, and the hash of both."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from clnet.data_catalog.terms import Terms
from clnet.errors import InputError

__all__ = [
    "CaseRecord",
    "Manifest",
    "canonical_json",
    "content_sha256",
    "parse_name",
    "parse_ref",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*/[a-z0-9][a-z0-9_-]*")


class CaseRecord(BaseModel):
    """One case in a manifest.

    Attributes:
        id: unique within the dataset, as the site named it.
        sha256: hash of the geometry, the label contract and the hash of every array.
        arrays: hash of each array's voxels, by its path in the case's zarr group.
        shape: voxels, ``(z, y, x)``.
        spacing: mm, ``(z, y, x)``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    sha256: str
    arrays: dict[str, str]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]


class Manifest(BaseModel):
    """The immutable description of one dataset version, stored as ``manifest.json``.

    Attributes:
        sha256: hash of cases and terms; equal content has an equal hash, wherever it lies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: str
    version: int
    cases: tuple[CaseRecord, ...]
    terms: Terms
    created: datetime
    sha256: str

    @classmethod
    def of(cls, name: str, version: int, cases: Iterable[CaseRecord], terms: Terms) -> Manifest:
        """The manifest of a version that is made now."""
        ordered = tuple(sorted(cases, key=lambda case: case.id))
        return cls(
            name=name,
            version=version,
            cases=ordered,
            terms=terms,
            created=datetime.now(UTC),
            sha256=cls.hash_of(ordered, terms),
        )

    @staticmethod
    def hash_of(cases: tuple[CaseRecord, ...], terms: Terms) -> str:
        """The dataset's hash: ordered case ids and hashes, and the terms."""
        return content_sha256(
            {
                "cases": [[case.id, case.sha256] for case in cases],
                "terms": terms.model_dump(mode="json"),
            }
        )


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_sha256(value: Any) -> str:
    """SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def is_name(name: str) -> bool:
    """Whether `name` is a valid ``site/dataset``."""
    return _NAME.fullmatch(name) is not None


def parse_name(name: str) -> str:
    """`name` if it is a valid ``site/dataset``.

    Raises:
        InputError: anything else, so a name can never leave the catalog's folder.
    """
    if not is_name(name):
        raise InputError(
            f"dataset name {name!r}: write site/name, each of lower-case letters, digits, "
            "'-' and '_', starting with a letter or digit"
        )
    return name


def parse_ref(ref: str) -> tuple[str, int | None]:
    """Split ``site/name@3`` into name and version; without ``@`` the version is None."""
    name, at, version = ref.partition("@")
    if at and not re.fullmatch(r"[1-9][0-9]*", version):
        raise InputError(f"dataset {ref!r}: the version after '@' is a number from 1")
    return parse_name(name), int(version) if at else None
