"""Uploads are judged by their header first, and told what is wrong with them."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from clnet.model.scratch import Scratch
from clnet.serve.intake import ScanRefused, UploadLimits, read_header, read_scan

GRID = np.diag([2.0, 2.0, 3.0, 1.0])
LIMITS = UploadLimits(voxels=100_000, bytes=1 << 20)


def ct(shape: tuple[int, ...] = (9, 8, 7)) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)


def nifti(
    voxels: np.ndarray, affine: np.ndarray | None = None, kind: Any = nib.Nifti1Image
) -> bytes:
    return kind(voxels, np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine).to_bytes()


def refusal(data: bytes, limits: UploadLimits = LIMITS) -> ScanRefused:
    with pytest.raises(ScanRefused) as caught:
        read_scan(io.BytesIO(data), limits)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_scan_comes_in_as_it_was_stored(kind: Any, pack: Any) -> None:
    affine = np.array([[0, 0, 3, 1], [-2, 0, 0, 2], [0, 2, 0, 3], [0, 0, 0, 1.0]])
    header, hu = read_scan(io.BytesIO(pack(nifti(ct(), affine, kind))), LIMITS)
    assert np.array_equal(hu, ct())
    assert np.array_equal(header.affine, affine)
    assert header.warnings == ()


def test_slope_and_intercept_are_applied() -> None:
    header = nib.Nifti1Image(ct(), np.eye(4)).header.copy()
    header.set_data_dtype(np.uint16)
    header.set_slope_inter(0.5, -1024)
    header["vox_offset"] = 352
    stored = ((ct() + 1024) * 2).astype(np.uint16)
    data = header.binaryblock + bytes(4) + stored.tobytes(order="F")
    _, hu = read_scan(io.BytesIO(data), LIMITS)
    assert hu.dtype == np.int16
    assert np.array_equal(hu, ct())


def test_voxels_lie_where_there_is_room_for_them_and_not_in_memory() -> None:
    upload = io.BytesIO(gzip.compress(nifti(ct((128, 128, 256)).astype(np.float32)), 1))  # 16 MiB
    tracemalloc.start()
    _, hu = read_scan(upload, UploadLimits(), Scratch().zeros)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 12 << 20
    assert np.array_equal(hu, ct((128, 128, 256)))


def test_big_endian_floats_are_read() -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">f4")
    data = nib.Nifti1Image(ct().astype(">f4"), np.eye(4), header).to_bytes()
    _, hu = read_scan(io.BytesIO(data), LIMITS)
    assert np.array_equal(hu, ct())


def test_trailing_axes_of_one_voxel_are_dropped() -> None:
    _, hu = read_scan(io.BytesIO(nifti(ct()[..., None])), LIMITS)
    assert hu.shape == (9, 8, 7)


def test_a_header_without_orientation_is_doubted_not_refused() -> None:
    image = nib.Nifti1Image(ct(), None)
    image.header.set_qform(None, 0)
    image.header.set_sform(None, 0)
    header, _ = read_scan(io.BytesIO(image.to_bytes()), LIMITS)
    assert "left and right" in header.warnings[0]


@pytest.mark.parametrize("data", [b"", b"PK", b"not an image" * 100, gzip.compress(b"\x00" * 999)])
def test_other_files_are_refused(data: bytes) -> None:
    found = refusal(data)
    assert found.status == 415
    assert "NIfTI" in found.reason


@pytest.mark.parametrize("cut", [12, 200, -400, -9])
def test_a_truncated_gzip_is_refused(cut: int) -> None:
    found = refusal(gzip.compress(nifti(ct()))[:cut])
    assert found.status in {400, 415}
    assert found.where == "file"


@pytest.mark.parametrize("cut", [100, 350, -1])
def test_a_truncated_file_is_refused(cut: int) -> None:
    assert refusal(nifti(ct())[:cut]).status == 400


def test_damage_inside_a_gzip_is_noticed() -> None:
    data = bytearray(gzip.compress(nifti(ct())))
    data[-5] ^= 1  # the checksum
    assert "damaged" in refusal(bytes(data)).reason


@pytest.mark.parametrize("shape", [(20, 20), (20, 20, 1), (1, 20, 20), (5, 5, 5, 4)])
def test_what_is_not_a_volume_is_refused(shape: tuple[int, ...]) -> None:
    found = refusal(nifti(ct(shape)))
    assert found.where == "file.header.dim"
    assert found.status == 422


def test_a_bomb_is_refused_by_its_header_alone() -> None:
    image = nib.Nifti1Image(ct(), np.eye(4))
    header = image.header.copy()
    header["dim"] = [3, 32767, 32767, 32767, 1, 1, 1, 1]
    header["vox_offset"] = 352
    bomb = gzip.compress(header.binaryblock + bytes(1 << 22))
    reads: list[int] = []

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            reads.append(len(data))
            return data

    with pytest.raises(ScanRefused) as caught:
        read_header(Counting(bomb), LIMITS)
    assert caught.value.status == 413
    assert "voxels" in caught.value.reason


def test_a_gzip_is_not_expanded_past_its_volume() -> None:
    data = gzip.compress(nifti(ct()) + bytes(1 << 26))
    _, hu = read_scan(io.BytesIO(data), LIMITS)
    assert hu.shape == (9, 8, 7)


def test_negative_sizes_are_refused() -> None:
    header = nib.Nifti1Image(ct(), np.eye(4)).header.copy()
    header["dim"] = [3, -9, 8, 7, 1, 1, 1, 1]
    assert refusal(header.binaryblock + bytes(5000)).where == "file.header.dim"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused(value: float) -> None:
    voxels = ct().astype(np.float32)
    voxels[2, 3, 4] = value
    found = refusal(nifti(voxels))
    assert found.where == "file.voxels"
    assert "slice" in found.reason


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((5, 5, 5), np.uint8),
        np.arange(125).reshape(5, 5, 5).astype(np.uint8),
        np.linspace(-1, 1, 125).reshape(5, 5, 5).astype(np.float32),
    ],
    ids=["empty", "8-bit", "normalised"],
)
def test_what_is_not_in_hounsfield_units_is_refused(voxels: np.ndarray) -> None:
    found = refusal(nifti(voxels))
    assert found.where == "file.voxels"
    assert "Hounsfield" in found.hint


def test_colour_images_are_refused() -> None:
    rgb = np.zeros((5, 5, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert refusal(nifti(rgb)).where == "file.header.datatype"


@pytest.mark.parametrize(
    "affine", [np.diag([0.0, 1, 1, 1]), np.diag([1e4, 1, 1, 1]), np.diag([1.0, np.nan, 1, 1])]
)
def test_a_grid_that_is_none_is_refused(affine: np.ndarray) -> None:
    header = nib.Nifti1Image(ct(), np.eye(4)).header.copy()
    header["sform_code"] = 1
    for row, name in zip(affine[:3], ("srow_x", "srow_y", "srow_z"), strict=True):
        header[name] = row
    header["vox_offset"] = 352
    found = refusal(header.binaryblock + bytes(4) + ct().tobytes(order="F"))
    assert found.where == "file.header.sform"
