"""Manifests that this process has read before, by the hash of their bytes."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from clnet.data_catalog.manifest import Manifest

__all__ = ["ParsedManifests"]


class ParsedManifests:
    """The manifests parsed last, up to a number of cases in all; safe to use from threads.

    A manifest's bytes are read and hashed each time, which costs little. What is kept is the
    result of parsing them: a file that changes in any way is another entry, whatever its name,
    size and times say.

    Args:
        most_cases: cases that the kept manifests hold together, about 1.5 KB each.
    """

    def __init__(self, most_cases: int) -> None:
        self._most_cases = most_cases
        self._kept: OrderedDict[str, Manifest] = OrderedDict()
        self._cases = 0
        self._lock = Lock()

    def get(self, sha256: str) -> Manifest | None:
        """The manifest whose bytes have this hash, if it is kept."""
        with self._lock:
            if sha256 in self._kept:
                self._kept.move_to_end(sha256)
            return self._kept.get(sha256)

    def keep(self, sha256: str, manifest: Manifest) -> None:
        """Keep a manifest that was checked; those unused for longest make room for it."""
        with self._lock:
            if sha256 in self._kept or len(manifest.cases) > self._most_cases:
                return
            self._kept[sha256] = manifest
            self._cases += len(manifest.cases)
            while self._cases > self._most_cases:
                _, gone = self._kept.popitem(last=False)
                self._cases -= len(gone.cases)

    def __len__(self) -> int:
        return len(self._kept)
