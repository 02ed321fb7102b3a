"""How much a site keeps, and how much it may."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clnet.data_catalog.dataset import Dataset
from clnet.data_catalog.eviction import size_of
from clnet.data_catalog.manifest import CaseRecord
from clnet.errors import QuotaExceeded

__all__ = ["Allowance", "Room", "Usage", "check_room", "usage_of", "write_sizes"]

SIZES = "sizes.json"
"""Of a version whose voxels live elsewhere: bytes of each case by its hash."""

Files = dict[tuple[int, int] | str, int]
"""Size of each file by device and inode, or of each case by its hash: what several versions
share counts once."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a site may keep; None for no limit."""

    most_bytes: int | None = None
    most_cases: int | None = None

    def check(self, site: str, usage: Usage) -> None:
        """Compare with what the site would keep.

        Raises:
            QuotaExceeded: it is more.
        """
        for what, limit, kept in (
            ("bytes", self.most_bytes, usage.bytes),
            ("cases", self.most_cases, usage.cases),
        ):
            if limit is not None and kept > limit:
                raise QuotaExceeded(
                    f"site {site}: would keep {kept:,} {what}, its quota is {limit:,}; withdraw "
                    "and erase what is no longer needed, or ask the hub for more"
                )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a site keeps.

    Attributes:
        bytes: on disk. A scan that another site keeps too counts in full for both.
        cases: by content; the same case in two versions counts once.
    """

    bytes: int
    cases: int


class Room:
    """What a site may still write, so that a large contribution is stopped before its end.

    Cases that the site keeps already cost nothing: they will share their bytes.

    Args:
        site: its name.
        allowance: what it may keep.
        datasets: its versions.
    """

    def __init__(self, site: str, allowance: Allowance, datasets: Iterable[Dataset]) -> None:
        kept = [dataset for dataset in datasets if not dataset.erased]
        self._site, self._allowance = site, allowance
        self._usage = usage_of(kept)
        self._cases = {record.sha256 for one in kept for record in one.manifest.cases}

    def take(self, record: CaseRecord, folder: Path) -> None:
        """Count a case that was written into a folder.

        Raises:
            QuotaExceeded: there is no room for it.
        """
        if record.sha256 not in self._cases:
            self._cases.add(record.sha256)
            size = self._usage.bytes + size_of(folder)
            self._usage = Usage(size, len(self._cases))
            self._allowance.check(self._site, self._usage)


def usage_of(datasets: Iterable[Dataset]) -> Usage:
    """What is kept in versions of one site."""
    return _usage(datasets, {}, ())


def check_room(
    site: str,
    datasets: Iterable[Dataset],
    allowance: Allowance,
    new: Path,
    records: Iterable[CaseRecord],
) -> None:
    """See that a finished version in folder `new` fits beside the site's `datasets`.

    To be called while holding the site's lock, so that two at once cannot share the same room.

    Raises:
        QuotaExceeded: it does not.
    """
    if allowance != Allowance():
        allowance.check(site, _usage(datasets, _files(new), records))


def _usage(datasets: Iterable[Dataset], files: Files, records: Iterable[CaseRecord]) -> Usage:
    cases = {record.sha256 for record in records}
    for dataset in datasets:
        files |= _files(dataset.folder)
        if not dataset.erased:
            cases |= {record.sha256 for record in dataset.manifest.cases}
    return Usage(sum(files.values()), len(cases))


def write_sizes(folder: Path, sizes: Mapping[str, int]) -> None:
    """Write down what the cases of a version take, where they do not lie in its folder."""
    (folder / SIZES).write_text(json.dumps(sizes), encoding="utf-8")


def _files(folder: Path) -> Files:
    with suppress(FileNotFoundError):
        sizes: Files = json.loads((folder / SIZES).read_bytes())
        return sizes
    found: Files = {}
    for directory, _, names in os.walk(folder):
        for name in names:
            status = os.stat(os.path.join(directory, name), follow_symlinks=False)
            found[status.st_dev, status.st_ino] = status.st_size
    return found
