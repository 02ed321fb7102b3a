"""One writer at a time, across threads and processes of a machine."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from clnet.storage.writable import make_folder

__all__ = ["Hold", "exclusive", "exclusive_or_none"]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the block; waits while another holder has it.

    The operating system frees the lock when its holder dies, however it dies, so a crash
    never leaves it taken. The (empty) file stays.
    """
    with _open(path) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def exclusive_or_none(path: Path) -> Iterator[bool]:
    """As :func:`exclusive`, but without waiting; yields whether the lock is held."""
    with _open(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class Hold:
    """Keeps exclusive holders of `path` out until it is released, or garbage; waits for them."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.release = weakref.finalize(self, os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)


def _open(path: Path) -> BinaryIO:
    make_folder(path.parent)
    return path.open("ab")
