"""DICOM: CT series, structure sets and segmentations as volumes."""

from __future__ import annotations

from clnet.data_catalog.dicom.index import Index, LabelObject, index_folder, looks_like_dicom
from clnet.data_catalog.dicom.segmentation import SegmentFrames, read_segment_names
from clnet.data_catalog.dicom.series import DicomSeries
from clnet.data_catalog.dicom.structure_set import Contours, read_roi_names

__all__ = [
    "Contours",
    "DicomSeries",
    "Index",
    "LabelObject",
    "SegmentFrames",
    "index_folder",
    "looks_like_dicom",
    "read_roi_names",
    "read_segment_names",
]
