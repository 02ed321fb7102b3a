"""What a file promises against what it can hold, looked at before a voxel is unpacked."""

from __future__ import annotations

import re
from pathlib import Path

from clnet.errors import CaseRejected

__all__ = ["check_nifti_header", "check_packed", "check_self_contained"]

GZIP_RATIO = 1032
"""No deflate stream unpacks to more than this many times its size (zlib's technical notes)."""

BOMB_BYTES = 64 * 1024**2
"""Below this nothing is called a bomb: small blank images compress without limit."""

MAX_HEADER_BYTES = 16 * 1024**2
"""Largest plausible distance from the start of a NIfTI file to its voxels."""

_NRRD_ELSEWHERE = re.compile(rb"^data ?file\s*:", re.IGNORECASE | re.MULTILINE)
_NRRD_RAW = re.compile(rb"^encoding\s*:\s*raw\s*$", re.IGNORECASE | re.MULTILINE)
_META_DATA = re.compile(rb"^\s*ElementDataFile\s*=\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_META_PACKED = re.compile(rb"^\s*CompressedData\s*=\s*True\s*$", re.IGNORECASE | re.MULTILINE)


def check_packed(path: Path, declared: int, *, packed: bool, max_ratio: float | None) -> None:
    """Refuse a header that declares more voxels than the file can hold, or honestly would.

    Args:
        declared: bytes of voxels by the header.
        packed: the voxels are compressed.
        max_ratio: how many times its size a large file may unpack to; None for what may be
            blank, such as a mask.

    Raises:
        CaseRejected: the file is truncated, or a decompression bomb.
    """
    size = path.stat().st_size
    if declared > (size * GZIP_RATIO if packed else size):
        raise CaseRejected(
            str(path),
            "file",
            f"truncated: the header declares {declared} bytes of voxels, the file's {size} "
            f"bytes cannot hold them",
            "file.unreadable",
        )
    if max_ratio is not None and declared > BOMB_BYTES and declared > size * max_ratio:
        raise CaseRejected(
            str(path),
            "file",
            f"unpacks to {declared / size:.0f} times its size; no CT compresses beyond "
            f"{max_ratio:g} times",
            "file.bomb",
        )


def check_nifti_header(path: Path, voxels_at: float, extension: int) -> None:
    """Refuse a header whose own length is out of reason.

    Args:
        voxels_at: byte at which the voxels begin.
        extension: bytes of the first header extension, 0 if there is none.

    Raises:
        CaseRejected: either is above :data:`MAX_HEADER_BYTES` or negative.
    """
    for what, value in (("voxels begin at byte", voxels_at), ("an extension has", extension)):
        if not 0 <= value <= MAX_HEADER_BYTES:
            raise CaseRejected(
                str(path),
                "file",
                f"unreadable: {what} {value:g}, {MAX_HEADER_BYTES} at most is plausible",
                "file.unreadable",
            )


def check_self_contained(path: Path) -> bool:
    """Refuse an NRRD or MHA header that names other files; returns whether it is packed.

    Such a header would have another file of this machine read in the place of a scan.

    Raises:
        CaseRejected: the voxels are elsewhere.
    """
    with path.open("rb") as stream:
        start = stream.read(1 << 20)
    if path.name.endswith(".nrrd"):
        header = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]
        elsewhere = _NRRD_ELSEWHERE.search(header) is not None
        packed = _NRRD_RAW.search(header) is None
    else:
        data = _META_DATA.search(start)
        elsewhere = data is not None and data[1] != b"LOCAL"
        packed = _META_PACKED.search(start[: data.end()] if data else start) is not None
    if elsewhere:
        raise CaseRejected(
            str(path),
            "file",
            "the header says that its voxels are in another file; save it as one file",
            "file.foreign-data",
        )
    return packed
