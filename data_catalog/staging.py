"""Finished cases of an unfinished contribution, kept until it is whole: a re-run goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from clnet.anatomy.mapping import LabelMapping
from clnet.data_catalog.case import CaseContent, write_case
from clnet.data_catalog.dataset import Dataset, case_folder
from clnet.data_catalog.manifest import CaseRecord, content_sha256
from clnet.data_catalog.quota import Room
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.validation import Finding, IntakeRules, thumbnail
from clnet.data_catalog.volume import Stored
from clnet.errors import AlreadyExists, IntegrityError, NotFound
from clnet.storage import atomic_directory, scratch_directory, sweep_temporaries

__all__ = ["Kept", "StagedCases", "Staging", "link_or_copy", "source_key"]

INGEST = 2
"""Part of every key: raise it when the same files would be stored or judged otherwise."""

RECORD, PICTURE, VOXELS = "record.json", "thumbnail.png", "case.zarr"
INDEX = "ingest.json"


class _Record(BaseModel):
    """What is known of a finished case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: CaseRecord
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished case, on disk.

    Attributes:
        key: of its files, mapping and rules.
        record: its manifest line.
        findings: what validation found in it.
        voxels: its zarr group.
        picture: its thumbnail.
    """

    key: str
    record: CaseRecord
    findings: tuple[Finding, ...]
    voxels: Path
    picture: Path

    def of(self, source: CaseSource) -> Kept:
        """The case, its findings naming the files of `source`."""
        here = {path.name: str(path) for path in _paths(source)}
        here |= {path.parent.name: str(path.parent) for path in _paths(source)}
        findings = tuple(
            found.model_copy(update={"file": here.get(found.file, found.file)})
            for found in self.findings
        )
        return replace(self, findings=findings)


class StagedCases:
    """Finished cases in a folder, by the content that they were made from.

    Several processes may add to it at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Kept | None:
        """The case of that content, if it was finished."""
        folder = self.folder / key
        try:
            kept = _Record.model_validate_json((folder / RECORD).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return Kept(key, kept.case, kept.findings, folder / VOXELS, folder / PICTURE)

    def keep(
        self, key: str, case_id: str, content: CaseContent, findings: Sequence[Finding]
    ) -> Kept:
        """Write a case, whole or not at all."""
        target = self.folder / key
        try:
            with atomic_directory(target) as folder:
                record = write_case(folder / VOXELS, case_id, content)
                (folder / PICTURE).write_bytes(thumbnail(content))
                kept = _Record(case=record, findings=_bare(findings))
                (folder / RECORD).write_text(kept.model_dump_json(), encoding="utf-8")
        except AlreadyExists:  # by a worker that outlived the contribution before this one
            found = self.find(key)
            if found is None:
                raise
            return found
        return Kept(key, record, tuple(findings), target / VOXELS, target / PICTURE)


class Staging:
    """What a contribution need not make again: staged cases, and those of earlier versions.

    A case is written once: here, or found in an earlier version of the same dataset. A version
    takes its cases as hard links, so that nothing is lost when a process dies between the two.

    Args:
        folder: where this dataset's unfinished contributions keep their cases. Use it only
            while holding the dataset's lock.
        versions: the dataset's earlier versions.
        room: what the site may still write; no limit by default.
    """

    def __init__(self, folder: Path, versions: Iterable[Dataset], room: Room | None = None) -> None:
        self.folder = folder
        self.cases = StagedCases(folder)
        self._room = room
        self._earlier = {key: found for v in versions for key, found in _index(v)}
        if folder.is_dir():
            sweep_temporaries(folder)

    @property
    def earlier(self) -> frozenset[str]:
        """Keys of the cases of earlier versions."""
        return frozenset(self._earlier)

    def find(self, key: str, source: CaseSource) -> Kept | None:
        """The case if it was finished before; its findings name the files of `source`."""
        kept = self.cases.find(key) or self._stored(key)
        return None if kept is None else kept.of(source)

    def admit(self, kept: Kept) -> Kept:
        """Count a case that was just written.

        Raises:
            QuotaExceeded: there is no room for more.
        """
        if self._room is not None:
            self._room.take(kept.record, kept.voxels)
        return kept

    def clear(self) -> None:
        """Forget everything that was not published.

        All at once: a case of which a part is removed would look like a whole one.
        """
        with suppress(FileNotFoundError), scratch_directory(self.folder.parent) as place:
            self.folder.rename(place / self.folder.name)

    def _stored(self, key: str) -> Kept | None:
        if key not in self._earlier:
            return None
        version, kept = self._earlier[key]
        try:
            case = version.case(kept.case.id)
            case.verify()
        except (IntegrityError, NotFound):
            return None  # a damaged copy is not passed on
        picture = picture_of(version.folder, kept.case.id)
        return Kept(key, kept.case, kept.findings, case.folder, picture)


def source_key(source: CaseSource, mapping: LabelMapping, rules: IntakeRules) -> str | None:
    """Hash of everything that a stored case comes from; None where a file cannot be read."""
    labels = source.labels if isinstance(source.labels, Mapping) else {"": source.labels}
    seen: dict[Path, str] = {}
    try:
        files = {f"labels/{key}": _content(part, seen) for key, part in labels.items()}
        files["image"] = _content(source.image, seen)
    except OSError:
        return None
    meanings = {
        label: [[m.name, m.members, m.layer, m.within] for m in found]
        for label, found in mapping.meanings.items()
    }
    others = [sorted(mapping.unknown), mapping.rest_ignored]
    return content_sha256(
        {
            "ingest": INGEST,
            "id": source.id,
            "files": files,
            "mapping": [meanings, others],
            "rules": rules.of_cases(),
        }
    )


def link_cases(cases: Iterable[Kept], version: Path) -> None:
    """Put finished cases into the folder of a new version, and the index of their keys."""
    cases = list(cases)
    for kept in cases:
        shutil.copytree(
            kept.voxels, case_folder(version, kept.record.id), copy_function=link_or_copy
        )
        picture = picture_of(version, kept.record.id)
        picture.parent.mkdir(exist_ok=True)
        if kept.picture.is_file():
            link_or_copy(kept.picture, picture)
    write_index(cases, version)


def write_index(cases: Iterable[Kept], version: Path) -> None:
    """Write the keys of a version's cases, by which a later contribution finds them."""
    index: dict[str, Any] = {}
    for kept in cases:
        record = _Record(case=kept.record, findings=_bare(kept.findings))
        index[kept.key] = record.model_dump(mode="json")
    (version / INDEX).write_text(json.dumps(index), encoding="utf-8")


def picture_of(version: Path, case_id: str) -> Path:
    """Where a version's folder keeps the thumbnail of a case."""
    return version / "thumbnails" / f"{case_id}.png"


def _index(version: Dataset) -> Iterator[tuple[str, tuple[Dataset, _Record]]]:
    try:
        table: Mapping[str, Any] = json.loads((version.folder / INDEX).read_bytes())
    except (FileNotFoundError, ValueError):
        return
    for key, record in table.items():
        yield key, (version, _Record.model_validate(record))


def _bare(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(f.model_copy(update={"file": Path(f.file).name}) for f in findings)


def _paths(source: CaseSource) -> list[Path]:
    labels = source.labels.values() if isinstance(source.labels, Mapping) else [source.labels]
    return [Path(str(part)) for part in (*labels, source.image)]


def _content(part: Path | Stored, seen: dict[Path, str]) -> list[str]:
    """What an image or label is: its bytes, and which part of them where there are several."""
    files = (part,) if isinstance(part, Path) else part.files
    for path in files:
        if path not in seen:  # a structure set's contours all hang on the same series
            seen[path] = _sha256(path)
    which = "" if isinstance(part, Path) else repr(part)
    return [which, *sorted(seen[path] for path in files)]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file a second name; the file system counts the names."""
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
