"""What a folder of DICOM files holds: CT series, and the objects that label them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clnet.data_catalog.dicom.header import is_dicom, parsing, read_header
from clnet.data_catalog.dicom.series import DicomSeries
from clnet.errors import CaseRejected

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["DamagedFile", "Index", "LabelObject", "index_folder", "looks_like_dicom"]

CT_IMAGE = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1")
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
DIRECTORY = "1.2.840.10008.1.3.10"
SUFFIX = ".dcm"
"""A file of this name that does not begin like DICOM is damaged; others are passed over."""

TRIED = 64
"""Files looked at to tell whether a folder is one of DICOM."""

_TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence", "ImageType",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelObject:
    """An RTSTRUCT or SEG file.

    Attributes:
        series: SeriesInstanceUIDs that it says it was drawn on.
        frames_of_reference: coordinate systems that it says it is in.
    """

    path: Path
    kind: Literal["rtstruct", "seg"]
    series: frozenset[str]
    frames_of_reference: frozenset[str]


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that cannot be read as the DICOM object that it is.

    Attributes:
        labels: it is an RTSTRUCT or SEG object; else it may be a slice of a series.
        rejection: what is wrong.
    """

    path: Path
    labels: bool
    rejection: CaseRejected


@dataclass(frozen=True, slots=True)
class Index:
    """The DICOM objects of a folder.

    Attributes:
        series: CT series by UID, localizers left out.
        frames_of_reference: of each series.
        labels: RTSTRUCT and SEG objects.
        damaged: files that are none of these, but ought to be something.
        others: how many objects are something else.
    """

    series: dict[str, DicomSeries]
    frames_of_reference: dict[str, str]
    labels: tuple[LabelObject, ...]
    damaged: tuple[DamagedFile, ...]
    others: int


def looks_like_dicom(folder: Path) -> bool:
    """Whether one of the first files is DICOM."""
    for tried, path in enumerate(_files(folder)):
        if is_dicom(path):
            return True
        if tried >= TRIED:
            break
    return False


def index_folder(folder: Path) -> Index:
    """Read the header of every DICOM file below `folder`; other files are passed over."""
    images: dict[str, list[Path]] = {}
    frames: dict[str, str] = {}
    labels: list[LabelObject] = []
    damaged: list[DamagedFile] = []
    others = 0
    for path in _files(folder):
        if not is_dicom(path) and path.suffix.lower() != SUFFIX:
            continue
        try:
            header = read_header(path, tags=_TAGS)
            with parsing(path):
                kind = _kind(header, path)
                if kind in CT_IMAGE and "LOCALIZER" not in (header.get("ImageType") or []):
                    uid = _series(header, path)
                    images.setdefault(uid, []).append(path)
                    frames[uid] = str(header.get("FrameOfReferenceUID", ""))
                elif kind == STRUCTURE_SET:
                    labels.append(LabelObject(path, "rtstruct", *_structure_references(header)))
                elif kind in SEGMENTATION:
                    labels.append(LabelObject(path, "seg", *_segmentation_references(header)))
                else:
                    others += 1
        except CaseRejected as rejection:
            damaged.append(DamagedFile(path, _says_labels(path), rejection))
    series = {
        uid: DicomSeries(uid, Path(os.path.commonpath([p.parent for p in files])), tuple(files))
        for uid, files in images.items()
    }
    return Index(series, frames, tuple(labels), tuple(damaged), others)


def _kind(header: Dataset, path: Path) -> str:
    """The SOP class of an object; a DICOMDIR says its own beside the data set."""
    kind = str(header.get("SOPClassUID", ""))
    if not kind and _said_kind(header.file_meta) != DIRECTORY:
        raise CaseRejected(
            str(path), "SOPClassUID", "missing: damaged or truncated", "file.unreadable"
        )
    return kind


def _series(header: Dataset, path: Path) -> str:
    uid = str(header.get("SeriesInstanceUID", ""))
    if not uid:
        raise CaseRejected(
            str(path), "SeriesInstanceUID", "missing: damaged or truncated", "file.unreadable"
        )
    return uid


def _says_labels(path: Path) -> bool:
    """Whether a damaged file was an RTSTRUCT or SEG, by what stands before the data set."""
    from pydicom.filereader import read_file_meta_info

    try:
        with parsing(path):
            return _said_kind(read_file_meta_info(path)) in (STRUCTURE_SET, *SEGMENTATION)
    except CaseRejected:
        return False


def _said_kind(meta: Dataset) -> str:
    return str(meta.get("MediaStorageSOPClassUID", ""))


def _segmentation_references(header: Dataset) -> tuple[frozenset[str], frozenset[str]]:
    referenced = header.get("ReferencedSeriesSequence") or []
    series = frozenset(str(item.get("SeriesInstanceUID", "")) for item in referenced)
    return series, frozenset({str(header.get("FrameOfReferenceUID", ""))} - {""})


def _structure_references(header: Dataset) -> tuple[frozenset[str], frozenset[str]]:
    series: set[str] = set()
    frames: set[str] = set()
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        frames.add(str(frame.get("FrameOfReferenceUID", "")))
        for study in frame.get("RTReferencedStudySequence") or []:
            for one in study.get("RTReferencedSeriesSequence") or []:
                series.add(str(one.get("SeriesInstanceUID", "")))
    return frozenset(series - {""}), frozenset(frames - {""})


def _files(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))
