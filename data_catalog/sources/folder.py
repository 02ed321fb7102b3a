"""What a source folder holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.validation import Finding, as_rejection
from clnet.errors import InputError

__all__ = ["SourceFolder", "folders_in", "some"]

SHOWN = 12
"""Names in a message; the rest is counted."""


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """The cases of a folder; no voxel has been read.

    Attributes:
        cases: sorted by id.
        names: label id to the names that the source gives it; several where regions overlap.
        unknown: label ids whose voxels the source leaves open.
        findings: what cannot be put together to a case (errors), and what was left out. Those
            about the folder as a whole are of the case ``""``.
    """

    cases: list[CaseSource]
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    findings: tuple[Finding, ...] = ()

    @property
    def broken(self) -> frozenset[str]:
        """Ids of the cases that cannot be put together."""
        return frozenset(found.case for found in self.findings if found.severity == "error")

    def usable(self, folder: Path) -> SourceFolder:
        """The same, if a case can be put together at all.

        Raises:
            CaseRejected: none can, for one reason.
            InputError: none can, for several.
        """
        if self.cases:
            return self
        errors = [as_rejection(found) for found in self.findings if found.severity == "error"]
        if len(errors) == 1:
            raise errors[0]
        more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
        raise InputError(
            f"{folder}: no usable case: {'; '.join(str(error) for error in errors[:3])}{more}"
        )


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones left out."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
