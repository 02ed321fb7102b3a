"""Real CT through every source format: voxel by voxel, on the same affine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from tiny_scans import TERMS

from clnet.data_catalog import Case, CaseSource, Catalog, Dataset, IntakeRules
from clnet.data_catalog.canonical import to_canonical
from clnet.data_catalog.volume import read_volume
from clnet.errors import CaseRejected

DEIDENTIFY = IntakeRules(deidentify=True)


def equal(case: Case, image: Path, mask: NDArray[np.bool_], name: str) -> None:
    """`case` holds the voxels of a file, on its affine, and `name` where `mask` is."""
    expected = to_canonical(read_volume(image))
    np.testing.assert_array_equal(case.ct(), expected.voxels)
    np.testing.assert_allclose(case.affine, expected.affine, atol=1e-3)
    entry = next(e for e in case.contract.entries if e.name == name)
    np.testing.assert_array_equal(case.labels(entry.layer) == entry.value, mask)


def only(dataset: Dataset) -> Case:
    (case_id,) = dataset.case_ids
    return dataset.case(case_id)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_files(catalog: Catalog, source: Path, real_data: Path, suffix: str) -> None:
    folder = real_data / "tptbox_lumbar"  # PIR: every axis is moved
    scan = folder / "sub-ct_label-22_ct.nii.gz"
    vertebrae = folder / "sub-ct_seg-vert_label-22_msk.nii.gz"
    for path, name in ((scan, "images"), (vertebrae, "labels")):
        (source / name).mkdir()
        there = source / name / f"lumbar{suffix}"
        if suffix == ".nii.gz":
            there.write_bytes(path.read_bytes())
        else:
            sitk.WriteImage(sitk.ReadImage(str(path)), str(there))
    mapping = {21: "vertebra_l2", 22: "vertebra_l3", 23: "vertebra_l4"}
    case = only(catalog.contribute_folder("s/d", source, mapping, TERMS))
    ids = to_canonical(read_volume(vertebrae)).voxels
    for label, name in ((21, "vertebrae_L2"), (22, "vertebrae_L3"), (23, "vertebrae_L4")):
        equal(case, scan, ids == label, name)
    if suffix == ".nii.gz":
        assert case.axcodes == "PIR"


def test_nrrd(catalog: Catalog, real_data: Path) -> None:
    folder = real_data / "cip_chest64"
    source = CaseSource("chest", folder / "ct-64.nrrd", folder / "wholeLung-64.nrrd")
    ids = to_canonical(read_volume(folder / "wholeLung-64.nrrd")).voxels
    mapping = {int(label): "lung" for label in np.unique(ids) if label}
    case = only(catalog.contribute("s/d", [source], mapping, TERMS))
    equal(case, folder / "ct-64.nrrd", ids > 0, "lung")


def test_dicom_with_a_structure_set(catalog: Catalog, source: Path, real_data: Path) -> None:
    folder = real_data / "ibsi_sts_042"
    mapping = {"GTV_Mass_CT": "bone_tumor"}
    case = only(catalog.contribute_folder("s/d", folder / "dicom", mapping, TERMS))
    mask = to_canonical(read_volume(folder / "CT_mask.nii.gz")).voxels > 0
    equal(case, folder / "CT_image.nii.gz", mask, "bone_tumor")


def test_dicom_with_a_segmentation(catalog: Catalog, source: Path, real_data: Path) -> None:
    folder = real_data / "dcmqi_liver_seg"
    for path in (*sorted((folder / "ct-3slice").iterdir()), folder / "liver.dcm"):
        (source / path.name).write_bytes(path.read_bytes())
    case = only(catalog.contribute_folder("s/d", source, None, TERMS, rules=DEIDENTIFY))
    mask = to_canonical(read_volume(folder / "liver_seg.nrrd")).voxels > 0
    entry = next(e for e in case.contract.entries if e.name == "liver")
    np.testing.assert_array_equal(case.labels("organ") == entry.value, mask)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / "ct-3slice")))
    np.testing.assert_array_equal(case.ct(), sitk.GetArrayFromImage(reader.Execute()))


def test_overlapping_segments_of_one_layer_are_not_stored_as_if_they_were_apart(
    catalog: Catalog, source: Path, real_data: Path
) -> None:
    folder = real_data / "dcmqi_liver_seg"
    for path in (*sorted((folder / "ct-3slice").iterdir()), folder / "partial_overlaps.dcm"):
        (source / path.name).write_bytes(path.read_bytes())
    mapping: dict[str, Any] = {"GREEN": "liver", "ORANGE": "spleen", "*": "ignore"}
    with pytest.raises(CaseRejected) as refusal:
        catalog.contribute_folder("s/d", source, mapping, TERMS)
    assert refusal.value.field == "overlap"
