"""Large arrays in temporary files instead of memory, and how they are walked."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from clnet.errors import InputError

__all__ = ["Room", "Scratch", "scratch_folder", "slabs"]

Room = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]
"""Where a large array of zeros lies: ``Scratch().zeros`` in a file, ``numpy.zeros`` in memory."""

SLAB_VALUES = 1 << 18  # of an array, in memory at once

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
MOUNTS = Path("/proc/self/mounts")


class Scratch:
    """Arrays in files that have no name: they vanish with their last reader, even in a crash.

    The kernel writes them out and reads them again as it needs memory, so they are not part of
    what a process holds.

    Args:
        folder: where the files are; by default the first folder for temporary files that is
            on a disk.

    Attributes:
        bytes: of all arrays that were asked for.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else scratch_folder()
        self.bytes = 0

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """A writable array of zeros, rows first.

        Raises:
            InputError: the disk has no room for it.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with tempfile.TemporaryFile(dir=self.folder) as file:
            try:
                # room that is missing is an error here, and would be a SIGBUS when written
                if hasattr(os, "posix_fallocate"):  # macOS has none
                    os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise InputError(
                    f"temporary folder {self.folder}: no room for {size / 2**20:.0f} MiB "
                    f"({error.strerror}); free some, or set TMPDIR to a folder with more"
                ) from error
            array = np.asarray(np.memmap(file, dtype=dtype, mode="r+", shape=shape))
        self.bytes += size
        return array


def slabs(rows: int, values: int, check: Callable[[], None] | None = None) -> Iterator[slice]:
    """Stretches of an axis of `rows`, each of about 260,000 values, one row at least.

    Args:
        rows: of the array.
        values: that each row takes.
        check: called before each stretch; what it raises ends the work.
    """
    step = max(1, SLAB_VALUES // values)
    for first in range(0, rows, step):
        if check is not None:
            check()
        yield slice(first, min(first + step, rows))


def scratch_folder() -> Path:
    """The folder for temporary files; ``/var/tmp`` where that one lies in memory."""
    usual = Path(tempfile.gettempdir())
    disk = Path("/var/tmp")  # noqa: S108 (files there have no name)
    if _filesystem(usual) in IN_MEMORY and os.access(disk, os.W_OK) and "TMPDIR" not in os.environ:
        return disk if _filesystem(disk) not in IN_MEMORY else usual
    return usual


def _filesystem(folder: Path) -> str:
    """Type of the file system of `folder`; empty where the machine does not say."""
    if not MOUNTS.exists():
        return ""
    inside = folder.resolve()
    found = ("", "")
    for line in MOUNTS.read_text().splitlines():
        _, point, kind, *_ = line.split(" ")
        if inside.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, kind)
    return found[1]
