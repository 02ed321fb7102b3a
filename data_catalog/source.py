"""Where a contributor's cases are: an image, and one label map or one mask per name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clnet.data_catalog.segment import SEGMENTS
from clnet.data_catalog.volume import SUFFIXES, Stored
from clnet.errors import CaseRejected, InputError

__all__ = ["CaseSource", "Labels", "check_ids", "image_files", "stem", "volumes_in"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

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


def image_files(folder: Path) -> list[tuple[str, Path]]:
    """Image files of a folder with their stems, sorted; hidden ones left out."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file())
    return [(name, path) for path in files if (name := stem(path)) is not None]


def volumes_in(folder: Path) -> dict[str, Path]:
    """Image files of a folder by stem, hidden ones left out.

    Raises:
        CaseRejected: two files with one stem.
    """
    found: dict[str, Path] = {}
    for name, path in image_files(folder):
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
