"""CT series, structure sets and segmentations in DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import generate_uid
from tiny_dicom import ORIGIN, SPACING, save_segmentation, save_series, save_structure_set
from tiny_scans import TERMS, organs, scan

from clnet.data_catalog import Case, Catalog, open_source
from clnet.data_catalog.dicom.rasterise import fill
from clnet.data_catalog.volume import read_volume
from clnet.errors import CaseRejected, InputError

SQUARE = ((1.5, 1.5), (5.5, 1.5), (5.5, 6.5), (1.5, 6.5))
"""Around pixels x 2..5, y 2..6."""


def box(z: int, outline: Any = SQUARE) -> list[tuple[float, float, float]]:
    return [(x, y, z) for x, y in outline]


def contribute(catalog: Catalog, folder: Path, mapping: Any = None) -> Case:
    dataset = catalog.contribute_folder("s/d", folder, mapping, TERMS)
    return dataset.case(dataset.case_ids[0])


def inside(case: Case, name: str) -> NDArray[np.bool_]:
    entry = next(e for e in case.contract.entries if e.name == name)
    return case.labels(entry.layer) == entry.value


def test_a_series_with_a_structure_set_is_a_case(catalog: Catalog, source: Path) -> None:
    files = save_series(source / "patient-7" / "ct", scan(1))
    save_structure_set(
        source / "patient-7" / "rt" / "rs.dcm",
        files[0],
        {"Liver": [box(z) for z in range(2, 6)], "PTV 60": [box(3)], "spleen": []},
    )
    with pytest.raises(InputError, match="'PTV 60'"):
        contribute(catalog, source)
    case = contribute(catalog, source, {"Liver": "liver", "*": "ignore"})
    assert case.id == "patient-7"
    np.testing.assert_array_equal(case.ct(), scan(1))
    assert case.axcodes == "LPS"
    assert case.spacing == pytest.approx(SPACING)
    np.testing.assert_allclose(case.affine[:3, 3], (-ORIGIN[0], -ORIGIN[1], ORIGIN[2]))
    expected = np.zeros(scan(1).shape, bool)
    expected[2:6, 2:7, 2:6] = True
    np.testing.assert_array_equal(inside(case, "liver"), expected)
    assert not case.contract.known("spleen"), "a ROI without contours was not drawn"


def test_a_series_with_a_segmentation_is_a_case(catalog: Catalog, source: Path) -> None:
    files = save_series(source / "ct", scan(2))
    masks = {"liver": organs() == 1, "spleen": organs() == 2}
    save_segmentation(source / "seg.dcm", files, masks)
    case = contribute(catalog, source)
    assert case.id == "ct"
    np.testing.assert_array_equal(case.ct(), scan(2))
    for name, mask in masks.items():
        np.testing.assert_array_equal(inside(case, name), mask)


def test_series_are_told_apart_and_those_without_labels_left_out(
    catalog: Catalog, source: Path
) -> None:
    for n in range(3):
        files = save_series(source / f"series{n}", scan(n))
        if n:
            save_structure_set(source / f"rs{n}.dcm", files[0], {"liver": [box(2 + n)]})
    opened = open_source(source)
    assert [case.id for case in opened.cases] == ["series1", "series2"]
    (note,) = opened.findings
    assert note.severity == "info"
    assert note.explanation == "CT series without labels left out (1): series0"
    for n, case in enumerate(opened.cases, start=1):
        np.testing.assert_array_equal(read_volume(case.image).voxels, scan(n).T)


def test_series_in_one_folder_get_ids_that_name_nobody(source: Path) -> None:
    for n in range(2):
        files = save_series(source / f"tmp{n}", scan(n))
        for file in files:
            file.rename(source / f"{n}-{file.name}")
        save_structure_set(source / f"rs{n}.dcm", source / f"{n}-000.dcm", {"liver": [box(3)]})
        (source / f"tmp{n}").rmdir()
    ids = [case.id for case in open_source(source).cases]
    assert len(set(ids)) == 2
    assert all(name.startswith("series-") and "Tiny" not in name for name in ids)


def damaged(source: Path, **options: Any) -> list[Path]:
    files = save_series(source / "ct", scan(1), **options)
    save_structure_set(source / "rs.dcm", files[0], {"liver": [box(3)]})
    return files


@pytest.mark.parametrize(
    ("damage", "field", "says"),
    [
        ("missing", "slices", "1 missing: 6.00 mm between 003.dcm and 005.dcm"),
        ("doubled", "slices", "1 of 11 doubled"),
        ("uneven", "slices", "uneven"),
        ("tilted", "gantry_tilt", "9.5 degrees"),
        ("spacing", "PixelSpacing", "two scans"),
        ("truncated", "PixelData", "decoded"),
        ("colour", "SamplesPerPixel", "colour"),
        ("frames", "NumberOfFrames", "multi-frame"),
        ("nowhere", "ImagePositionPatient", "missing"),
    ],
)
def test_a_series_that_is_no_even_stack_is_refused(
    catalog: Catalog, source: Path, damage: str, field: str, says: str
) -> None:
    files = damaged(source, tilt=0.5 if damage == "tilted" else 0.0)
    header = dcmread(files[4])
    if damage == "missing":
        files[4].unlink()
    elif damage == "doubled":
        header.SOPInstanceUID = generate_uid()
        header.save_as(source / "ct" / "again.dcm")
    else:
        if damage == "uneven":
            header.ImagePositionPatient[2] += 1
        elif damage == "spacing":
            header.PixelSpacing = [9, 9]
        elif damage == "truncated":
            header.PixelData = header.PixelData[:20]
        elif damage == "colour":
            header.SamplesPerPixel = 3
        elif damage == "frames":
            header.NumberOfFrames = 2
        elif damage == "nowhere":
            del header.ImagePositionPatient
        header.save_as(files[4])
    with pytest.raises(CaseRejected, match=says) as refusal:
        contribute(catalog, source)
    assert refusal.value.field == field
    assert catalog.list() == ()


@pytest.mark.parametrize(
    ("outlines", "says"),
    [
        ([box(10)], "1.0 slices outside of the scan"),
        ([box(-2)], "2.0 slices outside of the scan"),
        ([[(1, 1, 3.45), (5, 1, 3.45), (5, 5, 3.45)]], "between slices 3 and 4"),
        ([[(1, 1, 3), (5, 1, 4), (5, 5, 3)]], "not parallel"),
        ([[(1, 1, 3), (5, 1, 3)]], "three points"),
        ([box(2), box(4), box(6)], "every 2th slice"),
    ],
)
def test_contours_off_the_slices_are_refused(
    catalog: Catalog, source: Path, outlines: Any, says: str
) -> None:
    files = save_series(source / "ct", scan(1))
    save_structure_set(source / "rs.dcm", files[0], {"liver": outlines})
    with pytest.raises(CaseRejected, match=says) as refusal:
        contribute(catalog, source)
    assert refusal.value.file.endswith("rs.dcm")


def test_labels_of_a_series_that_is_not_there_are_rejected(catalog: Catalog, source: Path) -> None:
    files = save_series(source / "ct", scan(1))
    save_structure_set(source / "rs.dcm", files[0], {"liver": [box(3)]})
    other = save_series(source / "other", scan(2))
    save_structure_set(source / "orphan.dcm", other[0], {"liver": [box(3)]})
    for file in other:
        file.unlink()
    opened = open_source(source)
    assert [case.id for case in opened.cases] == ["ct"]
    (found,) = opened.findings
    assert found.file.endswith("orphan.dcm")
    dataset = contribute(catalog, source)
    assert dataset.id == "ct"
    report = catalog.get("s/d").validation
    assert report is not None
    (kept_out,) = report.quarantine()
    assert kept_out["case"] == "orphan.dcm"
    assert "not in this folder" in kept_out["explanation"]


def test_one_roi_name_in_two_structure_sets_is_ambiguous(source: Path) -> None:
    files = save_series(source / "ct", scan(1))
    for n in range(2):
        save_structure_set(source / f"rs{n}.dcm", files[0], {"liver": [box(3 + n)]})
    with pytest.raises(CaseRejected, match="keep one"):
        open_source(source)


def test_a_large_series_is_refused_by_its_headers(source: Path) -> None:
    damaged(source)
    (case,) = open_source(source).cases
    with pytest.raises(CaseRejected, match="limit"):
        read_volume(case.image, max_bytes=1000)


def test_a_contour_within_another_is_a_hole() -> None:
    hole = np.array([(2.5, 2.5), (4.5, 2.5), (4.5, 4.5), (2.5, 4.5)])
    filled = fill([np.array(SQUARE), hole], (8, 9))
    assert filled.sum() == 4 * 5 - 4
    assert not filled[3:5, 3:5].any()


def test_a_keyhole_is_the_same_hole() -> None:
    outer, hole = np.array(SQUARE), np.array([(2.5, 2.5), (2.5, 4.5), (4.5, 4.5), (4.5, 2.5)])
    keyhole = np.concatenate([outer, outer[:1], hole, hole[:1]])
    np.testing.assert_array_equal(fill([keyhole], (8, 9)), fill([outer, hole], (8, 9)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-2, 12), st.floats(-2, 12)), min_size=3, max_size=12))
def test_a_pixel_is_inside_if_a_ray_from_it_crosses_the_contour_an_odd_number_of_times(
    points: list[tuple[float, float]],
) -> None:
    outline = np.array(points)
    filled = fill([outline], (10, 9))
    for x, y in np.ndindex(10, 9):
        odd, near = False, False
        for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            if (y0 <= y) != (y1 <= y):
                crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                odd ^= bool(crossing <= x)
                near |= abs(crossing - x) < 1e-9  # rounding decides
        assert near or filled[x, y] == odd


@pytest.mark.parametrize("kind", ["042", "044"])
def test_real_contours_equal_the_mask_that_came_with_them(real_data: Path, kind: str) -> None:
    folder = real_data / f"ibsi_sts_{kind}"
    (case,) = open_source(folder, "dicom").cases
    assert isinstance(case.labels, dict)
    drawn = read_volume(case.labels["GTV_Mass_CT"]).voxels > 0
    given_mask = read_volume(folder / "CT_mask.nii.gz")
    mask = given_mask.voxels > 0
    series = read_volume(case.image)
    # the NIfTI stores the rows in the other direction
    flips = np.sign(np.diag(np.linalg.inv(given_mask.affine[:3, :3]) @ series.affine[:3, :3]))
    mask = mask[tuple(slice(None, None, int(sign)) for sign in flips)]
    dice = 2 * (drawn & mask).sum() / (drawn.sum() + mask.sum())
    assert dice >= 0.99


def test_a_real_tilted_scan_is_refused(real_data: Path) -> None:
    from clnet.data_catalog.dicom import index_folder

    (series,) = index_folder(real_data / "dcm_qa_ct_head_tilt").series.values()
    with pytest.raises(CaseRejected, match=r"18\.5 degrees") as refusal:
        series.read()
    assert refusal.value.field == "gantry_tilt"


@pytest.mark.parametrize(
    ("structures", "says"),
    [
        ("invalid_reference_rt.dcm", "outside of the scan"),
        ("non_existent_reference_rt.dcm", "outside of the scan"),
    ],
)
def test_real_structure_sets_with_broken_references(
    real_data: Path, source: Path, structures: str, says: str
) -> None:
    for name in ("ct_1.dcm", "ct_2.dcm", structures):
        (source / name).write_bytes((real_data / "rt_utils_mock" / name).read_bytes())
    (case,) = open_source(source).cases
    assert isinstance(case.labels, dict)
    with pytest.raises(CaseRejected, match=says):
        read_volume(case.labels["ROI-1"])


def test_a_fractional_segmentation_is_refused(real_data: Path) -> None:
    from clnet.data_catalog.dicom import SegmentFrames

    path = real_data / "highdicom_seg" / "seg_image_ct_true_fractional.dcm"
    with pytest.raises(CaseRejected, match="fractional"):
        SegmentFrames(path, "first segment", (1,)).read(2**31)
    as_binary = path.with_name("seg_image_ct_binary_fractional.dcm")
    assert read_volume(SegmentFrames(as_binary, "first segment", (1,))).voxels.any()
