"""Segments of a DICOM SEG object."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clnet.data_catalog.allocation import Allocate, in_memory
from clnet.data_catalog.dicom.header import numbers, parsing, read_header
from clnet.data_catalog.dicom.identity import identifying_tags
from clnet.data_catalog.volume import Volume, check_size
from clnet.errors import CaseRejected

__all__ = ["SegmentFrames", "read_segment_names"]


@dataclass(frozen=True, slots=True)
class SegmentFrames:
    """The frames of the segments that share a label.

    Attributes:
        path: the SEG object.
        label: its SegmentLabel.
        numbers: the segments of that label, most often one.
    """

    path: Path
    label: str
    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        """The SEG object."""
        return (self.path,)

    def read(self, max_bytes: int, allocate: Allocate = in_memory) -> Volume:
        """A mask on the grid of the frames, which may be a part of the image's.

        Raises:
            CaseRejected: damaged, too large, fractional for real, or not an even stack.
        """
        import highdicom as hd

        header = read_header(self.path, tags=["Rows", "Columns", "NumberOfFrames"])
        size = tuple(
            int(numbers(header, tag, 1, self.path)[0])
            for tag in ("Columns", "Rows", "NumberOfFrames")
        )
        check_size(str(self), (*size, len(self.numbers)), np.dtype(np.float32), max_bytes)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                segmentation = hd.seg.segread(self.path)
                found = segmentation.get_volume(
                    segment_numbers=list(self.numbers), rescale_fractional=True
                )
        except Exception as error:  # noqa: BLE001 - a damaged object makes the parser raise anything
            raise CaseRejected(
                str(self), f"segment {self.label!r}", f"{type(error).__name__}: {error}"
            ) from None
        # (slice, row, column, segment), whose affine is LPS like DICOM
        frames = found.array
        if not ((frames == 0) | (frames == 1)).all():
            raise CaseRejected(
                str(self),
                f"segment {self.label!r}",
                "fractional: values between 0 and 1; store it as BINARY, at a threshold you chose",
            )
        check_size(str(self), frames.shape[:3], np.dtype(np.uint8), max_bytes)
        inside = allocate(frames.shape[:3], np.uint8)
        for plane, segments in zip(inside, frames, strict=True):
            plane[...] = segments.max(axis=2)
        affine = np.array(found.affine, dtype=np.float64)[:, [2, 1, 0, 3]]
        affine[:2] *= -1
        texts = identifying_tags(segmentation)
        return Volume(inside.transpose(2, 1, 0), affine, str(self), texts)


def read_segment_names(path: Path) -> dict[str, tuple[int, ...]]:
    """Segment label to the numbers of its segments; no frame is read.

    Raises:
        CaseRejected: damaged, or without segments.
    """
    header = read_header(path, tags=["SegmentSequence"])
    names: dict[str, list[int]] = {}
    with parsing(path):
        for segment in header.get("SegmentSequence") or []:
            number = segment.get("SegmentNumber")
            if number is not None and math.isfinite(number):
                label = str(segment.get("SegmentLabel", "")).strip() or f"segment {number}"
                names.setdefault(label, []).append(int(number))
    if not names:
        raise CaseRejected(str(path), "SegmentSequence", "no segment", "file.unreadable")
    return {label: tuple(found) for label, found in names.items()}
