"""An array in one shard of a zarr v3 store: written by zarr, read from a memory map.

A patch touches dozens of small chunks, and zarr's way to each of them costs more than its
decompression: a patch of 96³ voxels takes zarr's own pipeline some twenty times as long as the
way taken here, and that of ``zarrs`` twice (``benchmarks/data.py`` measures all three). So the
chunks are found through the shard's index and decompressed here. Any zarr reader opens the files.

A map stays readable when the file is removed meanwhile, and needs no threads, so that processes
may be forked at any time.
"""

from __future__ import annotations

import itertools
import json
import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clnet.errors import IntegrityError
from clnet.storage import open_zarr_store

__all__ = ["CHUNK", "Shard", "write_shard"]

CHUNK = 32
"""Voxels of a chunk's edge: small, since a patch pays for every voxel of all that it touches."""

CODEC: Final = "lz4hc"
LEVEL = 3
"""With bytes shuffled a tenth larger than zstd, and read three times as fast; higher levels hardly
shrink it and write much slower."""

INDEX_CHECKSUM = 4
ENTRY = np.dtype([("offset", "<u8"), ("size", "<u8")])
ABSENT = 2**64 - 1
"""Offset of a chunk that holds nothing but the fill value."""

META, SHARD_KEY = "zarr.json", "c"

Box = tuple[slice, ...]


def write_shard(folder: Path, voxels: NDArray[Any], dimensions: tuple[str, ...]) -> None:
    """Store an array in a new folder, in one shard and by one writer.

    Args:
        voxels: its last three axes are of space, those before lie in a chunk as a whole.
        dimensions: names of the axes.
    """
    import zarr
    from zarr.codecs import BloscCodec, BloscShuffle

    before = voxels.ndim - 3
    chunks = voxels.shape[:before] + tuple(min(CHUNK, size) for size in voxels.shape[before:])
    array = zarr.create_array(
        open_zarr_store(folder),
        shape=voxels.shape,
        dtype=voxels.dtype,
        chunks=chunks,
        shards=tuple(
            -(-size // chunk) * chunk for size, chunk in zip(voxels.shape, chunks, strict=True)
        ),
        compressors=BloscCodec(cname=CODEC, clevel=LEVEL, shuffle=BloscShuffle.shuffle),
        fill_value=0,
        dimension_names=dimensions,
        # a shard of nothing is written too: one that is missing was removed
        config={"write_empty_chunks": not voxels.any()},
    )
    array[...] = voxels


class Shard:
    """An array of :func:`write_shard`, read where it is sliced; safe for several threads.

    Attributes:
        shape: of the array.
        dtype: of its values.

    Raises:
        FileNotFoundError: it is not there, or no longer.
        IntegrityError: it is not as it was written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            self.shape: tuple[int, ...] = tuple(meta["shape"])
            self.dtype: np.dtype[Any] = np.dtype(meta["data_type"])
            (codec,) = meta["codecs"]
            self._chunk = tuple(codec["configuration"]["chunk_shape"])
            path = folder.joinpath(SHARD_KEY, *("0" for _ in self.shape))
            with path.open("rb") as file:
                self._bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from None
        grid = [-(-size // chunk) for size, chunk in zip(self.shape, self._chunk, strict=True)]
        self._strides = [math.prod(grid[axis + 1 :]) for axis in range(len(grid))]
        self._index = self._read_index(math.prod(grid))

    def __repr__(self) -> str:
        return f"Shard({str(self._folder)!r}, shape={self.shape}, dtype={self.dtype})"

    def read(self, box: Box) -> NDArray[Any]:
        """A box, one slice per axis, each within the array and of step 1."""
        from numcodecs import blosc

        # its pool of threads does not survive a fork; zarr sets the same
        blosc.use_threads = False
        out = np.empty([part.stop - part.start for part in box], dtype=self.dtype)
        chunk = np.empty(self._chunk, dtype=self.dtype)
        axes = [
            list(_spans(part, size, stride))
            for part, size, stride in zip(box, self._chunk, self._strides, strict=True)
        ]
        for parts in itertools.product(*axes):
            numbers, sources, targets = zip(*parts, strict=True)
            offset, size = self._index[sum(numbers)]
            if offset == ABSENT:
                out[targets] = 0
                continue
            try:
                blosc.decompress(self._bytes[offset : offset + size], chunk)
            except (RuntimeError, ValueError) as error:
                raise self._damaged(error) from None
            out[targets] = chunk[sources]
        return out

    def _read_index(self, chunks: int) -> list[tuple[int, int]]:
        end = len(self._bytes) - INDEX_CHECKSUM
        start = end - chunks * ENTRY.itemsize
        if start < 0:
            raise self._damaged("too short for its index")
        index = np.frombuffer(self._bytes[start:end], dtype=ENTRY)
        held = index["offset"] != ABSENT
        # neither sum can overflow where both parts are within the file
        inside = (index["offset"] <= start) & (index["size"] <= start)
        if not (inside & (index["offset"] + index["size"] <= start))[held].all():
            raise self._damaged("its index points beyond it")
        rows: list[tuple[int, int]] = index.tolist()
        return rows

    def _damaged(self, reason: object) -> IntegrityError:
        return IntegrityError(
            f"{self._folder}: damaged ({reason}); remove this folder's parent, it is made again"
        )


def _spans(part: slice, chunk: int, stride: int) -> Iterator[tuple[int, slice, slice]]:
    """The chunks under a slice: what they add to a chunk's number, source and target."""
    for number in range(part.start // chunk, -(-part.stop // chunk)):
        first = number * chunk
        low, high = max(part.start, first), min(part.stop, first + chunk)
        yield (
            number * stride,
            slice(low - first, high - first),
            slice(low - part.start, high - part.start),
        )
