"""A scan to be segmented goes from its file to a temporary one, never whole into memory."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from clnet.data_catalog.hounsfield import as_hounsfield
from clnet.data_catalog.volume import read_volume
from clnet.errors import CaseRejected
from clnet.model.scratch import Scratch

AFFINE = np.diag([-1.5, 2.0, 3.0, 1.0])


def hu(shape: tuple[int, int, int] = (9, 8, 7), dtype: Any = np.int16) -> NDArray[Any]:
    return np.random.default_rng(0).integers(-1000, 1500, shape).astype(dtype)


def spooled(path: Path) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    scratch = Scratch(path.parent)
    volume = read_volume(path, allocate=scratch.zeros)
    return as_hounsfield(volume.voxels, str(path), scratch.zeros), volume.affine


def lies_in_a_file(array: Any) -> bool:
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def test_a_system_that_cannot_reserve_room_spools_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)  # as on macOS
    zeros = Scratch(tmp_path).zeros((3, 4, 5), np.int16)
    assert lies_in_a_file(zeros)
    assert not zeros.any()


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.nrrd"])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, ">i2"])
def test_what_is_spooled_is_what_is_read(name: str, dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("nrrd"):
        import SimpleITK as sitk

        sitk.WriteImage(sitk.GetImageFromArray(hu(dtype=np.dtype(dtype).newbyteorder("="))), path)
    else:
        image = nib.Nifti1Image(hu(dtype=dtype), AFFINE)
        image.set_data_dtype(dtype)
        image.set_qform(AFFINE, 1)
        nib.save(image, path)
    found, affine = spooled(path)
    volume = read_volume(path)
    assert found.dtype == np.int16
    assert lies_in_a_file(found)
    np.testing.assert_array_equal(found, as_hounsfield(volume.voxels, "ct"))
    np.testing.assert_array_equal(affine, volume.affine)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("kind", "at", "packed"), [(nib.Nifti1Image, 112, "<2f"), (nib.Nifti2Image, 176, "<2d")]
)
def test_rescaled_voxels_are_rescaled(kind: Any, at: int, packed: str, tmp_path: Path) -> None:
    image = kind(hu() + np.int16(1024), AFFINE)
    image.set_qform(AFFINE, 1)
    data = bytearray(image.to_bytes())
    struct.pack_into(packed, data, at, 1.0, -1024.0)
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(gzip.compress(bytes(data)))
    found, _ = spooled(path)
    np.testing.assert_array_equal(found, hu())
    np.testing.assert_array_equal(found, as_hounsfield(read_volume(path).voxels, "ct"))


def test_a_large_scan_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii.gz"
    image = nib.Nifti1Image(np.tile(hu((64, 64, 32)), (4, 4, 4)), AFFINE)
    image.set_qform(AFFINE, 1)
    path.write_bytes(gzip.compress(image.to_bytes(), 1))
    size = image.get_fdata(dtype=np.float32).nbytes // 2
    tracemalloc.start()
    found, _ = spooled(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.nbytes == size == 16 << 20
    assert peak < 9 << 20


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: b"no scan at all", "unreadable"),
        (lambda data: data[:-6] + b"\0\0" + data[-4:], "unreadable"),
    ],
)
def test_damaged_files_are_refused_by_their_own_name(
    damage: Any, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "ct.nii.gz"
    image = nib.Nifti1Image(hu((20, 20, 20)), AFFINE)
    image.set_qform(AFFINE, 1)
    path.write_bytes(damage(gzip.compress(image.to_bytes())))
    with pytest.raises(CaseRejected, match=reason) as caught:
        spooled(path)
    assert caught.value.file == str(path)


def test_what_is_no_ct_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii"
    image = nib.Nifti1Image(np.abs(hu()), AFFINE)
    nib.save(image, path)
    with pytest.raises(CaseRejected, match=r"ct\.nii.*Hounsfield"):
        spooled(path)
    with pytest.raises(CaseRejected, match="not found"):
        spooled(tmp_path / "absent.nii.gz")
