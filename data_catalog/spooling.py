"""A CT read from a file into a temporary file, so that memory does not grow with the scan."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.hounsfield import as_hounsfield
from clnet.data_catalog.volume import DEFAULT_MAX_BYTES, NIFTI, read_volume
from clnet.errors import CaseRejected

__all__ = ["spool_hounsfield"]

CHUNK = 1 << 20
HEADER_ROOM = 16 << 20  # what may lie before and after the voxels
SLAB_VOXELS = 1 << 20

Allocate = Callable[[tuple[int, ...], Any], NDArray[Any]]


def spool_hounsfield(
    path: Path, allocate: Allocate, folder: Path, max_bytes: int = DEFAULT_MAX_BYTES
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Voxels in HU and the affine of a NIfTI, NRRD or MHA file.

    NIfTI is read in slabs, compressed or not; SimpleITK reads the others at once.

    Args:
        path: of the image.
        allocate: gives an array of zeros of a shape and type, in a temporary file.
        folder: for a temporary file with the voxels as stored.
        max_bytes: largest volume, in bytes of voxels by the header.

    Returns:
        int16 HU ``(x, y, z)`` in a file, and voxel indices to RAS+ mm, 4x4 float64.

    Raises:
        CaseRejected: the file cannot be read, or is not a CT in HU.
    """
    if not path.name.endswith(NIFTI) or not path.is_file():
        volume = read_volume(path, max_bytes)
        out = _like_stored(volume.voxels.shape, np.int16, allocate)
        return as_hounsfield(volume.voxels, str(path), out), volume.affine
    with tempfile.TemporaryDirectory(dir=folder) as place:
        plain = Path(place) / "scan.nii"
        try:
            slope, intercept = _unpack(path, plain, max_bytes + HEADER_ROOM)
        except Exception:  # a damaged file makes the parser raise anything
            read_volume(path, max_bytes)  # says what is wrong with the file
            raise
        try:
            volume = read_volume(plain, max_bytes)  # its voxels stay in the file
        except CaseRejected as error:
            error.args = (str(error).replace(str(plain), str(path)),)
            error.file = str(path)
            raise
    voxels = volume.voxels
    if (slope, intercept) != (1.0, 0.0):
        voxels = _like_stored(voxels.shape, np.float32, allocate)
        step = max(1, SLAB_VOXELS // max(1, voxels.shape[0] * voxels.shape[1]))
        for first in range(0, voxels.shape[2], step):
            slab = (..., slice(first, first + step))
            voxels[slab] = volume.voxels[slab] * slope + intercept
    if voxels.dtype == np.int16:
        return as_hounsfield(voxels, str(path)), volume.affine
    out = _like_stored(voxels.shape, np.int16, allocate)
    return as_hounsfield(voxels, str(path), out), volume.affine


def _unpack(path: Path, plain: Path, most_bytes: int) -> tuple[float, float]:
    """Copy a NIfTI file without compression and rescaling, which are undone and told instead."""
    import nibabel as nib

    packed: Any = gzip.open(path) if path.name.endswith(".gz") else path.open("rb")  # noqa: SIM115
    with packed as source, plain.open("wb") as target:
        start = source.read(540)
        two = int.from_bytes(start[:4], "little") in (540, 0x1C020000)
        kind: Any = nib.Nifti2Header if two else nib.Nifti1Header
        length = 540 if two else 348
        header = kind(start[:length], check=False)
        slope, intercept = header.get_slope_inter()
        header["scl_slope"], header["scl_inter"] = 1, 0
        target.write(header.binaryblock + start[length:])
        written = len(start)
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > most_bytes:
                raise ValueError("more data than a scan may hold")
            target.write(chunk)
    return 1.0 if slope is None else float(slope), float(intercept or 0.0)


def _like_stored(shape: tuple[int, ...], dtype: Any, allocate: Allocate) -> NDArray[Any]:
    """An array whose first axis lies together, as in NIfTI files."""
    return allocate(shape[::-1], dtype).T
