"""Layouts of files, written as patterns."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator

from clnet.data_catalog.source import stem
from clnet.data_catalog.sources.folder import SourceFolder
from clnet.data_catalog.sources.pairing import Pairing
from clnet.errors import InputError

__all__ = ["Layout"]

MAX_FILES = 2_000_000


class Layout(BaseModel):
    """Where images and labels lie in a folder, as patterns of paths relative to it.

    ``{id}`` stands for the case (the same text wherever it occurs), ``{name}`` for the label
    that a mask shows, ``*`` for anything within a name, ``**/`` for any folders or none. Suffixes
    are part of the pattern: ``{id}/structures/{name}.nrrd``.

    Attributes:
        image: the CT; its ``{id}`` is the case's name.
        labels: a label map, or with ``{name}`` one mask per label.
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

    def cases(self, folder: Path) -> SourceFolder:
        """The cases of a folder. Images without labels (test sets) are left out, and noted.

        Raises:
            InputError: no case at all.
        """
        return self.pair(folder).cases(test_images=True)

    def pair(self, folder: Path) -> Pairing:
        """Images and labels by case."""
        image, labels = _compile(self.image), _compile(self.labels)
        found = Pairing(folder, f"images {self.image} and labels {self.labels}")
        for relative, path in _walk(folder):
            if match := image.fullmatch(relative):
                found.image(match["id"], path)
            elif match := labels.fullmatch(relative):
                if "name" in match.groupdict():
                    found.mask(match["id"], match["name"], path)
                else:
                    found.label_map(match["id"], path)
        return found


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
