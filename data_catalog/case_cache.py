"""Cases that live elsewhere, fetched whole into a folder of bounded size."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from clnet.data_catalog.case import Case
from clnet.data_catalog.eviction import DATA, LOCK, evict, remove, remove_unused
from clnet.data_catalog.manifest import CaseRecord
from clnet.storage import Hold, atomic_directory, exclusive, sweep_temporaries

__all__ = ["CaseCache"]


class CaseCache:
    """Fetched cases by the hash of their content; each was compared with it once.

    A case that is open keeps its bytes until it is garbage: zarr reads a chunk that is gone as
    zeros, without a word.

    Args:
        root: the folder.
        fetch: puts the zarr group of a case into an existing folder.
        max_bytes: what may be kept; the case just fetched stays whatever its size. No limit by
            default.
    """

    def __init__(
        self,
        root: Path,
        fetch: Callable[[CaseRecord, Path], None],
        max_bytes: int | None = None,
    ) -> None:
        self.root, self.max_bytes = root, max_bytes
        self._fetch = fetch

    def open(self, record: CaseRecord) -> Case:
        """The case, fetched if need be.

        Raises:
            IntegrityError: what was fetched is not what was contributed; nothing of it is kept.
        """
        target = self._folder(record.sha256)
        while True:
            held = Hold(target.parent / LOCK)
            if target.exists():
                os.utime(target)
                return Case(record, target, held)
            held.release()
            with exclusive(target.parent / LOCK):
                if not target.exists():
                    sweep_temporaries(target.parent)
                    with atomic_directory(target) as folder:
                        self._fetch(record, folder)
                        Case(record, folder).verify()
            if self.max_bytes is not None:
                evict(self.root, self.max_bytes, keep=target, how=remove_unused)

    def forget(self, sha256: str) -> None:
        """Remove a case if it is here."""
        remove(self._folder(sha256))

    def _folder(self, sha256: str) -> Path:
        return self.root / "cases" / sha256 / DATA
