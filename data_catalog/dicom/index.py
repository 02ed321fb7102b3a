"""What a folder of DICOM files holds: CT series, and the objects that label them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clnet.data_catalog.dicom.header import is_dicom, read_header
from clnet.data_catalog.dicom.series import DicomSeries
from clnet.errors import CaseRejected

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Index", "LabelObject", "index_folder", "looks_like_dicom"]

CT_IMAGE = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1")
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
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
class Index:
    """The DICOM objects of a folder.

    Attributes:
        series: CT series by UID, localizers left out.
        frames_of_reference: of each series.
        labels: RTSTRUCT and SEG objects.
        others: how many objects are something else.
    """

    series: dict[str, DicomSeries]
    frames_of_reference: dict[str, str]
    labels: tuple[LabelObject, ...]
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
    """Read the header of every DICOM file below `folder`; other files are passed over.

    Raises:
        CaseRejected: a damaged DICOM file.
    """
    images: dict[str, list[Path]] = {}
    frames: dict[str, str] = {}
    labels: list[LabelObject] = []
    others = 0
    for path in _files(folder):
        if not is_dicom(path):
            continue
        header = read_header(path, tags=_TAGS)
        kind = str(header.get("SOPClassUID", ""))
        uid = str(header.get("SeriesInstanceUID", ""))
        if kind in CT_IMAGE and "LOCALIZER" not in (header.get("ImageType") or []):
            if not uid:
                raise CaseRejected(str(path), "SeriesInstanceUID", "missing")
            images.setdefault(uid, []).append(path)
            frames[uid] = str(header.get("FrameOfReferenceUID", ""))
        elif kind == STRUCTURE_SET:
            labels.append(LabelObject(path, "rtstruct", *_structure_references(header)))
        elif kind in SEGMENTATION:
            referenced = header.get("ReferencedSeriesSequence") or []
            uids = frozenset(str(item.get("SeriesInstanceUID", "")) for item in referenced)
            frame = str(header.get("FrameOfReferenceUID", ""))
            labels.append(LabelObject(path, "seg", uids, frozenset({frame} - {""})))
        else:
            others += 1
    series = {
        uid: DicomSeries(uid, Path(os.path.commonpath([p.parent for p in files])), tuple(files))
        for uid, files in images.items()
    }
    return Index(series, frames, tuple(labels), others)


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
