"""Geometry round trip: whatever the orientation of a file, the canonical case is the same."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations
from tiny_scans import SPACING, lps_affine, organs, scan

from clnet.anatomy import load_mapping
from clnet.data_catalog.canonical import grid_distance, to_canonical
from clnet.data_catalog.ingest import read_case
from clnet.data_catalog.source import CaseSource
from clnet.data_catalog.volume import Volume
from clnet.errors import CaseRejected

ORIENTATIONS = [
    "".join(codes) for axes in permutations(("LR", "PA", "IS")) for codes in product(*axes)
]


def turned(zyx: np.ndarray, codes: str) -> nib.Nifti1Image:
    image = nib.Nifti1Image(zyx.transpose(2, 1, 0), lps_affine())
    now = orientations.io_orientation(image.affine)
    return image.as_reoriented(orientations.ornt_transform(now, orientations.axcodes2ornt(codes)))


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_all_48_orientations_become_one(tmp_path: Path, codes: str) -> None:
    nib.save(turned(scan(3), codes), tmp_path / "ct.nii")
    nib.save(turned(organs(), codes), tmp_path / "labels.nii")
    source = CaseSource("c", tmp_path / "ct.nii", tmp_path / "labels.nii")
    content = read_case(source, load_mapping({1: "liver", 2: "spleen"}))
    np.testing.assert_array_equal(content.ct, scan(3))
    np.testing.assert_array_equal(content.labels["organ"], organs())
    np.testing.assert_allclose(content.affine, lps_affine(), atol=1e-4)
    assert content.spacing == pytest.approx(SPACING)
    assert content.axcodes == codes
    assert content.ct.flags.c_contiguous


def test_there_are_48() -> None:
    assert len(set(ORIENTATIONS)) == 48


def test_labels_in_another_orientation_of_the_same_grid_are_taken(tmp_path: Path) -> None:
    nib.save(turned(scan(3), "RAS"), tmp_path / "ct.nii")
    nib.save(turned(organs(), "PIR"), tmp_path / "labels.nii")
    source = CaseSource("c", tmp_path / "ct.nii", tmp_path / "labels.nii")
    content = read_case(source, load_mapping({1: "liver", 2: "spleen"}))
    np.testing.assert_array_equal(content.labels["organ"], organs())


def test_an_oblique_scan_keeps_its_rotation() -> None:
    angle = np.radians(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ lps_affine()
    canonical = to_canonical(Volume(scan(0).transpose(2, 1, 0), affine, "oblique"))
    np.testing.assert_allclose(canonical.affine, affine)
    np.testing.assert_array_equal(canonical.voxels, scan(0))
    assert canonical.spacing == pytest.approx(SPACING)


def test_a_tilted_gantry_is_refused() -> None:
    affine = lps_affine()
    affine[1, 2] = np.tan(np.radians(18.5)) * SPACING[0]
    with pytest.raises(CaseRejected, match=r"sheared by 18\.5 degrees") as refusal:
        to_canonical(Volume(scan(0).transpose(2, 1, 0), affine, "tilted"))
    assert refusal.value.field == "affine"


def test_float32_rounding_of_a_header_is_not_shear() -> None:
    angle = np.radians(13)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = (turn @ lps_affine()).astype(np.float32).astype(np.float64)
    to_canonical(Volume(scan(0).transpose(2, 1, 0), affine, "rounded"))


def test_grid_distance_is_the_farthest_corner() -> None:
    moved = lps_affine()
    moved[0, 3] += 2.0
    assert grid_distance(lps_affine(), moved, (4, 4, 4)) == pytest.approx(2.0)
    stretched = lps_affine((3.3, 2.0, 1.5))
    assert grid_distance(lps_affine(), stretched, (11, 4, 4)) == pytest.approx(3.0)
