"""Folders that can be made again, within a limit of bytes: those unused for longest go first.

A root holds ``<kind>/<key>/data``, each with a lock file beside ``data``; using one touches it.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clnet.storage import TEMPORARY, exclusive, exclusive_or_none

__all__ = ["DATA", "LOCK", "evict", "remove", "remove_unused", "size_of", "stored_bytes"]

DATA = "data"
LOCK = ".lock"


def stored_bytes(root: Path) -> int:
    """Bytes of everything under `root`."""
    return sum(size_of(folder) for folder in _all(root))


def evict(
    root: Path,
    max_bytes: int,
    keep: Path | None = None,
    how: Callable[[Path], bool] | None = None,
) -> int:
    """Remove what was unused for longest until `max_bytes` remain; returns bytes freed.

    Args:
        keep: a folder that stays.
        how: removes one and says whether it did; :func:`remove` by default.
    """
    sizes = {folder: size_of(folder) for folder in _all(root)}
    excess = sum(sizes.values()) - max_bytes
    freed = 0
    for folder in sorted(sizes.keys() - {keep}, key=_last_used):
        if freed >= excess:
            break
        if (how or remove)(folder):  # else another process evicted it meanwhile
            freed += sizes[folder]
    return freed


def remove(folder: Path) -> bool:
    """Remove a ``data`` folder, whoever reads it; whether it was there."""
    with exclusive(folder.parent / LOCK):
        return _out_of_sight(folder)


def remove_unused(folder: Path) -> bool:
    """Remove a ``data`` folder unless somebody holds its lock; whether that was done."""
    with exclusive_or_none(folder.parent / LOCK) as held:
        return held and _out_of_sight(folder)


def size_of(folder: Path) -> int:
    """Bytes of its files; those that another process removes meanwhile count no more."""
    size = 0
    for directory, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                size += os.stat(os.path.join(directory, name)).st_size
    return size


def _out_of_sight(folder: Path) -> bool:
    """By a rename first, so that no reader finds half of it."""
    doomed = folder.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return False
    shutil.rmtree(doomed)
    return True


def _all(root: Path) -> list[Path]:
    return list(root.glob(f"*/*/{DATA}"))


def _last_used(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
