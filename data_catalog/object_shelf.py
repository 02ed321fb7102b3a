"""Versions in an object store: content-addressed cases first, the manifest last."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from clnet.data_catalog.admin import dump_duplicates, parse_duplicates
from clnet.data_catalog.case import Case
from clnet.data_catalog.case_cache import CaseCache
from clnet.data_catalog.dataset import (
    CHECKSUM,
    ERASED,
    MANIFEST,
    VALIDATION,
    Dataset,
    read_dataset,
    write_labels,
    write_manifest,
    write_validation,
)
from clnet.data_catalog.eviction import size_of
from clnet.data_catalog.manifest import CaseRecord, is_name
from clnet.data_catalog.quota import SIZES, write_sizes
from clnet.data_catalog.shelf import NewVersion
from clnet.data_catalog.staging import INDEX, Kept, write_index
from clnet.data_catalog.teaching import LABELS
from clnet.data_catalog.validation import CrossSiteDuplicate
from clnet.errors import AlreadyExists, IntegrityError, NotFound
from clnet.storage import Objects, atomic_directory, publish, reserved, scratch_directory

__all__ = ["ObjectShelf"]

VERSIONS, CASES, DUPLICATES, LOCKS = "versions", "cases", "admin/duplicates", "locks"
ROOT = "zarr.json"
"""Stored as the last object of a case: where it is, all of the case is."""

TOLD = (CHECKSUM, VALIDATION, LABELS, INDEX, SIZES)
"""What is known of a version beside its manifest."""

_MARK = re.compile(rf"{VERSIONS}/(?P<name>[^/]+/[^/]+)/(?P<version>[1-9]\d*)/(?P<file>[^/]+)")
QUESTIONS_AT_ONCE = 16


class ObjectShelf:
    """A catalog under a prefix of an object store, used by several machines at once.

    ``versions/<site>/<name>/<version>/`` holds a version's manifest, which is stored last and
    whose presence is the version; ``cases/<ab>/<sha256>.zarr/`` its cases, each stored once
    however many versions hold it. A contribution that dies leaves objects that nothing refers
    to, which the next one uses and an erasure sweeps up.

    Args:
        url: ``s3://bucket/prefix``.
        folder: of this machine, for what is known of the versions and fetched of their cases.
        max_bytes: what fetched cases may take; no limit by default.
    """

    def __init__(self, url: str, folder: Path, max_bytes: int | None = None) -> None:
        self.folder = folder
        self._objects = Objects(url)
        self._cache = CaseCache(folder / ".fetched", self._fetch, max_bytes)

    def index(self) -> Mapping[str, Sequence[int]]:
        """Versions of every dataset, both sorted."""
        return self._index(VERSIONS)

    def versions(self, name: str) -> Sequence[int]:
        """Versions of one dataset, sorted; none where there is no such dataset."""
        return self._index(f"{VERSIONS}/{name}").get(name, ())

    def open(self, name: str, version: int) -> Dataset:
        """One version, checked against its hash; see :class:`.Shelf`."""
        home, key = self.folder / name / str(version), _version(name, version)
        if not home.exists():
            if not self._objects.exists(f"{key}/{MANIFEST}"):
                raise NotFound(f"dataset {name}@{version}: not in this catalog")
            with suppress(AlreadyExists), atomic_directory(home) as scratch:
                for file in (MANIFEST, *TOLD):
                    data = self._objects.read(f"{key}/{file}")
                    if data is not None:
                        (scratch / file).write_bytes(data)
        dataset = read_dataset(home, name, version, self._cache.open)
        if not dataset.erased and self._objects.exists(f"{key}/{ERASED}"):
            self._erase_here(dataset)
        return dataset

    def publish(self, new: NewVersion) -> Dataset:
        """Make a version visible, by storing its manifest."""
        manifest = new.manifest
        key, folder = _version(manifest.name, manifest.version), self.folder / manifest.name
        with scratch_directory(folder) as scratch:
            write_index(new.kept, scratch)
            write_validation(scratch, new.report)
            write_sizes(scratch, {kept.record.sha256: size_of(kept.voxels) for kept in new.kept})
            cases = (Case(kept.record, kept.voxels) for kept in new.kept)
            write_labels(scratch, manifest, cases)
            write_manifest(scratch, manifest)
            new.check(scratch)
            for done, kept in enumerate(new.kept, start=1):
                self._store(kept)
                if new.progress is not None:
                    new.progress(done / len(new.kept), f"{kept.record.id}: stored")
            with reserved(self._objects, LOCKS):
                taken = AlreadyExists(f"{manifest.name}@{manifest.version}: exists already")
                if self._objects.exists(f"{key}/{MANIFEST}"):
                    raise taken
                # an erasure may have taken what was there, or was on its way, a moment ago
                for kept in self._missing(new.kept):
                    self._upload(kept)
                for file in TOLD:
                    self._objects.write(f"{key}/{file}", (scratch / file).read_bytes())
                if new.duplicates:
                    told = f"{DUPLICATES}/{manifest.name}/{manifest.version}.json"
                    self._objects.write(told, dump_duplicates(new.duplicates))
                if not self._objects.create(f"{key}/{MANIFEST}", (scratch / MANIFEST).read_bytes()):
                    raise taken
            with suppress(AlreadyExists):  # somebody here looked at the version already
                publish(scratch, folder / str(manifest.version))
        return self.open(manifest.name, manifest.version)

    def erase(self, dataset: Dataset) -> None:
        """Remove the voxels that no other version needs; the manifest stays."""
        key = _version(dataset.name, dataset.version)
        self._objects.write(f"{key}/{ERASED}", b"")
        with reserved(self._objects, LOCKS):
            self._objects.remove([f"{key}/{file}" for file in TOLD if file != CHECKSUM])
            needed = {
                record.sha256
                for name, versions in self.index().items()
                for other in (self.open(name, version) for version in versions)
                if not other.erased
                for record in other.manifest.cases
            }
            for record in dataset.manifest.cases:
                if record.sha256 not in needed:
                    self._remove(record.sha256)
        self._erase_here(dataset)

    def duplicates(self) -> dict[str, list[CrossSiteDuplicate]]:
        """Scans that several sites contributed, by the version that came later."""
        found: dict[str, list[CrossSiteDuplicate]] = {}
        for key in self._objects.keys(DUPLICATES):
            data = self._objects.read(key)
            name, _, file = key.removeprefix(f"{DUPLICATES}/").rpartition("/")
            if data is not None:
                found[f"{name}@{file.removesuffix('.json')}"] = parse_duplicates(data)
        return found

    def _index(self, folder: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for key in self._objects.keys(folder):
            mark = _MARK.fullmatch(key)
            if mark and mark["file"] == MANIFEST and is_name(mark["name"]):
                found.setdefault(mark["name"], []).append(int(mark["version"]))
        return {name: sorted(found[name]) for name in sorted(found)}

    def _fetch(self, record: CaseRecord, folder: Path) -> None:
        self._objects.download(_case(record.sha256), folder)
        if not (folder / ROOT).exists():
            raise IntegrityError(
                f"case {record.id}: {self._objects.url}/{_case(record.sha256)} is gone; "
                "contribute the dataset again, which stores what is missing"
            )

    def _store(self, kept: Kept) -> None:
        if not self._objects.exists(f"{_case(kept.record.sha256)}/{ROOT}"):
            self._upload(kept)

    def _upload(self, kept: Kept) -> None:
        key = _case(kept.record.sha256)
        self._objects.upload(kept.voxels, key, last=ROOT)
        if kept.picture.is_file():
            self._objects.write(f"{key.removesuffix('.zarr')}.png", kept.picture.read_bytes())

    def _missing(self, kept: Sequence[Kept]) -> list[Kept]:
        """Cases of which any object is not there."""

        def incomplete(one: Kept) -> bool:
            key = _case(one.record.sha256)
            files = (path for path in one.voxels.rglob("*") if path.is_file())
            needed = {f"{key}/{path.relative_to(one.voxels).as_posix()}" for path in files}
            return not needed <= set(self._objects.keys(key))

        with ThreadPoolExecutor(QUESTIONS_AT_ONCE) as pool:
            return [one for one, gone in zip(kept, pool.map(incomplete, kept), strict=True) if gone]

    def _remove(self, sha256: str) -> None:
        key = _case(sha256)
        # its root first: a case without one is none, and is stored anew by who needs it
        self._objects.remove([f"{key}/{ROOT}"])
        self._objects.remove([*self._objects.keys(key), f"{key.removesuffix('.zarr')}.png"])

    def _erase_here(self, dataset: Dataset) -> None:
        dataset.erase()
        (dataset.folder / SIZES).unlink(missing_ok=True)
        for record in dataset.manifest.cases:
            self._cache.forget(record.sha256)


def _version(name: str, version: int) -> str:
    return f"{VERSIONS}/{name}/{version}"


def _case(sha256: str) -> str:
    return f"{CASES}/{sha256[:2]}/{sha256}.zarr"
