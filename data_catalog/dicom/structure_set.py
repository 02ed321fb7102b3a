"""ROIs of an RTSTRUCT, filled on the grid of the series that they were drawn on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.dicom.header import parsing, read_header
from clnet.data_catalog.dicom.identity import identifying_tags
from clnet.data_catalog.dicom.rasterise import fill
from clnet.data_catalog.dicom.series import DicomSeries
from clnet.data_catalog.volume import Volume, check_size
from clnet.errors import CaseRejected

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Contours", "read_roi_names"]

CLOSED = ("CLOSED_PLANAR", "CLOSED_PLANAR_XOR", "CLOSEDPLANAR_XOR")
FLAT = 0.1
"""How far the points of a contour may be from one plane, in slices."""

OFF_SLICE = 0.3
"""How far a contour may be from the slice that it is filled on, in slices."""


@dataclass(frozen=True, slots=True)
class Contours:
    """One ROI of a structure set.

    Attributes:
        path: the RTSTRUCT.
        number: its ROI number.
        series: whose grid it is filled on.
    """

    path: Path
    name: str
    number: int
    series: DicomSeries

    def __str__(self) -> str:
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        """The RTSTRUCT."""
        return (self.path,)

    def read(self, max_bytes: int, allocate: Allocate = in_memory) -> Volume:
        """A mask on the grid of the series.

        Contours of one slice are joined by the even-odd rule; the same contour twice counts
        once. Where a contour lies is taken from its points: the image that it names may have
        been given a new UID since, and a contour off the slices is refused anyway.

        Raises:
            CaseRejected: contours that lie between slices or outside of the scan, are not
                parallel to the slices, or leave slices out throughout.
        """
        stack = self.series.stack()
        check_size(str(self), stack.shape, np.dtype(np.uint8), max_bytes)
        to_voxels = np.linalg.inv(stack.affine).astype(np.float64)
        slices: dict[int, dict[bytes, NDArray[np.float64]]] = {}
        for contour in _sequence(_roi(self.path, self.number), "ContourSequence"):
            kind = str(contour.get("ContourGeometricType", ""))
            if kind == "POINT":
                continue
            if kind not in CLOSED:
                raise self._refused(f"contours of type {kind or '(none)'}; closed ones are needed")
            points = self._points(contour, to_voxels)
            k = self._slice(points[:, 2], stack.shape[2])
            outline = np.ascontiguousarray(points[:, :2])
            slices.setdefault(k, {})[outline.tobytes()] = outline
        self._check_spread(sorted(slices))
        voxels = allocate(stack.shape[::-1], np.uint8)
        for k, contours in slices.items():
            voxels[k] = fill(contours.values(), stack.shape[:2]).T
        return Volume(voxels.T, stack.affine, str(self), _identity(self.path))

    def _points(self, contour: Dataset, to_voxels: NDArray[np.float64]) -> NDArray[np.float64]:
        try:
            points = np.array(contour.get("ContourData"), dtype=np.float64).reshape(-1, 3)
        except (TypeError, ValueError):
            points = np.empty((0, 3))
        if len(points) < 3 or not np.isfinite(points).all():
            raise self._refused("a contour without three points of three numbers")
        world = points * (-1.0, -1.0, 1.0)  # LPS to RAS
        found: NDArray[np.float64] = world @ to_voxels[:3, :3].T + to_voxels[:3, 3]
        return found

    def _slice(self, heights: NDArray[np.float64], count: int) -> int:
        if np.ptp(heights) > FLAT:
            raise self._refused("a contour is not parallel to the slices; draw it on them")
        height = float(heights.mean())
        k = round(height)
        if not -0.5 <= height <= count - 0.5:
            away = -height if height < 0 else height - count + 1
            raise self._refused(
                f"a contour lies {away:.1f} slices outside of the scan: slices are missing, or it "
                "was drawn on another series"
            )
        if abs(height - k) > OFF_SLICE:
            raise self._refused(
                f"a contour lies between slices {int(height)} and {int(height) + 1}: it was drawn "
                "on another series"
            )
        return k

    def _check_spread(self, slices: list[int]) -> None:
        steps = np.diff(slices)
        if len(steps) and steps.min() > 1:
            raise self._refused(
                f"drawn on every {int(steps.min())}th slice only; interpolate the contours"
            )

    def _refused(self, reason: str) -> CaseRejected:
        return CaseRejected(str(self), f"ROI {self.name!r}", reason)


def read_roi_names(path: Path) -> dict[str, int]:
    """ROI name to number of the ROIs that have contours; one without was not drawn: unknown.

    Raises:
        CaseRejected: damaged, or two drawn ROIs of one name.
    """
    structures = _structures(path)
    for tag in ("StructureSetROISequence", "ROIContourSequence"):
        if tag not in structures:  # neither may be left out, even where nothing is drawn
            raise CaseRejected(str(path), tag, "missing: damaged or truncated", "file.unreadable")
    names: dict[str, int] = {}
    with parsing(path):
        drawn = {
            int(roi.get("ReferencedROINumber", -1))
            for roi in _sequence(structures, "ROIContourSequence")
            if _sequence(roi, "ContourSequence")
        }
        for roi in _sequence(structures, "StructureSetROISequence"):
            name, number = str(roi.get("ROIName", "")).strip(), int(roi.get("ROINumber", -1))
            if number not in drawn:
                continue
            if name in names:
                raise CaseRejected(str(path), f"ROI {name!r}", "two of that name; rename one")
            names[name] = number
    return names


def _roi(path: Path, number: int) -> Dataset:
    for roi in _sequence(_structures(path), "ROIContourSequence"):
        if int(roi.get("ReferencedROINumber", -1)) == number:
            found: Dataset = roi
            return found
    raise CaseRejected(str(path), "ROIContourSequence", f"no contours of ROI number {number}")


def _sequence(dataset: Dataset, tag: str) -> list[Any]:
    return list(dataset.get(tag) or [])


def _structures(path: Path) -> Dataset:
    return _read(path, _stamp(path))[0]


def _identity(path: Path) -> dict[str, str]:
    return _read(path, _stamp(path))[1]


def _stamp(path: Path) -> int:
    """When the file changed; 0 where it is gone, which reading it tells."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=1)  # its ROIs are read one after another
def _read(path: Path, stamp: int) -> tuple[Dataset, dict[str, str]]:
    """The data set, and what of it names a person; `stamp` has a mended file read again."""
    structures = read_header(path)
    return structures, identifying_tags(structures)
