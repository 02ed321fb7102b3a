"""Codecs and chunks of the plan store, each read by ourselves and through zarr's pipelines."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zarr
from data_readers import store_bytes
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from clnet.data_catalog.shard import Shard

__all__ = ["CODECS", "compare_codecs"]

CODECS = (
    ("lz4hc", 3, "shuffle", 32),
    ("lz4hc", 9, "shuffle", 32),
    ("lz4hc", 3, "shuffle", 64),
    ("lz4", 5, "shuffle", 32),
    ("lz4", 5, "bitshuffle", 32),
    ("zstd", 1, "shuffle", 32),
    ("zstd", 3, "bitshuffle", 32),
    ("zstd", 3, "bitshuffle", 64),
)
PIPELINES = {
    "zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarrs": "zarrs.ZarrsCodecPipeline",
}


def compare_codecs(
    hu: NDArray[np.int16], edge: int, place: Path, patches: int, rounds: int
) -> list[dict[str, Any]]:
    """Bytes, seconds to write, and patches of HU per second of each codec and reader."""
    rows = []
    for name, level, shuffle, chunk in CODECS:
        folder = place / "codec"
        shards = tuple(-(-size // chunk) * chunk for size in hu.shape)
        began = time.perf_counter()
        array = zarr.create_array(
            folder,
            shape=hu.shape,
            dtype=hu.dtype,
            chunks=(chunk,) * 3,
            shards=shards,
            compressors=BloscCodec(cname=name, clevel=level, shuffle=shuffle),  # type: ignore[arg-type]
            fill_value=0,
        )
        array[...] = hu
        row: dict[str, Any] = {
            "codec": f"{name}-{level} {shuffle}, {chunk}³",
            "bytes": store_bytes(folder),
            "write_seconds": time.perf_counter() - began,
        }
        readers: dict[str, Any] = {"own": Shard(folder).read}
        for pipeline, path in PIPELINES.items():
            if find_spec(pipeline):
                with zarr.config.set({"codec_pipeline.path": path}):
                    readers[pipeline] = zarr.open_array(folder, mode="r").__getitem__
        seen: dict[str, list[float]] = {reader: [] for reader in readers}
        for number in range(rounds):
            boxes = _boxes(hu.shape, edge, patches, number)
            for reader, read in readers.items():
                began = time.perf_counter()
                for box in boxes:
                    read(box)
                seen[reader].append(patches / (time.perf_counter() - began))
        rows.append(row | {reader: median(rates) for reader, rates in seen.items()})
        shutil.rmtree(folder)
    return rows


def _boxes(
    shape: Sequence[int], edge: int, count: int, seed: int
) -> list[tuple[slice, slice, slice]]:
    rng = np.random.default_rng(seed)
    corners = [[int(rng.integers(0, size - edge + 1)) for size in shape] for _ in range(count)]
    return [(*(slice(c, c + edge) for c in corner),) for corner in corners]  # type: ignore[misc]
