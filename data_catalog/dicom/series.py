"""A CT series: one image per slice, sorted, checked to be an even stack, then read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.dicom.header import numbers, read_header
from clnet.data_catalog.dicom.identity import identifying_tags
from clnet.data_catalog.volume import DEFAULT_MAX_BYTES, Volume, check_size
from clnet.errors import CaseRejected

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["DicomSeries", "Stack"]

TILT_TOLERANCE = 2e-3
"""Sine of the angle between stacking direction and slice normal: 0.1 degrees."""

STEP_TOLERANCE = 0.02
"""How uneven the distance of slices may be, as a share of it; positions are often rounded."""

MIN_STEP = 0.01
"""Slices closer than this, in mm, are the same one twice."""

_TAGS = [
    "SOPInstanceUID", "SOPClassUID", "Rows", "Columns", "ImagePositionPatient", "BitsAllocated",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "GantryDetectorTilt",
    "SamplesPerPixel", "NumberOfFrames",
]  # fmt: skip

_RESCALE = ("RescaleSlope", "RescaleIntercept")


@dataclass(frozen=True, slots=True)
class Stack:
    """The grid of a series, from its headers.

    Attributes:
        files: in the order of their slices.
        uids: SOP instance UID of each.
        shape: columns, rows, slices: ``(x, y, z)``.
        affine: voxel indices ``(x, y, z, 1)`` to RAS+ mm.
    """

    files: tuple[Path, ...]
    uids: tuple[str, ...]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DicomSeries:
    """The images of one SeriesInstanceUID.

    Attributes:
        folder: where they lie, for messages.
        files: the images, in any order.
    """

    uid: str
    folder: Path
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return str(self.folder)

    def stack(self) -> Stack:
        """Its grid; headers alone are read.

        Raises:
            CaseRejected: tilted gantry, missing, doubled or unlike slices.
        """
        return _stack(self.folder, self.files)

    def read(self, max_bytes: int = DEFAULT_MAX_BYTES, allocate: Allocate = in_memory) -> Volume:
        """Its voxels in HU, rescaled slice by slice; int16 where every value is whole."""
        stack = self.stack()
        check_size(str(self), stack.shape, np.dtype(np.float32), max_bytes)
        columns, rows, _ = stack.shape
        voxels = allocate(stack.shape[::-1], np.int16)
        texts: dict[str, str] = {}
        untold = 0
        for k, path in enumerate(stack.files):
            header = read_header(path, pixels=True)
            texts |= identifying_tags(header)
            untold += any(header.get(tag) is None for tag in _RESCALE)
            plane = _pixels(header, path, (rows, columns))
            if plane.dtype.kind == "f" and voxels.dtype.kind != "f":
                whole, voxels = voxels, allocate(voxels.shape, np.float32)
                for before in range(k):
                    voxels[before] = whole[before]
            voxels[k] = plane
        doubts: dict[str, str] = {}
        if untold:
            lacking = f"{untold} of {len(stack.files)} slices lack {' or '.join(_RESCALE)}"
            doubts["hu.rescale-untold"] = f"{lacking}; 1 and 0 were taken"
        return Volume(voxels.T, stack.affine, str(self), texts, doubts)


@lru_cache(maxsize=4)  # every ROI of a structure set asks for the grid again
def _stack(folder: Path, files: tuple[Path, ...]) -> Stack:
    headers = [read_header(path, tags=_TAGS) for path in files]
    first, path = headers[0], files[0]
    for header, here in zip(headers, files, strict=True):
        _check_alike(header, first, here)
    rows, columns = (int(numbers(first, tag, 1, path)[0]) for tag in ("Rows", "Columns"))
    if min(rows, columns) < 1:
        raise CaseRejected(str(path), "Rows", f"{rows} rows and {columns} columns")
    down, across = numbers(first, "PixelSpacing", 2, path)
    orientation = np.array(numbers(first, "ImageOrientationPatient", 6, path))
    along_row, along_column = orientation[:3], orientation[3:]
    normal = np.cross(along_row, along_column)
    if not np.isfinite(orientation).all() or abs(np.linalg.norm(normal) - 1) > 1e-3:
        raise CaseRejected(str(path), "ImageOrientationPatient", "no two right-angled directions")
    positions = np.array(
        [numbers(h, "ImagePositionPatient", 3, p) for h, p in zip(headers, files, strict=True)]
    )
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    files = tuple(files[i] for i in order)
    if len(files) > 1:
        step = (positions[-1] - positions[0]) / (len(files) - 1)
        _check_upright(step, normal, first, folder)
        _check_even(positions @ normal, files, folder)
    else:
        thickness = first.get("SliceThickness")
        step = normal * (float(thickness) if thickness else 1.0)
    affine = np.eye(4)
    affine[:3, 0] = along_row * across
    affine[:3, 1] = along_column * down
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    affine[:2] *= -1  # DICOM's world is LPS, nibabel's RAS
    uids = tuple(str(headers[i].SOPInstanceUID) for i in order)
    return Stack(files, uids, (columns, rows, len(files)), affine)


def _check_alike(header: Dataset, first: Dataset, path: Path) -> None:
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise CaseRejected(
            str(path), "NumberOfFrames", "multi-frame CT is not read; convert it to one per slice"
        )
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise CaseRejected(str(path), "SamplesPerPixel", "a colour image, no CT")
    for tag in ("Rows", "Columns"):
        if header.get(tag) != first.get(tag):
            raise CaseRejected(
                str(path), tag, f"{header.get(tag)}, other slices have {first.get(tag)}"
            )
    for tag, count in (("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        here, there = (numbers(h, tag, count, path) for h in (header, first))
        if not np.allclose(here, there, atol=1e-4):
            raise CaseRejected(
                str(path), tag, f"{here}, other slices have {there}: two scans in one series?"
            )


def _check_even(heights: NDArray[np.float64], files: tuple[Path, ...], folder: Path) -> None:
    steps = np.diff(heights)
    doubled = np.flatnonzero(steps < MIN_STEP)
    if len(doubled):
        k = int(doubled[0])
        raise CaseRejected(
            str(folder),
            "slices",
            f"{len(doubled)} of {len(files)} doubled, such as {files[k].name} and "
            f"{files[k + 1].name} at {heights[k]:.2f} mm; keep one of each",
        )
    usual = float(np.median(steps))
    uneven = np.flatnonzero(np.abs(steps - usual) > STEP_TOLERANCE * usual + 1e-3)
    if len(uneven) == 0:
        return
    lost = np.rint(steps[uneven] / usual) - 1
    k = int(uneven[0])
    whole = np.abs(steps[uneven] / usual - np.rint(steps[uneven] / usual)) < 5 * STEP_TOLERANCE
    if whole.all() and lost.min() >= 1:
        raise CaseRejected(
            str(folder),
            "slices",
            f"{int(lost.sum())} missing: {steps[k]:.2f} mm between {files[k].name} and "
            f"{files[k + 1].name}, {usual:.2f} mm elsewhere; export the series again",
        )
    raise CaseRejected(
        str(folder),
        "slices",
        f"uneven: {steps[k]:.2f} mm between {files[k].name} and {files[k + 1].name}, {usual:.2f} "
        "mm elsewhere; resample the scan to even slices, or split it where the distance changes",
    )


def _check_upright(
    step: NDArray[np.float64], normal: NDArray[np.float64], first: Dataset, folder: Path
) -> None:
    aside = float(np.linalg.norm(np.cross(step, normal)))
    sine = aside / max(float(np.linalg.norm(step)), MIN_STEP)
    if sine > TILT_TOLERANCE:
        told = first.get("GantryDetectorTilt")
        raise CaseRejected(
            str(folder),
            "gantry_tilt",
            f"slices are stacked {np.degrees(np.arcsin(min(1.0, sine))):.1f} degrees off their "
            f"normal (GantryDetectorTilt: {told}); resample the scan to a right-angled grid first",
        )


def _pixels(header: Dataset, path: Path, shape: tuple[int, int]) -> NDArray[Any]:
    """One slice in HU, ``(rows, columns)``; int16 where slope and intercept are whole."""
    try:
        stored = header.pixel_array
    except Exception as error:  # noqa: BLE001 - a damaged stream makes a codec raise anything
        raise CaseRejected(
            str(path), "PixelData", f"cannot be decoded ({type(error).__name__}: {error})"
        ) from None
    if stored.shape != shape:
        raise CaseRejected(str(path), "PixelData", f"{stored.shape} pixels; {shape} are expected")
    slope, intercept = (
        _number(header, tag, default, path)
        for tag, default in zip(_RESCALE, (1.0, 0.0), strict=True)
    )
    whole = slope.is_integer() and intercept.is_integer()
    values: NDArray[np.float64] = stored.astype(np.float64) * slope + intercept
    if whole and values.min() >= -32768 and values.max() <= 32767:
        return values.astype(np.int16)
    return values.astype(np.float32)


def _number(header: Dataset, tag: str, default: float, path: Path) -> float:
    return default if header.get(tag) is None else numbers(header, tag, 1, path)[0]
