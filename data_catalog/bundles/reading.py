"""A bundle opened: first whose it is, then what it says, and only then its voxels."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from clnet.data_catalog.bundles.archive import inflate, open_archive, read_small
from clnet.data_catalog.bundles.content import checked_content
from clnet.data_catalog.bundles.keys import fingerprint_of, is_signed_by
from clnet.data_catalog.bundles.manifest import (
    INDEX,
    SIGNATURE,
    BundledCase,
    BundleManifest,
    Signature,
    itemsize,
    member,
    signed_bytes,
)
from clnet.data_catalog.case import CaseContent
from clnet.data_catalog.manifest import Manifest, parse_name
from clnet.data_catalog.source import CaseSource, check_ids
from clnet.data_catalog.volume import check_size
from clnet.errors import AccessDenied, CaseRejected, InputError, IntegrityError

__all__ = ["BundleReader", "Signer", "open_bundle"]

MOST_INDEX_BYTES = 64 << 20
MOST_SIGNATURE_BYTES = 4096

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed.

    Attributes:
        site: in whose namespace it may import.
        public_key: 32 bytes.
    """

    site: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class BundleReader:
    """A bundle whose signature is right.

    Attributes:
        manifest: what it says of itself.
        signer: the site.
        key: fingerprint of the site's key.
    """

    manifest: BundleManifest
    signer: Signer
    key: str
    path: Path
    _archive: zipfile.ZipFile

    def file(self, index: int, path: str = "ct") -> str:
        """Where an array of a case is, for messages."""
        return f"{self.path}/{member(index, path)}"

    def content(self, index: int, max_bytes: int) -> CaseContent:
        """One case in memory, checked against the hash that was signed.

        Raises:
            CaseRejected: larger than `max_bytes` by its header, or no case at all.
            IntegrityError: its voxels are not those that were signed.
        """
        case = self.manifest.cases[index]
        file = self.file(index)
        check_size(file, case.record.shape, np.dtype(np.int16), max_bytes)
        return checked_content(case, file, lambda path: self._voxels(index, case, path))

    def _voxels(self, index: int, case: BundledCase, path: str) -> NDArray[Any]:
        dtype = np.dtype(np.int16 if itemsize(path) == 2 else np.uint8)
        try:
            return inflate(self._archive, member(index, path), case.record.shape, dtype)
        except CaseRejected:
            raise
        except InputError as error:
            raise CaseRejected(self.file(index, path), "voxels", str(error)) from None


@contextmanager
def open_bundle(path: Path, signer_of: Callable[[str], Signer]) -> Iterator[BundleReader]:
    """Open a bundle that a site signed.

    Args:
        signer_of: the site and public key for a fingerprint.

    Raises:
        InputError: it is not a bundle, or damaged.
        AccessDenied: its key is not registered (as `signer_of` says), or of a site that may
            not use the name.
        IntegrityError: it is not what was signed.
    """
    with open_archive(path) as archive:
        signed = read_small(archive, SIGNATURE, MOST_SIGNATURE_BYTES)
        signature = _parsed(Signature, path, SIGNATURE, signed)
        signer = signer_of(signature.key)
        index = read_small(archive, INDEX, MOST_INDEX_BYTES)
        if fingerprint_of(signer.public_key) != signature.key or not is_signed_by(
            signer.public_key, bytes.fromhex(signature.signature), signed_bytes(index)
        ):
            raise IntegrityError(
                f"{path}: the signature is not of {signer.site}'s key {signature.key[:16]}..., or "
                "the bundle was changed since; ask the site for a new one"
            )
        manifest = _parsed(BundleManifest, path, INDEX, index)
        _check_manifest(path, manifest, signer)
        _check_members(path, manifest, archive)
        yield BundleReader(manifest, signer, signature.key, path, archive)


def _parsed(model: type[Model], path: Path, name: str, data: bytes) -> Model:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {name}: {field}: {first['msg']}") from None


def _check_manifest(path: Path, manifest: BundleManifest, signer: Signer) -> None:
    site = parse_name(manifest.name).partition("/")[0]
    if site != signer.site:
        raise AccessDenied(
            f"{path}: {signer.site} signed it, but it is called {manifest.name}; a site gives "
            "names below its own alone"
        )
    records = tuple(case.record for case in manifest.cases)
    if Manifest.hash_of(records, manifest.terms) != manifest.sha256:
        raise IntegrityError(f"{path}: {INDEX} does not hash to the dataset that it names")
    for case in manifest.cases:
        if min(case.record.shape) < 1 or "ct" not in case.record.arrays:
            raise InputError(f"{path}: case {case.record.id!r} holds no scan")
    if not manifest.cases:
        raise InputError(f"{path}: holds no case")
    ids = [case.record.id for case in manifest.cases]
    if ids != sorted(ids) or len({i.casefold() for i in ids}) != len(ids):
        raise InputError(f"{path}: its case ids are not in order, or not unique")
    check_ids(CaseSource(case_id, path, path) for case_id in ids)


def _check_members(path: Path, manifest: BundleManifest, archive: zipfile.ZipFile) -> None:
    found = set(archive.namelist())
    expected = {INDEX, SIGNATURE, *manifest.members}
    if found != expected:
        strange = ", ".join(sorted(repr(name)[:80] for name in found ^ expected)[:3])
        raise InputError(f"{path}: entries are missing or too many: {strange}")
