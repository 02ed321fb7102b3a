"""Read one image file as the voxels and the affine that it holds, whatever is wrong with it."""

from __future__ import annotations

import gzip
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.allocation import Allocate, in_memory, slabs
from clnet.data_catalog.container import check_nifti_header, check_packed, check_self_contained
from clnet.errors import CaseRejected, InputError

__all__ = [
    "DEFAULT_MAX_BYTES",
    "SUFFIXES",
    "Stored",
    "Volume",
    "check_size",
    "itk_affine",
    "itk_texts",
    "read_volume",
]

DEFAULT_MAX_BYTES = 2 * 1024**3
"""Largest volume read, in bytes of voxels as the header declares them."""

MAX_TAIL_BYTES = 16 * 1024**2
"""What may follow the voxels: a bomb of zeros would take minutes to unpack to its end."""

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".mha")
SUFFIXES = NIFTI + ITK

NIFTI1_SIZES = (348, 0x5C010000)
NIFTI2_SIZES = (540, 0x1C020000)
"""First four bytes of a file, the header's length, in little and in big endian."""

_NIFTI1_HEADER, _NIFTI2_HEADER = 348, 540
_NIFTI_TEXTS = ("data_type", "db_name", "descrip", "aux_file", "intent_name")

_ITK_TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")  # by SimpleITK's pixel id


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels as stored in a file.

    Attributes:
        voxels: shape ``(x, y, z)`` in the file's own orientation, rescale applied.
        affine: voxel indices ``(x, y, z, 1)`` to RAS+ mm, 4x4 float64.
        file: where it came from, for messages.
        texts: free text of the header by field, in which a person may be named.
        doubts: what the header leaves open about the voxels, by the code of a finding.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    file: str
    texts: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[str, str] = field(default_factory=dict)


