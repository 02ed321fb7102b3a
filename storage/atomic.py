"""Files and folders that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clnet.errors import AlreadyExists
from clnet.storage.location import local_path, remote_filesystem
from clnet.storage.writable import make_folder

__all__ = [
    "TEMPORARY",
    "atomic_directory",
    "atomic_write",
    "new_file",
    "publish",
    "scratch_directory",
    "sweep_temporaries",
]

TEMPORARY = ".tmp-"
"""Prefix of what is being written; readers skip such names."""


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that becomes `target` when the block succeeds.

    On an exception the folder is removed and `target` never appears. A process that is killed
    leaves the temporary folder behind, for :func:`sweep_temporaries`.

    Raises:
        AlreadyExists: `target` is there, before or after the block.
        InputError: nothing can be made beside it.
    """
    if target.exists():
        raise AlreadyExists(f"{target} exists already and is never overwritten")
    with scratch_directory(target.parent) as temporary:
        yield temporary
        publish(temporary, target)


@contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder in `parent`, removed after the block unless published.

    Raises:
        InputError: no folder can be made there.
    """
    make_folder(parent)
    temporary = _temporary(parent)
    make_folder(temporary)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(temporary: Path, target: Path) -> None:
    """Sync a finished scratch folder to disk and rename it to `target`.

    Raises:
        AlreadyExists: `target` is there.
    """
    _sync_tree(temporary)
    # rename() replaces an empty folder without a word, hence the look before
    if not target.exists():
        try:
            temporary.rename(target)
            _sync(target.parent)
            return
        except OSError:
            if not target.exists():
                raise
    raise AlreadyExists(f"{target} was written by another process meanwhile")


def atomic_write(path_or_url: str | Path, data: bytes) -> None:
    """Write `data` so that a reader sees the old content or the new, never a part.

    Local files go through a synced temporary file and a rename. An object store shows an
    object under its key only once the upload is complete.

    Raises:
        InputError: the file's folder cannot be made.
    """
    path = local_path(path_or_url)
    if path is None:
        filesystem, key = remote_filesystem(str(path_or_url))
        filesystem.pipe_file(key, data)
        return
    make_folder(path.parent)
    temporary = _temporary(path.parent)
    try:
        with temporary.open("xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file, which becomes `path` when the block succeeds.

    Unlike :func:`atomic_write` it takes files of any size, and never replaces one.

    Raises:
        AlreadyExists: `path` is there, before or after the block.
        InputError: the file's folder cannot be made.
    """
    taken = AlreadyExists(f"{path} exists already and is never overwritten")
    if path.exists():
        raise taken
    make_folder(path.parent)
    temporary = _temporary(path.parent)
    try:
        yield temporary
        _sync(temporary)
        try:
            os.link(temporary, path)  # a rename would replace what is there
        except FileExistsError:
            raise taken from None
        except OSError:  # a disk to carry around, without hard links
            if path.exists():
                raise taken from None
            temporary.rename(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sweep_temporaries(folder: Path) -> int:
    """Remove what killed processes left in `folder`; returns how many.

    Call it only while holding the lock under which the folder is written: a temporary of a
    living writer looks the same.
    """
    leftovers = list(folder.glob(f"{TEMPORARY}*"))
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    return len(leftovers)


def _temporary(folder: Path) -> Path:
    return folder / f"{TEMPORARY}{uuid.uuid4().hex}"


def _sync_tree(folder: Path) -> None:
    for directory, _, files in os.walk(folder):
        for name in files:
            _sync(Path(directory) / name)
        _sync(Path(directory))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
