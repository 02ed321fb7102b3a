"""One case from files to canonical arrays, judged on the way; nothing is stored here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.contract import UNKNOWN
from clnet.anatomy.mapping import LabelMapping
from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.canonical import Canonical, to_canonical
from clnet.data_catalog.case import CaseContent
from clnet.data_catalog.embedding import embed
from clnet.data_catalog.hounsfield import as_hounsfield
from clnet.data_catalog.labels import translate_map, translate_masks
from clnet.data_catalog.same_grid import check_same_grid, resample_labels_to
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.validation import (
    Finding,
    IntakeRules,
    Subject,
    as_rejection,
    check_case_id,
    check_identity,
    finding,
    from_rejection,
    judge_content,
)
from clnet.data_catalog.volume import DEFAULT_MAX_BYTES, Stored, Volume, read_volume
from clnet.errors import CaseRejected

__all__ = ["Judged", "judge_case", "judge_read", "read_case"]

MAX_IMAGE_RATIO = 200.0
"""How many times its size an image file may unpack to: a CT is noise, and takes 2 to 5."""

LARGEST_ITEM = 8
"""Bytes of the widest voxel type."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A case and what validation found in it.

    Attributes:
        content: what would be stored; None where the files cannot be read as a case.
        findings: everything worth knowing.
        rejection: why the case cannot be stored; None where it can.
    """

    content: CaseContent | None
    findings: tuple[Finding, ...]
    rejection: CaseRejected | None


def read_case(
    source: CaseSource,
    mapping: LabelMapping,
    max_bytes: int = DEFAULT_MAX_BYTES,
    rules: IntakeRules | None = None,
    allocate: Allocate = in_memory,
) -> CaseContent:
    """Read, check and reorient one case.

    Raises:
        CaseRejected: naming the file, the field and the reason.
    """
    judged = judge_case(source, mapping, max_bytes, rules, allocate)
    if judged.rejection is not None:
        raise judged.rejection
    assert judged.content is not None
    return judged.content


def judge_case(
    source: CaseSource,
    mapping: LabelMapping,
    max_bytes: int = DEFAULT_MAX_BYTES,
    rules: IntakeRules | None = None,
    allocate: Allocate = in_memory,
) -> Judged:
    """Read one case and say everything that is wrong with it, instead of raising.

    Args:
        max_bytes: largest volume taken.
        rules: how strictly to judge.
        allocate: gives room for whole volumes; beside them memory does not grow with the scan,
            except for NRRD, MHA and DICOM SEG, whose readers hold a file whole.
    """
    rules = rules or IntakeRules()
    reading = _Reading(source.id, mapping, rules, max_bytes, allocate)
    try:
        content = reading.content(source)
    except CaseRejected as rejection:
        found = (*reading.findings, from_rejection(rejection, source.id))
        return Judged(None, found, rejection)
    return judge_read(source, content, reading.findings, rules)


def judge_read(
    source: CaseSource, content: CaseContent, seen: Sequence[Finding], rules: IntakeRules
) -> Judged:
    """Judge a case that has been read, with what was `seen` meanwhile."""
    files = source.labels if isinstance(source.labels, Mapping) else {"": source.labels}
    subject = Subject(
        source.id, content, str(source.image), {key: str(path) for key, path in files.items()}
    )
    found = tuple(rules.overruled(f) for f in (*seen, *judge_content(subject)))
    worst = next((f for f in found if f.severity == "error"), None)
    return Judged(content, found, None if worst is None else as_rejection(worst))


class _Reading:
    """One pass over a case's files, with the findings that come up on the way."""

    def __init__(
        self,
        case_id: str,
        mapping: LabelMapping,
        rules: IntakeRules,
        max_bytes: int,
        allocate: Allocate,
    ) -> None:
        self.findings: list[Finding] = []
        self._id = case_id
        self._mapping = mapping
        self._rules = rules
        self._max_bytes = max_bytes
        self._allocate = allocate

    def content(self, source: CaseSource) -> CaseContent:
        """The case as it would be stored.

        Raises:
            CaseRejected: it cannot be.
        """
        scan = read_volume(source.image, self._max_bytes, MAX_IMAGE_RATIO, self._allocate)
        self._identity(scan)
        self.findings += check_case_id(source.id, str(source.image), scan.texts)
        self.findings += [
            finding(code, scan.file, self._id, seen) for code, seen in scan.doubts.items()
        ]
        image = to_canonical(scan, self._allocate)
        ct = as_hounsfield(image.voxels, str(source.image), self._allocate)
        unknown = self._mapping.unknown
        if isinstance(source.labels, Mapping):
            used = {k: m for k, m in source.labels.items() if not self._mapping.leaves_out(k)}
            if not used.keys() - unknown:
                raise CaseRejected(
                    str(source.image), "labels", "no mask that the mapping uses", "label.mapping"
                )
            masks = _Masks({k: m for k, m in used.items() if k not in unknown}, self._on(image))
            files = {key: str(mask) for key, mask in used.items()}
            maps, contract, overlaps = translate_masks(
                masks, files, self._mapping, image.spacing[0], self._allocate
            )
            for key in used.keys() & unknown:
                _forget(maps, self._labels(used[key], image), lambda plane: plane != 0)
            self.findings += [
                finding("label.overlap-kept", o.file, self._id, f"{o}; stored as one of both")
                for o in overlaps
            ]
        else:
            ids = self._labels(source.labels, image)
            file = str(source.labels)
            maps, contract = translate_map(
                ids, file, self._mapping, image.spacing[0], self._allocate
            )
            numbers = [int(key) for key in unknown if key.isdecimal()]
            if numbers:
                _forget(maps, ids, lambda plane: np.isin(plane, numbers))
        return CaseContent(ct, maps, contract, image.spacing, image.affine, image.axcodes)

    def _on(self, image: Canonical) -> Callable[[Path | Stored], NDArray[Any]]:
        return lambda labels: self._labels(labels, image)

    def _labels(self, labels: Path | Stored, image: Canonical) -> NDArray[Any]:
        """Voxels of one label volume on the image's grid."""
        file = str(labels)
        # by its header a label volume is no larger than the image, unless it is resampled
        limit = self._max_bytes
        if isinstance(labels, Path) and not self._rules.resample:
            limit = min(limit, image.voxels.size * LARGEST_ITEM)
        try:
            volume = read_volume(labels, limit, allocate=self._allocate)
        except CaseRejected as rejection:
            if rejection.code != "file.too-large" or limit == self._max_bytes:
                raise
            raise CaseRejected(
                file,
                "shape",
                f"labels have more voxels than the image's {image.voxels.shape} (z, y, x); "
                "resample the labels to the image's grid",
                "grid.shape",
            ) from None
        self._identity(volume)
        grid = to_canonical(volume, self._allocate)
        if not isinstance(labels, Path):
            grid = embed(grid, image, file, self._allocate)
        try:
            check_same_grid(image, grid, file)
        except CaseRejected:
            if not self._rules.resample:
                raise
            voxels, how = resample_labels_to(image, grid, file, self._allocate)
            self.findings.append(finding("grid.resampled", file, self._id, how))
            return voxels
        return np.asarray(grid.voxels)

    def _identity(self, volume: Volume) -> None:
        found = check_identity(volume, self._id, deidentify=self._rules.deidentify)
        # segments of one file share its header
        self.findings += [f for f in found if f not in self.findings]


class _Masks(Mapping[str, NDArray[Any]]):
    """Masks by key, each read when it is looked up: a case may have more than fit in memory."""

    def __init__(
        self,
        sources: Mapping[str, Path | Stored],
        read: Callable[[Path | Stored], NDArray[Any]],
    ) -> None:
        self._sources = sources
        self._read = read

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self._read(self._sources[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _forget(
    labels: Mapping[str, NDArray[np.uint8]],
    ids: NDArray[Any],
    unknown: Callable[[NDArray[Any]], NDArray[np.bool_]],
) -> None:
    """Make voxels unknown in every layer, unless another label says what they are."""
    for z, plane in enumerate(ids):
        where = unknown(plane)
        for grid in labels.values():
            grid[z][where & (grid[z] == 0)] = UNKNOWN
