"""Broken inputs by kind, made from one good case by a seeded generator.

Every kind is a function ``(generator, home) -> CaseSource`` that writes its files into `home`.
``DETECTABLE`` kinds must be refused; of ``SILENT`` kinds some are still readable, and are then
stored exactly as they read.
"""

from __future__ import annotations

import gzip
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from tiny_dicom import save_series
from tiny_scans import SHAPE, case, lps_affine, organs, save, scan

from clnet.data_catalog import CaseSource
from clnet.data_catalog.dicom import index_folder

__all__ = ["DETECTABLE", "SILENT", "good_case"]

Generator = np.random.Generator
Kind = Callable[[Generator, Path], CaseSource]
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
PARTS = ("image", "labels")

HOSTILE_NAMES = (
    "../../x", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "a\0b", "-rf", "$(reboot)", "a b",
    "a\nb", "ü", "x" * 129, ".hidden", "~root", "%2e%2e", "a:b", "<b>", "'; drop table cases; --",
)  # fmt: skip

HEADER_LENGTH = 348
"""Of NIfTI-1; offsets into it are those of nifti1.h."""


def good_case(home: Path, seed: int = 0, suffix: str = ".nii.gz") -> CaseSource:
    """A case that nothing is wrong with."""
    home.mkdir(parents=True, exist_ok=True)
    good = case(home / "made", "c", seed)
    paths = {}
    for part, path in (("image", good.image), ("labels", good.labels)):
        assert isinstance(path, Path)
        paths[part] = home / f"{part}{suffix}"
        if suffix == ".nii.gz":
            shutil.copyfile(path, paths[part])
        elif suffix == ".nii":
            paths[part].write_bytes(gzip.decompress(path.read_bytes()))
        else:
            image = sitk.ReadImage(str(path))
            for key in image.GetMetaDataKeys():
                image.EraseMetaData(key)
            sitk.WriteImage(image, str(paths[part]))
    return CaseSource("c", paths["image"], paths["labels"])


def _part(generator: Generator, source: CaseSource) -> Path:
    path = (source.image, source.labels)[generator.integers(2)]
    assert isinstance(path, Path)
    return path


def _some(generator: Generator, home: Path, suffixes: tuple[str, ...] = SUFFIXES) -> CaseSource:
    return good_case(home, int(generator.integers(1000)), str(generator.choice(suffixes)))


def truncated(generator: Generator, home: Path) -> CaseSource:
    source = _some(generator, home)
    path = _part(generator, source)
    data = path.read_bytes()
    path.write_bytes(data[: generator.integers(len(data))])
    return source


def flipped_packed_bits(generator: Generator, home: Path) -> CaseSource:
    """Bits of the packed voxels, which gzip's checksum covers."""
    source = _some(generator, home, (".nii.gz",))
    path = _part(generator, source)
    data = bytearray(path.read_bytes())
    for _ in range(generator.integers(1, 4)):
        # behind gzip's header and a file name in it, in front of the length at the end
        data[generator.integers(40, len(data) - 8)] ^= 1 << int(generator.integers(8))
    path.write_bytes(data)
    return source


def _patched(home: Path, path: Path, offset: int, value: bytes) -> None:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[offset : offset + len(value)] = value
    path.write_bytes(gzip.compress(bytes(raw), mtime=0))


