"""Uploaded scans: judged by their header before a voxel is read, decompressed no further than it.

A NIfTI header is 348 or 540 bytes and says how large the volume is. So a file that would fill
the memory is refused while nothing but its header has been decompressed, and a compressed file
is never expanded past the size its header states.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.hounsfield import as_hounsfield
from clnet.errors import CaseRejected, InputError

__all__ = ["ScanHeader", "ScanRefused", "UploadLimits", "read_header", "read_scan"]

GZIP_MAGIC = b"\x1f\x8b"
HEADER_SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
SLAB_VOXELS = 1 << 18  # as float64 at once
NO_ORIENTATION = (
    "the header states no orientation (qform_code and sform_code are 0): "
    "left and right may be swapped"
)
SPACING_MM = (0.05, 50.0)


class ScanRefused(InputError):
    """An upload that cannot be segmented.

    Attributes:
        reason: what is wrong, one sentence.
        where: the part of the request or file at fault (``file``, ``file.header.dim`` ...).
        hint: what to do about it.
        status: HTTP status code that fits.
    """

    def __init__(self, reason: str, where: str, hint: str, status: int = 422) -> None:
        super().__init__(f"{where}: {reason}; {hint}")
        self.reason = reason
        self.where = where
        self.hint = hint
        self.status = status

    def __reduce__(self) -> tuple[type[ScanRefused], tuple[str, str, str, int]]:
        return type(self), (self.reason, self.where, self.hint, self.status)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How large a scan may be.

    Attributes:
        voxels: most voxels of a volume; the default is 512 x 512 x 2000.
        bytes: most bytes of an upload, compressed or not.
    """

    voxels: int = 512 * 512 * 2000
    bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class ScanHeader:
    """What a header says of its volume.

    Attributes:
        nifti: the header itself, which the masks inherit.
        shape: voxels per axis in the file's own order.
        affine: voxel indices to RAS+ mm.
        warnings: doubts that do not stop a segmentation.
    """

    nifti: Any
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    warnings: tuple[str, ...]


def read_header(upload: BinaryIO, limits: UploadLimits) -> ScanHeader:
    """Judge an upload by its first bytes.

    Raises:
        ScanRefused: not a NIfTI volume of three axes, larger than `limits`, or with a header
            that contradicts itself.
    """
    return _parse_header(_plain(upload), limits)


def read_scan(
    upload: BinaryIO, limits: UploadLimits, allocate: Allocate = in_memory
) -> tuple[ScanHeader, NDArray[np.int16]]:
    """Header and voxels in HU, int16, in the file's own axis order.

    Args:
        allocate: gives room for the voxels as stored, and for HU where that is something else.

    Raises:
        ScanRefused: as :func:`read_header`; or truncated, damaged, not finite, not like CT.
    """
    file = _plain(upload)
    header = _parse_header(file, limits)
    nifti = header.nifti
    stored = allocate(header.shape[::-1], nifti.get_data_dtype()).T
    _skip(file, int(nifti["vox_offset"]) - int(nifti.sizeof_hdr))
    _fill(file, stored.reshape(-1, order="F").view(np.uint8).data)
    hu = _to_hounsfield(stored, nifti, allocate)
    _like_ct(hu)
    return header, hu


def _plain(upload: BinaryIO) -> BinaryIO:
    """The bytes of an upload, decompressed as they are read if it is a gzip file."""
    upload.seek(0)
    compressed = upload.read(2) == GZIP_MAGIC
    upload.seek(0)
    return cast("BinaryIO", gzip.GzipFile(fileobj=upload, mode="rb")) if compressed else upload


def _read(file: BinaryIO, count: int) -> bytes:
    try:
        data = file.read(count)
    except (EOFError, OSError, zlib.error) as error:
        raise _truncated(str(error)) from None
    return data


def _truncated(detail: str) -> ScanRefused:
    return ScanRefused(
        f"the file ends early or is damaged ({detail})",
        "file",
        "check that it opens in a viewer, then upload it again",
        400,
    )


