"""A tiny CT series, structure sets and segmentations, written as DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
SPACING = (3.0, 2.0, 1.5)
"""Of a series, ``(z, y, x)`` mm."""

ORIGIN = (-10.0, 20.0, 100.0)
"""Centre of the first voxel, LPS mm."""


def save_series(folder: Path, zyx: NDArray[Any], *, tilt: float = 0.0) -> list[Path]:
    """HU ``(z, y, x)`` of a canonical grid as one file a slice; `tilt` shears it, mm a slice."""
    folder.mkdir(parents=True)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    files = []
    for k, plane in enumerate(zyx):
        image = _file(CT_IMAGE)
        image.Modality = "CT"
        image.SeriesInstanceUID, image.StudyInstanceUID = series, study
        image.FrameOfReferenceUID = frame
        image.PatientID, image.PatientName = "tiny", "Tiny^Phantom"
        image.PatientIdentityRemoved = "YES"
        image.StudyID = image.SeriesNumber = image.AccessionNumber = "1"
        image.PatientBirthDate = image.PatientSex = image.StudyDate = image.StudyTime = ""
        image.ReferringPhysicianName = ""
        image.InstanceNumber = k + 1
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.Rows, image.Columns = plane.shape
        image.PixelSpacing = [SPACING[1], SPACING[2]]
        image.SliceThickness = SPACING[0]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        x, y, z = ORIGIN
        image.ImagePositionPatient = [x, y + k * tilt, z + k * SPACING[0]]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelRepresentation = 0
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.PixelData = (plane.astype(np.int32) + 1024).astype("<u2").tobytes()
        files.append(folder / f"{k:03d}.dcm")
        image.save_as(files[-1], enforce_file_format=True)
    return files


def save_structure_set(
    path: Path, image: Path, rois: dict[str, Sequence[Sequence[Sequence[float]]]]
) -> Path:
    """Closed contours by ROI, as points ``(x, y, z)`` in voxels of the series of `image`."""
    header = dcmread(image, stop_before_pixels=True)
    structures = _file(STRUCTURE_SET)
    structures.Modality = "RTSTRUCT"
    one = Dataset()
    one.SeriesInstanceUID = header.SeriesInstanceUID
    study = Dataset()
    study.RTReferencedSeriesSequence = Items([one])
    frame = Dataset()
    frame.FrameOfReferenceUID = header.FrameOfReferenceUID
    frame.RTReferencedStudySequence = Items([study])
    structures.ReferencedFrameOfReferenceSequence = Items([frame])
    names, contours = [], []
    for number, (name, outlines) in enumerate(rois.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, name
        names.append(roi)
        drawn = Dataset()
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = Items([_contour(outline) for outline in outlines])
        contours.append(drawn)
    structures.StructureSetROISequence = Items(names)
    structures.ROIContourSequence = Items(contours)
    path.parent.mkdir(parents=True, exist_ok=True)
    structures.save_as(path, enforce_file_format=True)
    return path


def save_segmentation(path: Path, images: list[Path], masks: dict[str, NDArray[Any]]) -> Path:
    """A binary SEG of masks ``(z, y, x)`` on the series of `images`."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, start=1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=[dcmread(image) for image in images],
        pixel_array=np.stack(list(masks.values()), axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="clnet",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)
    return path


def _contour(outline: Sequence[Sequence[float]]) -> Dataset:
    z, y, x = SPACING
    world = np.array(outline) * (x, y, z) + ORIGIN
    contour = Dataset()
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(world)
    contour.ContourData = [f"{value:.6g}" for value in world.ravel()]
    return contour


def _file(kind: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    return made