WRONG_HEADERS: tuple[tuple[int, bytes], ...] = (
    (0, struct.pack("<i", 7)),  # sizeof_hdr
    (40, struct.pack("<8h", 3, 0, 9, 10, 1, 1, 1, 1)),  # no voxel along x
    (40, struct.pack("<8h", 3, -8, 9, 10, 1, 1, 1, 1)),
    (40, struct.pack("<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)),
    (40, struct.pack("<8h", 4, 8, 9, 5, 2, 1, 1, 1)),  # a time series
    (40, struct.pack("<8h", 2, 8, 90, 1, 1, 1, 1, 1)),
    (40, struct.pack("<8h", 9, 8, 9, 10, 1, 1, 1, 1)),
    (70, struct.pack("<2h", 128, 24)),  # colours
    (70, struct.pack("<2h", 32, 64)),  # complex
    (70, struct.pack("<2h", 999, 16)),
    (108, struct.pack("<f", 1e30)),  # where voxels begin
    (108, struct.pack("<f", -5.0)),
    (108, struct.pack("<f", float("nan"))),
    (252, struct.pack("<2h", 0, 0)),  # neither qform nor sform
    (280, struct.pack("<4f", *[float("nan")] * 4)),  # srow_x
    (280, struct.pack("<4f", *[0.0] * 4)),
    (280, struct.pack("<4f", 1e30, 0, 0, 0)),
    (280, struct.pack("<4f", 1e-5, 0, 0, 0)),
    (280, struct.pack("<4f", 0, -2.0, 0, 0)),  # the same direction as y
    (344, b"xx1\0"),  # magic
)


def wrong_header(generator: Generator, home: Path) -> CaseSource:
    source = good_case(home, int(generator.integers(1000)))
    offset, value = WRONG_HEADERS[generator.integers(len(WRONG_HEADERS))]
    _patched(home, _part(generator, source), offset, value)
    return source


def _declares(path: Path, shape: tuple[int, int, int], kind: str, payload: bytes) -> None:
    x, y, z = shape
    if kind == "nifti":
        header = nib.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape(shape)
        header.set_sform(lps_affine(), code=1)
        path.write_bytes(gzip.compress(header.binaryblock + bytes(4)) + payload)
    elif kind == "nrrd":
        text = (
            f"NRRD0004\ntype: short\ndimension: 3\nsizes: {x} {y} {z}\n"
            "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
            "endian: little\nencoding: gzip\n\n"
        )
        path.write_bytes(text.encode() + payload)
    else:
        text = (
            f"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\n"
            f"DimSize = {x} {y} {z}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        )
        path.write_bytes(text.encode() + payload)


def bomb(generator: Generator, home: Path) -> CaseSource:
    """A small file that unpacks, or claims to unpack, to gigabytes."""
    source = good_case(home, int(generator.integers(1000)))
    kind, suffix = (("nifti", ".nii.gz"), ("nrrd", ".nrrd"), ("mha", ".mha"))[generator.integers(3)]
    shape = ((1000, 1000, 1000), (30000, 30000, 30000), (2000, 2000, 260))[generator.integers(3)]
    zeros = gzip.compress(bytes(8 * 1024**2)) * int(generator.integers(1, 260))
    path = home / f"bomb{suffix}"
    _declares(path, shape, kind, zeros)
    if generator.integers(2):
        return CaseSource("c", path, source.labels)
    return CaseSource("c", source.image, path)


def tail(generator: Generator, home: Path) -> CaseSource:
    """Good voxels with gigabytes of zeros behind them."""
    source = good_case(home, int(generator.integers(1000)))
    path = _part(generator, source)
    zeros = gzip.compress(bytes(8 * 1024**2)) * int(generator.integers(3, 260))
    path.write_bytes(path.read_bytes() + zeros)
    return source


def extension(generator: Generator, home: Path) -> CaseSource:
    """A header extension of gigabytes."""
    source = good_case(home, int(generator.integers(1000)))
    size = (2**31 - 16, 2**30, -16)[generator.integers(3)]
    _patched(
        home, _part(generator, source), HEADER_LENGTH, b"\1\0\0\0" + struct.pack("<2i", size, 6)
    )
    return source


def hostile_name(generator: Generator, home: Path) -> CaseSource:
    source = good_case(home, int(generator.integers(1000)))
    name = str(generator.choice(HOSTILE_NAMES))
    if generator.integers(2):
        return CaseSource(name, source.image, source.labels)
    assert isinstance(source.labels, Path)
    return CaseSource("c", source.image, {name: source.labels})


def wrong_labels(generator: Generator, home: Path) -> CaseSource:
    ids = organs()
    moved = lps_affine()
    moved[0, 3] += float(generator.uniform(1, 50))
    voxels: Any
    affine = None
    match generator.integers(7):
        case 0:
            voxels = ids + np.uint8(generator.integers(3, 200))
        case 1:
            voxels = ids[: generator.integers(1, SHAPE[0])]
        case 2:
            voxels, affine = ids, moved
        case 3:
            voxels = ids * np.float32(generator.uniform(0.1, 0.9))
        case 4:
            voxels = -ids.astype(np.int16)
        case 5:
            voxels = np.where(ids > 0, np.float32(np.nan), 0)
        case _:
            voxels = np.repeat(ids, 2, axis=int(generator.integers(3)))
    source = good_case(home, int(generator.integers(1000)))
    return CaseSource("c", source.image, save(home / "wrong.nii.gz", voxels, affine))


def wrong_intensities(generator: Generator, home: Path) -> CaseSource:
    hu = scan(int(generator.integers(1000))).astype(np.float32)
    voxels: Any
    match generator.integers(8):
        case 0:
            voxels = (hu + 1024).astype(np.uint16)
        case 1:
            voxels = (hu + 1000) / 2200
        case 2:
            voxels = hu / 500
        case 3:
            voxels = np.full_like(hu, generator.integers(-2000, 2000)).astype(np.int16)
        case 4:
            voxels = (hu > 0).astype(np.uint8)
        case 5:
            voxels = hu * 20
        case 6:
            voxels = np.where(generator.random(SHAPE) < 0.01, np.float32(np.nan), hu)
            voxels[0, 0, 0] = np.nan
        case _:
            voxels = np.where(hu > 0, np.float32(np.inf), hu)
    source = good_case(home, int(generator.integers(1000)))
    return CaseSource("c", save(home / "wrong.nii.gz", voxels), source.labels)


def no_image(generator: Generator, home: Path) -> CaseSource:
    """Something else under the name of an image."""
    source = _some(generator, home)
    path = _part(generator, source)
    path.unlink()
    match generator.integers(7):
        case 0:
            path.write_bytes(b"")
        case 1:
            path.write_bytes(generator.bytes(int(generator.integers(1, 5000))))
        case 2:
            path.mkdir()
        case 3:
            path.symlink_to(home / "nowhere")
        case 4:
            path.write_bytes(gzip.compress(b"hello, world" * 100))
        case 5:
            path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    return source


def foreign_data(generator: Generator, home: Path) -> CaseSource:
    """A header that would have another file read."""
    source = good_case(home, int(generator.integers(1000)))
    elsewhere = str(
        generator.choice(["/etc/passwd", "../made/images/c.nii.gz", "made/x.raw", "LIST"])
    )
    x, y, z = SHAPE[::-1]
    key = str(generator.choice(["data file", "datafile", "Data File"]))
    path = home / f"foreign{generator.choice(['.nrrd', '.mha'])}"
    if path.suffix == ".nrrd":
        text = (
            f"NRRD0004\ntype: short\ndimension: 3\nsizes: {x} {y} {z}\nendian: little\n"
            f"encoding: raw\n{key}: {elsewhere}\n\n"
        )
    else:
        text = (
            f"NDims = 3\nDimSize = {x} {y} {z}\nElementType = MET_SHORT\n"
            f"ElementDataFile = {elsewhere}\n"
        )
    path.write_text(text)
    return CaseSource("c", path, source.labels)


def named_person(generator: Generator, home: Path) -> CaseSource:
    source = good_case(home, int(generator.integers(1000)))
    offset = (14, 148, 228, 328)[generator.integers(4)]  # db_name, descrip, aux_file, intent_name
    _patched(home, _part(generator, source), offset, b"Doe John 1970")
    return source


def dicom(generator: Generator, home: Path) -> CaseSource:
    """A CT series with a slice that is cut off, lost, doubled or of another shape."""
    hu = scan(int(generator.integers(1000)))
    files = save_series(home / "series", hu)
    (series,) = index_folder(home / "series").series.values()
    victim = files[generator.integers(2, len(files) - 2)]
    match generator.integers(4):
        case 0:
            data = victim.read_bytes()
            victim.write_bytes(data[: generator.integers(132, len(data))])
        case 1:
            series = replace(series, files=tuple(f for f in series.files if f != victim))
        case 2:
            shutil.copyfile(victim, files[0])
        case _:
            save_series(home / "other", hu[:, :5])
            shutil.copyfile(home / "other" / victim.name, victim)
    return CaseSource("c", series, good_case(home, 0).labels)


def flipped_header_bits(generator: Generator, home: Path) -> CaseSource:
    source = _some(generator, home, (".nii", ".nrrd", ".mha"))
    path = _part(generator, source)
    data = bytearray(path.read_bytes())
    for _ in range(generator.integers(1, 4)):
        data[generator.integers(min(400, len(data)))] ^= 1 << int(generator.integers(8))
    path.write_bytes(data)
    return source


def flipped_voxel_bits(generator: Generator, home: Path) -> CaseSource:
    """Of files without a checksum: nobody can tell, so it is stored as it reads."""
    source = _some(generator, home, (".nii", ".mha"))
    path = _part(generator, source)
    data = bytearray(path.read_bytes())
    for _ in range(generator.integers(1, 4)):
        data[-1 - generator.integers(600)] ^= 1 << int(generator.integers(8))
    path.write_bytes(data)
    return source


DETECTABLE: dict[str, tuple[Kind, int]] = {
    "truncated": (truncated, 24),
    "packed bits flipped": (flipped_packed_bits, 12),
    "wrong header": (wrong_header, 14),
    "bomb": (bomb, 5),
    "tail": (tail, 3),
    "extension": (extension, 3),
    "hostile name": (hostile_name, 8),
    "wrong labels": (wrong_labels, 8),
    "wrong intensities": (wrong_intensities, 8),
    "no image": (no_image, 6),
    "foreign data": (foreign_data, 4),
    "named person": (named_person, 3),
    "DICOM": (dicom, 5),
}
"""Kinds that must be refused, and their share."""

SILENT: dict[str, tuple[Kind, int]] = {
    "header bits flipped": (flipped_header_bits, 14),
    "voxel bits flipped": (flipped_voxel_bits, 6),
}
"""Kinds of which some are still readable, and their share."""
