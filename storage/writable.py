"""Places where something is to be written, and what the system has against it."""

from __future__ import annotations

import os
from pathlib import Path

from clnet.errors import InputError

__all__ = ["check_file", "check_folder", "make_folder"]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; one that is there is left as it is.

    Raises:
        InputError: a file is in the way, or the system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: no folder can be made there ({error.strerror}); choose another place"
        ) from error


def check_folder(folder: Path) -> None:
    """See that files can be written into a folder, which need not be there yet.

    To be asked before work whose result goes there; nothing is made.

    Raises:
        InputError: it or what it would lie in is a file, or lets nobody write.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise InputError(f"{folder}: {nearest} is not a folder; choose another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: {nearest} is not writable; choose another place")


def check_file(file: Path) -> None:
    """See that a file can be written, in a folder that need not be there yet.

    Raises:
        InputError: it is a folder, or that holds for :func:`check_folder` of where it lies.
    """
    if file.is_dir():
        raise InputError(f"{file}: is a folder; name a file")
    check_folder(file.parent)
