"""Where a contributor's cases are: an image, and one label map or one mask per name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clnet.data_catalog.segment import SEGMENTS, read_segments
from clnet.data_catalog.volume import SUFFIXES, Stored
from clnet.errors import CaseRejected, InputError

__all__ = ["CaseSource", "Labels", "as_labels", "check_ids", "find_cases", "stem", "volumes_in"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LAYOUTS = (("images", "labels"), ("imagesTr", "labelsTr"))

Labels = Path | Stored | Mapping[str, Path | Stored]


@dataclass(frozen=True, slots=True)
class CaseSource:
    """One case as files.

    Attributes:
        id: its name within the dataset: letters, digits, ``.``, ``_`` and ``-``.
        image: the CT: a file, or a DICOM series.
        labels: one label map whose ids are the mapping's keys, or one mask per mapping key.
            A key without a mask is unknown in this case.
    """

    id: str
    image: Path | Stored
    labels: Labels


def check_ids(cases: Iterable[CaseSource]) -> None:
    """Refuse ids that are no plain names, or that a case-insensitive disk would confuse.

    Raises:
        CaseRejected: with the field ``id``.
        InputError: there is no case at all.
    """
    seen: set[str] = set()
    for case in cases:
        if not _ID.fullmatch(case.id):
            raise CaseRejected(
                str(case.image),
                "id",
                f"{case.id!r}: use letters, digits, '.', '_' and '-', 128 at most, "
                "starting with a letter or digit",
            )
        if case.id.casefold() in seen:
            raise CaseRejected(str(case.image), "id", f"{case.id!r} is there twice")
        seen.add(case.id.casefold())
    if not seen:
        raise InputError("no case given: a dataset holds at least one")


def find_cases(source: Path) -> list[CaseSource]:
    """Pair ``images/ID.nii.gz`` with ``labels/ID.nii.gz`` (or ``labels/ID/NAME.nii.gz``).

    nnU-Net's folders ``imagesTr`` and ``labelsTr`` are taken too; its channel suffix
    ``_0000`` is not part of the id.

    Raises:
        InputError: `source` has neither layout.
        CaseRejected: an image without labels, or labels without an image.
    """
    for images, labels in _LAYOUTS:
        if (source / images).is_dir() and (source / labels).is_dir():
            return _pair(source / images, source / labels)
    raise InputError(f"{source}: no folders images/ and labels/ (or imagesTr/ and labelsTr/)")


def _pair(images: Path, labels: Path) -> list[CaseSource]:
    scans = {stem.removesuffix("_0000"): path for stem, path in volumes_in(images).items()}
    maps: dict[str, Labels] = {name: as_labels(path) for name, path in volumes_in(labels).items()}
    for folder in sorted(labels.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            maps[folder.name] = dict(volumes_in(folder))
    for case_id in sorted(scans.keys() ^ maps.keys()):
        if case_id in scans:
            raise CaseRejected(str(scans[case_id]), "labels", f"no label map in {labels}")
        raise CaseRejected(str(labels / case_id), "image", f"no image of that name in {images}")
    return [CaseSource(case_id, scans[case_id], maps[case_id]) for case_id in sorted(scans)]


def volumes_in(folder: Path) -> dict[str, Path]:
    """Image files of a folder by stem, hidden ones left out.

    Raises:
        CaseRejected: two files with one stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = stem(path)
        if name is None or not path.is_file():
            continue
        if name in found:
            raise CaseRejected(str(path), "id", f"{found[name].name} has the same name")
        found[name] = path
    return found


def stem(path: Path) -> str | None:
    """The name of an image file without its suffix; None for anything else and hidden files."""
    suffix = next((s for s in (SEGMENTS, *SUFFIXES) if path.name.endswith(s)), None)
    if suffix is None or path.name.startswith("."):
        return None
    return path.name.removesuffix(suffix)


def as_labels(path: Path) -> Labels:
    """A file of labels: its segments by name where the format has them, else one label map."""
    return dict(read_segments(path)) if path.name.endswith(SEGMENTS) else path
