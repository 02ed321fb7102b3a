"""What a source folder holds, and layouts of files written as patterns."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator

from clnet.data_catalog.segment import SEGMENTS, read_segments
from clnet.data_catalog.source import CaseSource, as_labels, stem
from clnet.data_catalog.volume import Stored
from clnet.errors import CaseRejected, InputError

__all__ = ["Layout", "SourceFolder", "mask_of"]

MAX_FILES = 2_000_000


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """The cases of a folder; no voxel has been read.

    Attributes:
        cases: sorted by id.
        names: label id to the names that the source gives it; several where regions overlap.
        unknown: label ids whose voxels the source leaves open.
        rejected: what belongs to a case, but cannot be put together to one.
        notes: what was left out, and why.
    """

    cases: list[CaseSource]
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    rejected: tuple[CaseRejected, ...] = ()
    notes: tuple[str, ...] = ()


class Layout(BaseModel):
    """Where images and labels lie in a folder, as patterns of paths relative to it.

    ``{id}`` stands for the case (the same text wherever it occurs), ``{name}`` for the label
    that a mask shows, ``*`` for anything within a name, ``**/`` for any folders or none. Suffixes
    are part of the pattern: ``{id}/structures/{name}.nrrd``.

    Attributes:
        image: the CT; its ``{id}`` is the case's name.
        labels: a label map, or with ``{name}`` one mask per label. Several patterns are tried
            for every file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    labels: str

    @field_validator("image", "labels")
    @classmethod
    def _names_the_case(cls, pattern: str) -> str:
        if "{id}" not in pattern:
            raise ValueError("{id} must be part of the pattern")
        return pattern

    def cases(self, folder: Path) -> list[CaseSource]:
        """The cases whose image and labels are both there, sorted by id.

        Images without labels (test sets) are left out.

        Raises:
            CaseRejected: two images, or two label maps, of one case.
            InputError: no case at all.
        """
        image, labels = _compile(self.image), _compile(self.labels)
        images: dict[str, Path] = {}
        maps: dict[str, Path] = {}
        masks: dict[str, dict[str, Path | Stored]] = {}
        for relative, path in _walk(folder):
            if found := image.fullmatch(relative):
                _add(images, found["id"], path)
            elif found := labels.fullmatch(relative):
                if "name" in found.groupdict():
                    masks.setdefault(found["id"], {})[found["name"]] = mask_of(path)
                else:
                    _add(maps, found["id"], path)
        both = images.keys() & (maps.keys() | masks.keys())
        if not both:
            raise InputError(
                f"{folder}: no case: looked for images {self.image} ({len(images)} found) and "
                f"labels {self.labels} ({len(maps) + len(masks)} found)"
            )
        return [
            CaseSource(i, images[i], masks[i] if i in masks else as_labels(maps[i]))
            for i in sorted(both)
        ]


def mask_of(path: Path) -> Path | Stored:
    """A file that shows one label: the file itself, or the only segment in it."""
    if not path.name.endswith(SEGMENTS):
        return path
    segments = list(read_segments(path).values())
    if len(segments) > 1:
        raise CaseRejected(str(path), "segments", f"{len(segments)} segments; one is expected")
    return segments[0]


def _add(found: dict[str, Path], case_id: str, path: Path) -> None:
    other = found.setdefault(case_id, path)
    if other is not path:
        raise CaseRejected(str(path), "id", f"{other.name} is also of case {case_id}")


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Image files below `folder`, links to folders not followed, in order."""
    seen = 0
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            seen += 1
            if seen > MAX_FILES:
                raise InputError(f"{folder}: more than {MAX_FILES} files; name a smaller folder")
            if stem(path) is not None:
                yield path.relative_to(folder).as_posix(), path


def _compile(pattern: str) -> re.Pattern[str]:
    text, seen = "", set()
    for part in re.split(r"(\{id\}|\{name\}|\*\*/|\*)", pattern):
        if part in ("{id}", "{name}"):
            key = part[1:-1]
            # a name never has a dot followed by an image suffix: the pattern's own follows
            text += f"(?P={key})" if key in seen else f"(?P<{key}>[^/]+?)"
            seen.add(key)
        elif part == "**/":
            text += "(?:[^/]+/)*"
        elif part == "*":
            text += "[^/]*"
        else:
            text += re.escape(part)
    return re.compile(text)
