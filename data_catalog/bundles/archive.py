"""The archive itself: written whole or not at all, and read as if an enemy had made it.

Nothing is ever unpacked to a path that an archive names: voxels go straight into arrays whose
size is known beforehand. Entries are stored without compression, so together they are no larger
than the file; what is deflated inside of them is bounded while it is inflated.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.errors import InputError

__all__ = ["add", "deflate", "inflate", "new_archive", "open_archive", "read_small"]

MOST_AT_ONCE = 16 << 20
"""Bytes read in one go; the directory of an archive is, and this bounds its entries."""

ENTRY_BYTES = 46
"""Of an archive's directory, at least, that an entry takes."""

BLOCK = 1 << 18
LEVEL = 3
_DATE = (1980, 1, 1, 0, 0, 0)
_DAMAGED = (
    zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError,
    struct.error, zlib.error, KeyError, OverflowError,
)  # fmt: skip


@contextmanager
def new_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive to write; it appears under `path` when the block is done."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        yield archive


def add(archive: zipfile.ZipFile, name: str, blocks: Iterator[bytes]) -> None:
    """Write one entry."""
    with archive.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as stream:
        for block in blocks:
            stream.write(block)


def deflate(voxels: NDArray[Any]) -> Iterator[bytes]:
    """Voxels ``(Z, Y, X)``, slice by slice; of wide ones first all low bytes, then all high ones.

    The high bytes of a scan are nearly constant, and so take nearly nothing.
    """
    packer = zlib.compressobj(LEVEL)
    for plane in voxels:
        little = np.ascontiguousarray(plane, plane.dtype.newbyteorder("<"))
        rows = little.view(np.uint8).reshape(-1, little.dtype.itemsize)
        yield packer.compress(np.ascontiguousarray(rows.T).tobytes())
    yield packer.flush()


class _Bounded(io.BufferedReader):
    """A file of which nobody reads more at once than an honest archive needs."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > MOST_AT_ONCE:
            left = os.fstat(self.fileno()).st_size - self.tell()
            if left > MOST_AT_ONCE:
                raise InputError(f"{self.name}: more entries, or larger ones, than a bundle has")
        return super().read(size)


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive to read: only stored entries, no two of one name, no more than the file holds.

    Raises:
        InputError: it is no such archive.
    """
    try:
        raw = io.FileIO(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    with _Bounded(raw) as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except _DAMAGED as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not a bundle, or damaged ({error})") from None
        with archive:
            _check(path, archive.infolist(), os.fstat(stream.fileno()).st_size)
            yield archive


def _check(path: Path, entries: list[zipfile.ZipInfo], size: int) -> None:
    names = {entry.filename for entry in entries}
    if len(names) != len(entries):
        raise InputError(f"{path}: holds two entries of one name; not a bundle")
    if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 0x1 for e in entries):
        raise InputError(f"{path}: holds packed or encrypted entries; not a bundle")
    if any(e.compress_size != e.file_size or e.file_size < 0 for e in entries) or (
        sum(e.file_size + ENTRY_BYTES for e in entries) > size
    ):
        raise InputError(f"{path}: its entries are larger than itself; not a bundle")


def read_small(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    """A whole entry.

    Raises:
        InputError: it is not there, damaged, or larger than `most_bytes`.
    """
    try:
        entry = archive.getinfo(name)
        if entry.file_size > most_bytes:
            raise InputError(f"{name}: {entry.file_size:,} bytes; {most_bytes:,} is the most")
        with archive.open(entry) as stream:
            blocks = []
            while block := stream.read(BLOCK):
                blocks.append(block)
        return b"".join(blocks)
    except _DAMAGED as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{archive.filename or 'bundle'}: {name}: damaged ({error})") from None


def inflate(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Voxels that :func:`deflate` wrote; never more than `shape` takes are held.

    Raises:
        InputError: damaged, or fewer or more than `shape`.
    """
    z, y, x = shape
    planes = np.empty((z, dtype.itemsize, y * x), np.uint8)
    try:
        with archive.open(name) as stream:
            _fill(stream, planes.data.cast("B"))
    except _DAMAGED as error:
        raise InputError(f"{name}: damaged, or not what its header declares ({error})") from None
    if dtype.itemsize == 1:
        return planes.reshape(shape).view(dtype)
    rows = np.ascontiguousarray(planes.transpose(0, 2, 1))
    return rows.view(dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)


def _fill(stream: Any, raw: memoryview) -> None:
    unpacker = zlib.decompressobj()
    filled = 0
    while block := stream.read(BLOCK):
        while block and not unpacker.eof:
            # one byte more than there is room for: enough to see that there is too much
            out = unpacker.decompress(block, min(1 << 20, len(raw) - filled + 1))
            if filled + len(out) > len(raw):
                raise ValueError("unpacks to more")
            raw[filled : filled + len(out)] = out
            filled += len(out)
            block = unpacker.unconsumed_tail
        if unpacker.eof and (unpacker.unused_data or block):
            raise ValueError("something follows the voxels")
    if filled != len(raw) or not unpacker.eof:
        raise ValueError("ends too early")
