"""How much is labelled: nothing at all, some labels empty, some of a few voxels."""

from __future__ import annotations

from collections.abc import Iterator

from clnet.data_catalog.validation.findings import Finding
from clnet.data_catalog.validation.subject import Subject

__all__ = ["check_amount"]

TINY = 8
"""Fewer voxels than this are rather a stray click than an organ."""


def check_amount(subject: Subject) -> Iterator[Finding]:
    """Empty and tiny labels."""
    counts = subject.counts
    empty = sorted(name for name, voxels in counts.items() if voxels == 0)
    tiny = sorted(
        (voxels, name) for name, voxels in counts.items() if 0 < voxels < TINY and "+" not in name
    )
    if len(empty) == len(counts):
        yield subject.about_labels("label.none", f"none of {_some(empty)} has a voxel")
    elif empty:
        yield subject.about_labels("label.empty", f"stored as absent: {_some(empty)}")
    if tiny:
        named = [f"{name} ({voxels} voxels)" for voxels, name in tiny]
        yield subject.about_labels("label.tiny", _some(named))


def _some(names: list[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
