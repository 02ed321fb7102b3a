"""One immutable version of a dataset, as stored."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from clnet.data_catalog.case import Case
from clnet.data_catalog.manifest import CaseRecord, Manifest
from clnet.data_catalog.parsed_manifests import ParsedManifests
from clnet.data_catalog.teaching import (
    LABELS,
    LabelUse,
    Taught,
    label_uses,
    read_label_uses,
    taught,
    write_label_uses,
)
from clnet.data_catalog.terms import STORED
from clnet.data_catalog.validation.report import Report
from clnet.errors import IntegrityError, NotFound
from clnet.storage import atomic_write

__all__ = ["Dataset", "read_dataset", "write_labels", "write_manifest", "write_validation"]

MANIFEST = "manifest.json"
CHECKSUM = "manifest.json.sha256"
VALIDATION = "validation.json"
ERASED = "erased"

_PARSED = ParsedManifests(most_cases=20_000)


class Dataset:
    """A version of a dataset: its manifest, and its cases by id.

    Args:
        manifest: what it holds.
        folder: of this machine, with what is known of it.
        fetch: opens a case whose voxels live elsewhere; they lie in `folder` by default.
    """

    def __init__(
        self,
        manifest: Manifest,
        folder: Path,
        fetch: Callable[[CaseRecord], Case] | None = None,
    ) -> None:
        self.manifest = manifest
        self.folder = folder
        self._fetch = fetch

    def __repr__(self) -> str:
        return f"Dataset({self.ref!r}, {len(self.manifest.cases)} cases)"

    def __len__(self) -> int:
        return len(self.manifest.cases)

    def __iter__(self) -> Iterator[Case]:
        return (self.case(case_id) for case_id in self.case_ids)

    @property
    def name(self) -> str:
        """``site/name``."""
        return self.manifest.name

    @property
    def version(self) -> int:
        """1, 2, 3 ..."""
        return self.manifest.version

    @property
    def ref(self) -> str:
        """``site/name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def sha256(self) -> str:
        """Hash of its cases and terms."""
        return self.manifest.sha256

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Ids in the manifest's order."""
        return tuple(self._records)

    def case(self, case_id: str) -> Case:
        """One case; its geometry and contract are checked against the manifest.

        Raises:
            NotFound: no such case.
            IntegrityError: the stored case is damaged.
        """
        if case_id not in self._records:
            raise NotFound(f"{self.ref}: no case {case_id!r}; it has {len(self)} cases")
        if self.erased:
            raise NotFound(f"{self.ref}: was withdrawn, and its voxels were erased")
        if self._fetch is not None:
            return self._fetch(self._records[case_id])
        return Case(self._records[case_id], case_folder(self.folder, case_id))

    @property
    def erased(self) -> bool:
        """Whether its voxels were removed; what is left tells what it was."""
        return (self.folder / ERASED).exists()

    def erase(self) -> None:
        """Remove everything but the manifest. To be called under the dataset's lock."""
        atomic_write(self.folder / ERASED, b"")
        for name in ("cases", "thumbnails"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("ingest.json", LABELS, VALIDATION):
            (self.folder / name).unlink(missing_ok=True)

    def verify(self) -> None:
        """Read every voxel of every case and compare with the manifest.

        Raises:
            IntegrityError: something stored is not what was contributed.
        """
        for case in self:
            case.verify()

    @cached_property
    def labels(self) -> tuple[LabelUse, ...]:
        """What its labels mean, and in how many cases.

        Read from a summary beside the manifest; versions without one have every case opened.

        Raises:
            NotFound: it was erased.
            IntegrityError: there is no summary, and a case is damaged.
        """
        if self.erased:
            raise NotFound(f"{self.ref}: was withdrawn, and its labels were erased")
        kept = read_label_uses(self.folder, self.sha256)
        return label_uses(case.contract for case in self) if kept is None else kept

    def teaches(self, anatomy: str) -> Taught | None:
        """How its labels can teach an anatomy; None where they cannot.

        Args:
            anatomy: any name of it that the vocabulary knows.

        Raises:
            UnknownAnatomy: the vocabulary does not know it.
            InputError: a coarse name, which nothing learns.
        """
        return taught(() if self.erased else self.labels, anatomy)

    @property
    def validation(self) -> Report | None:
        """What validation found when it was contributed; None where that was never written."""
        try:
            return Report.model_validate_json((self.folder / VALIDATION).read_bytes())
        except FileNotFoundError:
            return None

    @cached_property
    def _records(self) -> dict[str, CaseRecord]:
        return {record.id: record for record in self.manifest.cases}


def case_folder(dataset: Path, case_id: str) -> Path:
    """Where a dataset's folder keeps the zarr group of a case."""
    return dataset / "cases" / f"{case_id}.zarr"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` and its checksum, which ``sha256sum -c`` reads."""
    data = (manifest.model_dump_json(indent=1) + "\n").encode()
    (folder / MANIFEST).write_bytes(data)
    checksum = f"{hashlib.sha256(data).hexdigest()}  {MANIFEST}\n"
    (folder / CHECKSUM).write_text(checksum, encoding="ascii")


def write_validation(folder: Path, report: Report) -> None:
    """Write the report beside the manifest, with the names of files but not their folders."""
    data = report.without_folders().model_dump_json(indent=1) + "\n"
    (folder / VALIDATION).write_text(data, encoding="utf-8")


def write_labels(folder: Path, manifest: Manifest, cases: Iterable[Case]) -> None:
    """Write down what the labels of a new version's cases mean."""
    write_label_uses(folder, manifest.sha256, label_uses(case.contract for case in cases))


def read_dataset(
    folder: Path,
    name: str,
    version: int,
    fetch: Callable[[CaseRecord], Case] | None = None,
) -> Dataset:
    """Load and check one version; see :class:`Dataset` for `fetch`.

    Raises:
        NotFound: no such version.
        IntegrityError: the manifest is not what was written.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
        expected = (folder / CHECKSUM).read_text(encoding="ascii").split()[0]
    except FileNotFoundError:
        raise NotFound(f"dataset {name}@{version}: not in this catalog") from None
    damaged = f"{path}: changed since it was written; restore the dataset from a backup"
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise IntegrityError(damaged)
    manifest = _PARSED.get(found)
    if manifest is None:
        try:
            manifest = Manifest.model_validate_json(data, context=STORED)
        except ValidationError as error:
            reason = f"not a manifest that this version reads: {error}"
            raise IntegrityError(f"{path}: {reason}") from None
        if Manifest.hash_of(manifest.cases, manifest.terms) != manifest.sha256:
            raise IntegrityError(damaged)
        _PARSED.keep(found, manifest)
    if (manifest.name, manifest.version) != (name, version):
        raise IntegrityError(damaged)
    return Dataset(manifest, folder, fetch)
