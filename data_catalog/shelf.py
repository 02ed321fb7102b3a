"""Where a catalog keeps its versions: in a folder of this machine, or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clnet.data_catalog.admin import read_duplicates, write_duplicates
from clnet.data_catalog.dataset import (
    Dataset,
    read_dataset,
    write_labels,
    write_manifest,
    write_validation,
)
from clnet.data_catalog.manifest import Manifest
from clnet.data_catalog.sharing import holders_of, share_cases
from clnet.data_catalog.staging import Kept, link_cases
from clnet.data_catalog.validation import CrossSiteDuplicate, Report
from clnet.storage import publish, scratch_directory

__all__ = ["FolderShelf", "NewVersion", "Shelf"]

ADMIN = ".admin"


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version about to be published.

    Attributes:
        manifest: what it holds.
        kept: its cases, on this machine.
        report: what validation found.
        duplicates: its scans that other sites have too, for hub admins.
        check: called with the folder of the finished version before anyone can see it; what it
            raises ends the publication.
        progress: called with a fraction and what is being done, where it takes long.
    """

    manifest: Manifest
    kept: Sequence[Kept]
    report: Report
    duplicates: Sequence[CrossSiteDuplicate]
    check: Callable[[Path], None]
    progress: Callable[[float, str], None] | None = None


class Shelf(Protocol):
    """Published versions, each seen whole or not at all.

    Attributes:
        folder: of this machine, for locks and unfinished contributions.
    """

    folder: Path

    def index(self) -> Mapping[str, Sequence[int]]:
        """Versions of every dataset, both sorted."""

    def versions(self, name: str) -> Sequence[int]:
        """Versions of one dataset, sorted; none where there is no such dataset."""

    def open(self, name: str, version: int) -> Dataset:
        """One version, checked against its hash.

        Raises:
            NotFound: no such version.
            IntegrityError: its manifest was changed.
        """

    def publish(self, new: NewVersion) -> Dataset:
        """Make a version visible.

        Raises:
            AlreadyExists: somebody published that version meanwhile.
        """

    def erase(self, dataset: Dataset) -> None:
        """Remove the voxels that no other version needs; the manifest stays.

        To be called under the dataset's lock. Erasing again finishes what a crash interrupted.
        """

    def duplicates(self) -> dict[str, list[CrossSiteDuplicate]]:
        """Scans that several sites contributed, by the version that came later."""


class FolderShelf:
    """``<folder>/<site>/<name>/<version>/``: a manifest and one zarr group a case.

    Equal cases of several versions share their bytes as hard links, so the file system counts
    who still needs them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def index(self) -> Mapping[str, Sequence[int]]:
        """Versions of every dataset, both sorted."""
        folders = sorted(path for path in self.folder.glob("[!.]*/[!.]*") if path.is_dir())
        names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
        return {name: self.versions(name) for name in names}

    def versions(self, name: str) -> Sequence[int]:
        """Versions of one dataset, sorted; none where there is no such dataset."""
        folder = self.folder / name
        if not folder.is_dir():
            return ()
        return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())

    def open(self, name: str, version: int) -> Dataset:
        """One version, checked against its hash; see :class:`Shelf`."""
        return read_dataset(self.folder / name / str(version), name, version)

    def publish(self, new: NewVersion) -> Dataset:
        """Make a version visible, by one rename."""
        manifest = new.manifest
        folder = self.folder / manifest.name
        with scratch_directory(folder) as scratch:
            link_cases(new.kept, scratch)
            share_cases(scratch, manifest.cases, holders_of(self._others(manifest.name)))
            write_validation(scratch, new.report)
            write_labels(scratch, manifest, Dataset(manifest, scratch))
            write_manifest(scratch, manifest)
            new.check(scratch)
            if new.duplicates:
                write_duplicates(
                    self.folder / ADMIN, manifest.name, manifest.version, new.duplicates
                )
            publish(scratch, folder / str(manifest.version))
        return Dataset(manifest, folder / str(manifest.version))

    def erase(self, dataset: Dataset) -> None:
        """Remove the version's own links; bytes that others hold stay."""
        dataset.erase()

    def duplicates(self) -> dict[str, list[CrossSiteDuplicate]]:
        """Scans that several sites contributed, by the version that came later."""
        return read_duplicates(self.folder / ADMIN)

    def _others(self, name: str) -> Iterable[Dataset]:
        for other, versions in self.index().items():
            if other != name:
                yield from (self.open(other, version) for version in versions)
