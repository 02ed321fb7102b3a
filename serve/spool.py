"""A bounded folder for scans in work and results to fetch; nothing in it outlives the service."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clnet.errors import NotFound
from clnet.storage import atomic_directory

__all__ = ["Spool", "new_id"]

SCANS, RESULTS = "scans", "results"


def new_id() -> str:
    """A random id of 128 bits that says nothing about scan or user."""
    return secrets.token_hex(16)


class Spool:
    """Scans that wait, and the files of finished results, each under a random id.

    Ids and file names that come from users are looked up in what is there; they never
    become part of a path unseen.

    Args:
        folder: readable by this user alone; made if absent.
        most_bytes: results beyond this are dropped, the oldest first.
    """

    def __init__(self, folder: Path, most_bytes: int = 8 << 30) -> None:
        for part in (SCANS, RESULTS):
            (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._folder = folder
        self._most_bytes = most_bytes

    def keep_scan(self, key: str, hu: NDArray[np.int16]) -> None:
        """Keep the voxels of a waiting scan on disk instead of in memory."""
        np.save(self._scan(key), hu)

    def scan(self, key: str) -> NDArray[np.int16]:
        """The voxels of a waiting scan, read-only and still on disk.

        They stay readable when the scan is dropped. A plain array, as Ray copies those straight
        to shared memory and pickles a ``numpy.memmap`` twice over in memory before.
        """
        return np.asarray(np.load(self._scan(key), mmap_mode="r"))

    def drop_scan(self, key: str) -> None:
        """Forget a scan, whether it is there or not."""
        self._scan(key).unlink(missing_ok=True)

    def keep_result(self, key: str, files: Mapping[str, bytes]) -> list[str]:
        """Store all files of a result at once; returns the keys dropped to make room."""
        with atomic_directory(self._folder / RESULTS / key) as target:
            for name, data in files.items():
                path = target / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
        return self._shrink(keep=key)

    def result_file(self, key: str, name: str) -> Path:
        """A file of a result.

        Raises:
            NotFound: no such result, or it has no file of that name.
        """
        for path in self._files(key):
            if path.relative_to(self._folder / RESULTS / key).as_posix() == name:
                return path
        raise NotFound(f"{name}: this result has no such file")

    def drop_result(self, key: str) -> None:
        """Forget a result, whether it is there or not."""
        shutil.rmtree(self._folder / RESULTS / key, ignore_errors=True)

    def _scan(self, key: str) -> Path:
        return self._folder / SCANS / f"{key}.npy"

    def _files(self, key: str) -> list[Path]:
        return [p for p in (self._folder / RESULTS / key).rglob("*") if p.is_file()]

    def _shrink(self, keep: str) -> list[str]:
        folders = [p for p in (self._folder / RESULTS).iterdir() if not p.name.startswith(".")]
        sizes = {p.name: sum(f.stat().st_size for f in self._files(p.name)) for p in folders}
        dropped = []
        for folder in sorted(folders, key=lambda p: p.stat().st_mtime):
            if sum(sizes.values()) <= self._most_bytes:
                break
            if folder.name != keep:
                del sizes[folder.name]
                self.drop_result(folder.name)
                dropped.append(folder.name)
        return dropped
