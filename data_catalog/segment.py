"""Segments of a 3D Slicer segmentation (``.seg.nrrd``): named, possibly overlapping, cropped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.volume import Volume, check_size, itk_affine, itk_texts
from clnet.errors import CaseRejected

__all__ = ["SEGMENTS", "Segment", "read_segments"]

SEGMENTS = ".seg.nrrd"
_KEY = re.compile(r"Segment(\d{1,4})_(Name|LabelValue|Layer)")
_OWN = re.compile(r"Segment(ation|\d{1,4})_\w+")
"""Fields by which 3D Slicer describes its segments."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: the voxels of one value in one component of the file.

    Attributes:
        component: which of the values that a voxel has; segments overlap by lying in several.
        value: the segment's own.
    """

    path: Path
    name: str
    component: int
    value: int

    def __str__(self) -> str:
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def read(self, max_bytes: int, allocate: Allocate = in_memory) -> Volume:
        """A mask on the file's own grid, which may be a part of the image's."""
        reader = _header(self.path)
        itemsize = 8 * max(1, reader.GetNumberOfComponents())  # whatever the type
        shape = tuple(reader.GetSize())
        check_size(str(self), shape, np.dtype(f"V{itemsize}"), max_bytes)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise _damaged(self.path, error) from None
        import SimpleITK as sitk  # noqa: N813

        voxels = sitk.GetArrayViewFromImage(image)
        if voxels.ndim == 4:
            voxels = voxels[..., self.component]
        inside = allocate(voxels.shape, np.uint8)
        for plane, stored in zip(inside, voxels, strict=True):
            plane[...] = stored == self.value
        texts = {key: text for key, text in itk_texts(reader).items() if not _OWN.fullmatch(key)}
        return Volume(inside.T, itk_affine(image), str(self), texts)


def read_segments(path: Path) -> dict[str, Segment]:
    """The segments of a file by name; no voxel is read.

    Raises:
        CaseRejected: damaged, without segments, or two of one name.
    """
    reader = _header(path)
    found: dict[int, dict[str, str]] = {}
    for key in reader.GetMetaDataKeys():
        match = _KEY.fullmatch(key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = reader.GetMetaData(key).strip()
    if not found:
        raise CaseRejected(
            str(path), "segments", "the header names none; save it from 3D Slicer, or as .nrrd"
        )
    segments: dict[str, Segment] = {}
    for number, about in sorted(found.items()):
        name = about.get("Name") or f"Segment_{number}"
        if name in segments:
            raise CaseRejected(str(path), "segments", f"two are named {name!r}; rename one")
        try:
            component, value = int(about.get("Layer", "0")), int(about.get("LabelValue", "1"))
        except ValueError:
            raise CaseRejected(str(path), "segments", f"{name!r}: no number: {about}") from None
        if not 0 <= component < max(1, reader.GetNumberOfComponents()):
            raise CaseRejected(str(path), "segments", f"{name!r} lies in layer {component}: none")
        segments[name] = Segment(path, name, component, value)
    return segments


def _header(path: Path) -> Any:
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _damaged(path, error) from None
    return reader


def _damaged(path: Path, error: RuntimeError) -> CaseRejected:
    reason = (str(error).strip().splitlines() or [""])[-1].strip()
    return CaseRejected(str(path), "file", f"unreadable or truncated ({reason})", "file.unreadable")