class Stored(Protocol):
    """Voxels that are no image file of their own: a DICOM series, a contour, a segment.

    Its text (``str``) names it in messages. As a label it may cover a part of the image's grid;
    it is empty elsewhere.
    """

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that hold it."""

    def read(self, max_bytes: int, allocate: Allocate = in_memory) -> Volume:
        """Its voxels, in arrays that `allocate` gives.

        Raises:
            CaseRejected: unusable, or larger than `max_bytes` by its headers.
        """


def read_volume(
    path: Path | Stored,
    max_bytes: int | None = DEFAULT_MAX_BYTES,
    max_ratio: float | None = None,
    allocate: Allocate = in_memory,
) -> Volume:
    """Read a three-dimensional scalar image (NIfTI, NRRD or MHA), or what knows how to be read.

    Args:
        max_bytes: largest volume, in bytes of voxels by the header; None for whatever `allocate`
            has room for.
        max_ratio: how many times its size a large file may unpack to; no limit by default.
        allocate: gives the arrays. NIfTI is read into them in slabs; NRRD and MHA are read by
            SimpleITK, which holds the whole file meanwhile.

    Raises:
        CaseRejected: missing, unreadable, truncated, not 3D, not scalar, without an
            orientation, with voxels in another file, or larger than `max_bytes` or the file
            itself allow by its header, which is read first.
        InputError: `allocate` has no room.
    """
    max_bytes = sys.maxsize if max_bytes is None else max_bytes
    if not isinstance(path, Path):
        return path.read(max_bytes, allocate)
    file = str(path)
    if not path.is_file():
        what = "is a folder; name a file in it" if path.is_dir() else "not found"
        raise CaseRejected(file, "file", what, "file.missing")
    if path.name.endswith(NIFTI):
        return _read_nifti(path, max_bytes, max_ratio, allocate)
    if path.name.endswith(ITK):
        return _read_itk(path, max_bytes, max_ratio, allocate)
    raise CaseRejected(
        file, "file", f"format not known; give one of {', '.join(SUFFIXES)}", "file.format"
    )


def _read_nifti(path: Path, max_bytes: int, max_ratio: float | None, allocate: Allocate) -> Volume:
    import nibabel as nib

    file = str(path)
    try:
        # nibabel writes to stderr what it repairs; what matters is judged here and there
        with nib.imageglobals.LoggingOutputSuppressor(), _open(path) as stream:
            kind = _check_start(path, stream.read(_NIFTI2_HEADER + 12))
            stream.seek(0)
            image: Any = kind.from_stream(stream)
            header = image.header
            shape = _spatial(int(n) for n in image.shape)
            size = _check_header(file, shape, np.dtype(image.get_data_dtype()), max_bytes)
            packed = isinstance(stream, gzip.GzipFile)
            check_packed(path, size, packed=packed, max_ratio=max_ratio)
            if not (int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0):
                raise CaseRejected(
                    file,
                    "affine",
                    "neither sform nor qform is set, so left and right are unknown; "
                    "convert again from DICOM or set the orientation",
                    "image.orientation-unset",
                )
            affine = np.asarray(image.affine, dtype=np.float64)
            voxels = _nifti_voxels(stream, image.dataobj, shape, allocate)
            if isinstance(stream, gzip.GzipFile):
                _read_to_end(file, stream, max_bytes)
    except InputError:  # judged here, or there is no room for the voxels
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file makes the parser raise anything
        raise _unreadable(file, error) from None
    return Volume(voxels, affine, file, _nifti_texts(header))


def _nifti_voxels(
    stream: gzip.GzipFile | BufferedReader,
    proxy: Any,
    shape: tuple[int, ...],
    allocate: Allocate,
) -> NDArray[Any]:
    """Voxels, rescaled, read slab by slab."""
    from nibabel.volumeutils import apply_read_scaling

    slope, inter = np.asanyarray(proxy.slope), np.asanyarray(proxy.inter)
    scaled = (slope, inter) != (1.0, 0.0)
    # float32 holds every integer that a CT may use, in half of the default's memory
    voxels = allocate(shape[::-1], np.float32 if scaled else proxy.dtype)
    stream.seek(proxy.offset)
    for slab in slabs(voxels):
        stored = np.empty(voxels[slab].shape, proxy.dtype) if scaled else voxels[slab]
        _fill(stored, stream)
        if scaled:
            voxels[slab] = apply_read_scaling(stored, slope, inter)
    return voxels.T


def _fill(array: NDArray[Any], stream: gzip.GzipFile | BufferedReader) -> None:
    room = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(room):
        count = stream.readinto(room[done:])
        if not count:
            raise EOFError("the file ends before the last voxel")
        done += count


def _check_start(path: Path, start: bytes) -> Any:
    """The class of NIfTI image that begins so, once its header is known to be of sane length."""
    import nibabel as nib

    size = int.from_bytes(start[:4], "little")
    if size not in NIFTI1_SIZES + NIFTI2_SIZES:
        raise CaseRejected(
            str(path), "file", "unreadable: does not begin as NIfTI does", "file.unreadable"
        )
    two = size in NIFTI2_SIZES
    kind: Any = nib.Nifti2Image if two else nib.Nifti1Image
    length = _NIFTI2_HEADER if two else _NIFTI1_HEADER
    header = kind.header_class(start[:length], check=False)
    extension = 0
    if len(start) >= length + 8 and start[length]:
        order = "<" if header.endianness == "<" else ">"
        extension = int(np.frombuffer(start, f"{order}i4", 1, length + 4)[0])
    check_nifti_header(path, float(header["vox_offset"]), extension)
    return kind


def _nifti_texts(header: Any) -> dict[str, str]:
    texts = {
        name: header[name].item() for name in _NIFTI_TEXTS if name in header.structarr.dtype.names
    }
    for number, extension in enumerate(header.extensions):
        texts[f"extension {number} (code {extension.get_code()})"] = extension.get_content()
    return {name: text for name, content in texts.items() if (text := _plain_text(content))}


def _plain_text(content: Any) -> str:
    if not isinstance(content, bytes):
        return str(content).strip()
    return content.replace(b"\0", b" ").decode("utf-8", errors="replace").strip()


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.GzipFile(path) if path.name.endswith(".gz") else path.open("rb")


def _read_to_end(file: str, stream: gzip.GzipFile, max_bytes: int) -> None:
    """Read what follows the voxels, so that gzip compares its checksum at the end."""
    extra = 0
    while block := stream.read(1 << 20):
        extra += len(block)
        if extra > min(max_bytes, MAX_TAIL_BYTES):
            raise CaseRejected(
                file, "file", "holds far more data than its header declares", "file.bomb"
            )


def _read_itk(path: Path, max_bytes: int, max_ratio: float | None, allocate: Allocate) -> Volume:
    import SimpleITK as sitk  # noqa: N813

    file = str(path)
    packed = check_self_contained(path)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(file, error) from None
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise CaseRejected(
            file, "voxels", f"{components} values a voxel; one is expected", "image.voxels"
        )
    shape = _spatial(reader.GetSize())
    pixel = reader.GetPixelID()
    if not 0 <= pixel < len(_ITK_TYPES):
        kind = sitk.GetPixelIDValueAsString(pixel)
        raise CaseRejected(
            file, "voxels", f"type {kind}; plain numbers are expected", "image.voxels"
        )
    size = _check_header(file, shape, np.dtype(_ITK_TYPES[pixel]), max_bytes)
    check_packed(path, size, packed=packed, max_ratio=max_ratio)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(file, error) from None
    stored = sitk.GetArrayViewFromImage(image).reshape(shape[::-1])
    voxels = allocate(stored.shape, stored.dtype)
    voxels[...] = stored
    return Volume(voxels.T, itk_affine(image), file, itk_texts(reader))


def itk_texts(reader: Any) -> dict[str, str]:
    """Free text of the header that a SimpleITK reader has read, by field."""
    texts: dict[str, str] = {}
    for number, key in enumerate(reader.GetMetaDataKeys()):
        try:
            text = str(reader.GetMetaData(key)).strip()
        except (TypeError, UnicodeDecodeError):  # a name or value that is no UTF-8
            key, text = f"field {number}", "(cannot be decoded)"
        if text:
            texts[key] = text
    return texts


def itk_affine(image: Any) -> NDArray[np.float64]:
    """Affine (RAS+ mm) of a SimpleITK image; axes beyond the third are left out."""
    n = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(n, n)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    affine[:2] *= -1  # ITK's world is LPS, nibabel's RAS
    return affine


def _spatial(sizes: Iterable[int]) -> tuple[int, ...]:
    """The shape without trailing axes of one element."""
    shape = tuple(sizes)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _check_header(file: str, shape: tuple[int, ...], dtype: np.dtype[Any], limit: int) -> int:
    """Bytes of voxels that a header declares, if it is a volume of numbers within the limit."""
    if len(shape) != 3:
        raise CaseRejected(
            file, "shape", f"{shape} has {len(shape)} dimensions; 3 are expected", "image.shape"
        )
    if min(shape) < 1:
        raise CaseRejected(file, "shape", f"{shape} holds no voxel", "image.shape")
    if dtype.kind not in "iuf":
        raise CaseRejected(
            file, "voxels", f"type {dtype}; plain numbers are expected", "image.voxels"
        )
    return check_size(file, shape, dtype, limit)


def check_size(file: str, shape: tuple[int, ...], dtype: np.dtype[Any], limit: int) -> int:
    """The bytes that a header declares.

    Raises:
        CaseRejected: they are more than `limit`.
    """
    size = math.prod(shape) * dtype.itemsize
    if size > limit:
        raise CaseRejected(
            file,
            "shape",
            f"the header declares {shape} voxels of {dtype}, {size / 1024**2:.0f} MiB; "
            f"the limit is {limit / 1024**2:.0f} MiB; crop it; contributions take larger ones "
            "where CLNET_SCAN_MAX_BYTES says so",
            "file.too-large",
        )
    return size


def _unreadable(file: str, error: Exception) -> CaseRejected:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__
    return CaseRejected(file, "file", f"unreadable or truncated ({reason})", "file.unreadable")
