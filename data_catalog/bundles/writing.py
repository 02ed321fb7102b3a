"""A dataset version as a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from clnet.data_catalog.bundles.archive import add, deflate, new_archive
from clnet.data_catalog.bundles.keys import fingerprint_of
from clnet.data_catalog.bundles.manifest import (
    INDEX,
    SIGNATURE,
    BundleManifest,
    Signature,
    describe,
    member,
    signed_bytes,
)
from clnet.errors import NotFound
from clnet.storage import new_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from clnet.data_catalog.case import Case
    from clnet.data_catalog.dataset import Dataset

__all__ = ["write_bundle"]


def write_bundle(
    dataset: Dataset,
    path: Path,
    key: Ed25519PrivateKey,
    progress: Callable[[float, str], None] | None = None,
) -> str:
    """Write a version with all its voxels as one signed archive; gives the key's fingerprint.

    Raises:
        AlreadyExists: the file is there.
        NotFound: the version's voxels were erased.
        IntegrityError: a stored voxel is not what was contributed.
    """
    if dataset.erased:
        raise NotFound(f"{dataset.ref}: was withdrawn, and its voxels were erased")
    manifest = BundleManifest(
        name=dataset.name,
        version=dataset.version,
        sha256=dataset.sha256,
        created=datetime.now(UTC),
        terms=dataset.manifest.terms,
        cases=tuple(describe(case) for case in dataset),
    )
    index = (manifest.model_dump_json(indent=1) + "\n").encode()
    fingerprint = fingerprint_of(key.public_key().public_bytes_raw())
    signed = Signature(key=fingerprint, signature=key.sign(signed_bytes(index)).hex())
    with new_file(path) as temporary, new_archive(temporary) as archive:
        add(archive, INDEX, iter([index]))
        add(archive, SIGNATURE, iter([signed.model_dump_json().encode()]))
        for number, case in enumerate(dataset):
            case.verify()
            for name, voxels in _arrays(case):
                add(archive, member(number, name), deflate(voxels))
            if progress is not None:
                progress((number + 1) / len(dataset), case.id)
    return fingerprint


def _arrays(case: Case) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "ct", case.ct()
    for layer in case.layers:
        yield f"labels/{layer}", case.labels(layer)
