"""DICOM CT series with the RTSTRUCT or SEG objects that reference them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from clnet.data_catalog.dicom import (
    Contours,
    DicomSeries,
    Index,
    LabelObject,
    SegmentFrames,
    index_folder,
    looks_like_dicom,
    read_roi_names,
    read_segment_names,
)
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.sources.folder import SourceFolder, some
from clnet.data_catalog.validation import finding, from_rejection
from clnet.data_catalog.volume import Stored
from clnet.errors import CaseRejected, InputError

LOOKS_FOR = "DICOM CT images, in any folders, and RTSTRUCT or SEG objects that reference them"


def detect(folder: Path) -> bool:
    """Whether one of the first files is DICOM."""
    return looks_like_dicom(folder)


def cases(folder: Path) -> SourceFolder:
    """One case per CT series that something labels; labels are named as ROIs and segments are.

    An object is joined to the series that it references, or, where it names none, to the only
    one in its coordinate system. Series without labels are left out. Objects that cannot be
    joined are findings; a series is kept out by damaged labels, two labels of one name, and
    damaged files in its folders, which may be slices of it.

    Raises:
        InputError: no CT series, or none with labels.
    """
    index = index_folder(folder)
    if not index.series and not index.damaged:
        raise InputError(f"{folder}: no CT series ({index.others} other DICOM objects)")
    labels: dict[str, dict[str, Path | Stored]] = {}
    faults: list[tuple[str | None, CaseRejected]] = []  # of a series, or of none
    beside = _by_folder(index) if index.damaged else {}
    for file in index.damaged:
        of = set() if file.labels else beside.get(file.path.parent, set())
        faults += [(uid, file.rejection) for uid in sorted(of)] or [(None, file.rejection)]
    for one in index.labels:
        try:
            uid = _series_of(one, index)
        except CaseRejected as rejection:
            faults.append((None, rejection))
            continue
        try:
            _join(labels.setdefault(uid, {}), one, index.series[uid])
        except CaseRejected as rejection:
            faults.append((uid, rejection))
    spoilt = {uid for uid, _ in faults if uid is not None}
    labelled = {uid for uid in index.series if labels.get(uid)} | spoilt
    if not labelled and not faults:
        raise InputError(
            f"{folder}: {len(index.series)} CT series, but no RTSTRUCT or SEG that labels one"
        )
    ids = _ids({uid: index.series[uid].folder for uid in sorted(labelled)}, folder)
    findings = [
        from_rejection(rejection, _within(folder, rejection) if uid is None else ids[uid])
        for uid, rejection in faults
    ]
    left = [one.folder for uid, one in index.series.items() if uid not in labelled]
    if left:
        names = some(one.relative_to(folder).as_posix() for one in left)
        told = f"CT series without labels left out ({len(left)}): {names}"
        findings.append(finding("source.left-out", str(folder), "", told))
    whole = [CaseSource(ids[uid], index.series[uid], labels[uid]) for uid in labelled - spoilt]
    return SourceFolder(sorted(whole, key=lambda case: case.id), findings=tuple(findings))


def _within(folder: Path, rejection: CaseRejected) -> str:
    """What stands for the case where a file belongs to none."""
    return Path(rejection.file).relative_to(folder).as_posix()


def _by_folder(index: Index) -> dict[Path, set[str]]:
    """The series that have slices in a folder."""
    found: dict[Path, set[str]] = {}
    for uid, series in index.series.items():
        for path in series.files:
            found.setdefault(path.parent, set()).add(uid)
    return found


def _join(found: dict[str, Path | Stored], one: LabelObject, series: DicomSeries) -> None:
    for name, label in _labels(one, series).items():
        if name in found:
            raise CaseRejected(
                str(one.path),
                f"label {name!r}",
                f"also in {Path(str(found[name])).name}; keep one of them",
                "case.ambiguous",
            )
        found[name] = label


def _labels(one: LabelObject, series: DicomSeries) -> dict[str, Stored]:
    if one.kind == "rtstruct":
        return {
            name: Contours(one.path, name, number, series)
            for name, number in read_roi_names(one.path).items()
        }
    return {
        name: SegmentFrames(one.path, name, numbers)
        for name, numbers in read_segment_names(one.path).items()
    }


def _series_of(one: LabelObject, index: Index) -> str:
    here = sorted(one.series & index.series.keys())
    if not here and not one.series:
        here = [u for u, f in index.frames_of_reference.items() if f in one.frames_of_reference]
    if len(here) == 1:
        return here[0]
    if here:
        raise CaseRejected(
            str(one.path),
            "ReferencedSeriesSequence",
            f"{len(here)} series fit; give one of them",
            "case.ambiguous",
        )
    told = ", ".join(sorted(one.series)) or "none by name"
    raise CaseRejected(
        str(one.path),
        "ReferencedSeriesSequence",
        f"the series that it references ({told}) is not in this folder",
        "case.no-image",
    )


def _ids(folders: dict[str, Path], root: Path) -> dict[str, str]:
    """The first folder below `root` where that tells series apart, else more of the path.

    Series that share a folder are told apart by a hash of their UID; names of patients in tags
    never become ids.
    """
    parts = {uid: folder.relative_to(root).parts for uid, folder in folders.items()}
    longest = max((len(found) for found in parts.values()), default=0)
    for depth in range(1, longest + 1):
        short = {uid: "-".join(found[:depth]) for uid, found in parts.items()}
        if len(set(short.values())) == len(short) and all(short.values()):
            return {uid: _plain(name) for uid, name in short.items()}
    return {
        uid: _plain("-".join((*found, f"series-{hashlib.sha256(uid.encode()).hexdigest()[:8]}")))
        for uid, found in parts.items()
    }


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-")[-128:] or "case"