def _parse_header(file: BinaryIO, limits: UploadLimits) -> ScanHeader:
    first = _read(file, 4)
    sizes = {order: int.from_bytes(first, order) for order in ("little", "big")}
    size = next((s for s in sizes.values() if s in HEADER_SIZES), 0)
    if not size:
        raise ScanRefused(
            "not a NIfTI file",
            "file",
            "upload one CT as .nii or .nii.gz (dcm2niix converts DICOM folders)",
            415,
        )
    block = first + _read(file, size - 4)
    if len(block) < size:
        raise _truncated(f"{len(block)} bytes of a header of {size}")
    header: Any = HEADER_SIZES[size](block, check=False)  # type: ignore[no-untyped-call]
    shape = _shape(header, limits)
    offset = float(header["vox_offset"])
    if not size <= offset <= size + (1 << 20):
        raise ScanRefused(
            f"vox_offset {offset:g} does not follow the header",
            "file.header.vox_offset",
            "save header and voxels in one .nii file, not as a .hdr/.img pair",
        )
    try:
        dtype = header.get_data_dtype()
    except nib.spatialimages.HeaderDataError:
        dtype = np.dtype("V1")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ScanRefused(
            f"voxels of type {dtype}",
            "file.header.datatype",
            "save the CT as 16-bit integers or 32-bit floats in Hounsfield units",
        )
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    _check_affine(affine)
    return ScanHeader(header, shape, affine, _doubts(header))


def _shape(header: Any, limits: UploadLimits) -> tuple[int, int, int]:
    dims = [int(d) for d in header["dim"]]
    axes, sizes = dims[0], dims[1:]
    shape = tuple(sizes[: max(0, min(axes, 7))])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    where = "file.header.dim"
    if len(shape) != 3 or min(shape) < 2:
        raise ScanRefused(
            f"shape {'x'.join(map(str, shape)) or 'none'}, not a volume",
            where,
            "upload one CT volume of three axes with at least two voxels each",
        )
    voxels = shape[0] * shape[1] * shape[2]
    if voxels > limits.voxels:
        raise ScanRefused(
            f"{voxels:,} voxels, more than the {limits.voxels:,} that this service takes",
            where,
            "crop the scan, or ask for a larger limit",
            413,
        )
    return shape[0], shape[1], shape[2]


def _check_affine(affine: NDArray[np.float64]) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    usable = (
        np.isfinite(affine).all()
        and ((spacing >= SPACING_MM[0]) & (spacing <= SPACING_MM[1])).all()
    )
    if not usable or abs(np.linalg.det(affine[:3, :3] / np.maximum(spacing, 1e-9))) < 1e-3:
        raise ScanRefused(
            f"no usable grid in the header (voxel spacing {np.round(spacing, 4).tolist()} mm)",
            "file.header.sform",
            "repair qform or sform; spacing is read in mm",
        )


def _doubts(header: Any) -> tuple[str, ...]:
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        return (NO_ORIENTATION,)
    return ()


def _skip(file: BinaryIO, count: int) -> None:
    if len(_read(file, count)) < count:
        raise _truncated("before the first voxel")


def _fill(file: BinaryIO, target: memoryview) -> None:
    """Read exactly the bytes of `target`; one read more makes gzip check its own checksum."""
    filled = 0
    while filled < len(target):
        data = _read(file, min(len(target) - filled, 1 << 20))
        if not data:
            raise _truncated(f"{filled:,} of {len(target):,} bytes of voxels")
        target[filled : filled + len(data)] = data
        filled += len(data)
    _read(file, 1)


def _to_hounsfield(stored: NDArray[Any], header: Any, allocate: Allocate) -> NDArray[np.int16]:
    slope, intercept = header.get_slope_inter()
    slope, intercept = (1.0 if slope is None else slope), (intercept or 0.0)
    if stored.dtype == np.int16 and (slope, intercept) == (1.0, 0.0):
        return stored
    hu: NDArray[np.int16] = allocate(stored.shape[::-1], np.int16).T
    step = max(1, SLAB_VOXELS // (stored.shape[0] * stored.shape[1]))
    for start in range(0, stored.shape[2], step):
        slab = stored[:, :, start : start + step].astype(np.float64) * slope + intercept
        if not np.isfinite(slab).all():
            raise ScanRefused(
                f"voxels that are not finite (NaN or infinite) from slice {start} on",
                "file.voxels",
                "replace them, air is -1024 HU",
            )
        hu[:, :, start : start + step] = np.clip(np.rint(slab), -32768, 32767)
    return hu


def _like_ct(hu: NDArray[np.int16]) -> None:
    try:
        as_hounsfield(hu, "file")
    except CaseRejected as error:
        raise ScanRefused(
            error.reason,
            "file.voxels",
            "upload the CT itself, in Hounsfield units, not a mask, a picture or an MR scan",
        ) from None
