from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clnet.data_catalog.shard import CHUNK, Shard, write_shard
from clnet.errors import IntegrityError

SHAPE = (2, 70, 33, 20)  # a chunk and more, more than two, less than one


def voxels(dtype: Any = np.int16) -> NDArray[Any]:
    """Noise in one half of space, nothing in the other."""
    values = np.random.default_rng(0).integers(-99, 99, SHAPE).astype(dtype)
    values[:, CHUNK:, :CHUNK] = 0
    return values


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shard") / "array"
    write_shard(folder, voxels(), ("layer", "z", "y", "x"))
    return folder


@given(st.tuples(*[st.tuples(st.integers(0, n), st.integers(0, n)) for n in SHAPE]))
def test_any_box_reads_as_it_was_written(stored: Path, bounds: tuple[tuple[int, int], ...]) -> None:
    box = tuple(slice(min(pair), max(pair)) for pair in bounds)
    np.testing.assert_array_equal(Shard(stored).read(box), voxels()[box])


def test_other_readers_of_zarr_open_the_same_files(stored: Path) -> None:
    array = zarr.open_array(stored, mode="r")
    np.testing.assert_array_equal(array[...], voxels())
    assert array.metadata.dimension_names == ("layer", "z", "y", "x")


def test_one_shard_holds_it_all(stored: Path) -> None:
    files = sorted(str(path.relative_to(stored)) for path in stored.rglob("*") if path.is_file())
    assert files == ["c/0/0/0/0", "zarr.json"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16])
def test_types_are_kept(tmp_path: Path, dtype: Any) -> None:
    values = np.abs(voxels(np.int16)).astype(dtype)[0]
    write_shard(tmp_path / "array", values, ("z", "y", "x"))
    shard = Shard(tmp_path / "array")
    read = shard.read(tuple(slice(0, size) for size in shard.shape))
    assert read.dtype == shard.dtype == dtype
    np.testing.assert_array_equal(read, values)


def test_an_array_of_nothing_is_told_from_one_that_is_gone(tmp_path: Path) -> None:
    write_shard(tmp_path / "array", np.zeros((40, 40, 40), np.uint8), ("z", "y", "x"))
    assert not Shard(tmp_path / "array").read((slice(0, 40),) * 3).any()
    (tmp_path / "array/c/0/0/0").unlink()
    with pytest.raises(FileNotFoundError):
        Shard(tmp_path / "array")


def test_what_is_open_stays_readable_when_it_is_removed(tmp_path: Path) -> None:
    write_shard(tmp_path / "array", voxels(), ("layer", "z", "y", "x"))
    shard = Shard(tmp_path / "array")
    (tmp_path / "array/c/0/0/0/0").unlink()
    np.testing.assert_array_equal(shard.read(tuple(slice(0, n) for n in SHAPE)), voxels())


def test_threads_read_one_shard_at_once(stored: Path) -> None:
    shard, expected, wrong = Shard(stored), voxels(), []

    def read(seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(20):
            z, y = int(draw.integers(0, 40)), int(draw.integers(0, 20))
            box = np.s_[0:2, z : z + 30, y : y + 13, 0:20]
            wrong.extend([seed] * (not np.array_equal(shard.read(box), expected[box])))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_damage_is_told(tmp_path: Path) -> None:
    for number, damage in enumerate((_cut, _garble_index, _garble_chunk, _empty, _other_meta)):
        folder = tmp_path / str(number)
        write_shard(folder, voxels(), ("layer", "z", "y", "x"))
        damage(folder)
        with pytest.raises(IntegrityError, match="damaged"):
            Shard(folder).read(tuple(slice(0, n) for n in SHAPE))


def _cut(folder: Path) -> None:
    file = folder / "c/0/0/0/0"
    file.write_bytes(file.read_bytes()[:-40])


def _garble_index(folder: Path) -> None:
    file = folder / "c/0/0/0/0"
    file.write_bytes(file.read_bytes()[:-20] + b"\x7f" * 20)


def _garble_chunk(folder: Path) -> None:
    file = folder / "c/0/0/0/0"
    file.write_bytes(b"\xff" * 32 + file.read_bytes()[32:])


def _empty(folder: Path) -> None:
    (folder / "c/0/0/0/0").write_bytes(b"")


def _other_meta(folder: Path) -> None:
    (folder / "zarr.json").write_text('{"shape": [1]}')
