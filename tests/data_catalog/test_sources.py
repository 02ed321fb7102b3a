"""Folders in the layouts of the field, recognised and stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from tiny_scans import TERMS, organs, save, scan

from clnet.anatomy import UNKNOWN
from clnet.data_catalog import Case, Catalog, IntakeRules, Layout, format_names, open_source
from clnet.data_catalog.fingerprint import fingerprint
from clnet.errors import CaseRejected, ContractError, InputError

NAMES = {1: "liver", 2: "spleen"}


def dataset_json(folder: Path, **about: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(about))


def nnunet(folder: Path, labels: dict[str, Any], channels: dict[str, str] | None = None) -> Path:
    dataset_json(
        folder, channel_names=channels or {"0": "CT"}, labels=labels, file_ending=".nii.gz"
    )
    for channel in channels or {"0": "CT"}:
        save(folder / "imagesTr" / f"c1_{int(channel):04d}.nii.gz", scan(int(channel)))
    save(folder / "labelsTr" / "c1.nii.gz", organs())
    return folder


def mask(label: int) -> NDArray[np.uint8]:
    return (organs() == label).astype(np.uint8)


def value(case: Case, name: str) -> int:
    return next(e.value for e in case.contract.entries if e.name == name)


def stored(catalog: Catalog, folder: Path, mapping: Any = None, **more: Any) -> Case:
    return catalog.contribute_folder("s/d", folder, mapping, TERMS, **more).case("c1")


def is_organs(case: Case) -> None:
    grid = case.labels("organ")
    for label, name in NAMES.items():
        np.testing.assert_array_equal(grid == value(case, name), organs() == label)
    np.testing.assert_array_equal(case.ct(), scan(0))


def test_nnunet_raw_says_itself_what_its_labels_are(catalog: Catalog, source: Path) -> None:
    nnunet(source, {"background": 0, "liver": 1, "spleen": 2})
    is_organs(stored(catalog, source))


def test_names_of_the_source_may_be_mapped_by_name_or_by_id(catalog: Catalog, source: Path) -> None:
    nnunet(source, {"background": 0, "Leber": 1, "Milz": 2})
    with pytest.raises(ContractError, match="'Leber', 'Milz'"):
        stored(catalog, source)
    is_organs(stored(catalog, source, {"Leber": "liver", 2: "spleen"}))
    with pytest.raises(ContractError, match="no label of that name"):
        stored(catalog, source, {"Leber": "liver", "Niere": "kidney"})


def test_of_overlapping_regions_the_smallest_speaks_in_each_layer(
    catalog: Catalog, source: Path
) -> None:
    nnunet(source, {"background": 0, "kidney": [1, 2], "kidney lesion": [2], "kidney_tumor": 2})
    case = stored(catalog, source)
    np.testing.assert_array_equal(case.labels("organ") == value(case, "kidney"), organs() > 0)
    tumour = value(case, "kidney_lesion")
    np.testing.assert_array_equal(case.labels("gtv") == tumour, organs() == 2)


def test_voxels_of_nnunets_ignore_label_are_unknown(catalog: Catalog, source: Path) -> None:
    nnunet(source, {"background": 0, "liver": 1, "ignore": 2})
    case = stored(catalog, source)
    assert case.contract.anatomies == {"liver"}
    np.testing.assert_array_equal(case.labels("organ") == UNKNOWN, organs() == 2)
    again = stored(catalog, source, {1: "liver", 2: "unknown"})
    assert again.sha256 == case.sha256


def test_unknown_voxels_are_in_no_figure_of_the_labelled(catalog: Catalog, source: Path) -> None:
    nnunet(source, {"background": 0, "liver": 1, "ignore": 2})
    stored(catalog, source)
    found = fingerprint(catalog.get("s/d"))["foreground_hu"]
    liver = scan(0)[organs() == 1]
    assert found["voxels"] == len(liver)
    assert found["mean"] == pytest.approx(liver.mean(), abs=0.01)


def test_of_several_channels_the_ct_is_read(catalog: Catalog, source: Path) -> None:
    folder = nnunet(source, {"background": 0, "liver": 1, "spleen": 2}, {"0": "CT", "1": "PET"})
    is_organs(stored(catalog, folder))
    dataset_json(folder, channel_names={"0": "T1", "1": "T2"}, labels={"liver": 1})
    with pytest.raises(InputError, match="of which 0 are named CT"):
        open_source(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{",
        '{"channel_names": 3}',
        '{"channel_names": {"0": "CT"}, "labels": {"x": "y"}}',
    ],
)
def test_a_damaged_dataset_json_is_told(source: Path, text: str) -> None:
    nnunet(source, {"background": 0, "liver": 1})
    (source / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"dataset\.json"):
        open_source(source, "nnunet")


def test_paths_in_dataset_json_are_not_followed(catalog: Catalog, source: Path) -> None:
    dataset_json(
        source,
        modality={"0": "CT"},
        labels={"0": "background", "1": "liver", "2": "spleen"},
        training=[{"image": "../../../etc/passwd", "label": "/etc/passwd"}],
    )
    save(source / "imagesTr" / "c1.nii.gz", scan(0))
    save(source / "labelsTr" / "c1.nii.gz", organs())
    is_organs(stored(catalog, source))


def test_totalsegmentators_layout_has_its_own_names(catalog: Catalog, source: Path) -> None:
    save(source / "c1" / "ct.nii.gz", scan(0))
    for label, name in NAMES.items():
        save(source / "c1" / "segmentations" / f"{name}.nii.gz", mask(label))
    is_organs(stored(catalog, source))


@pytest.mark.parametrize("masks", [False, True])
def test_a_folder_per_case(catalog: Catalog, source: Path, masks: bool) -> None:
    save(source / "c1" / "image.nii.gz", scan(0))
    if masks:
        for label, name in NAMES.items():
            save(source / "c1" / "masks" / f"{name}.nii.gz", mask(label))
    else:
        save(source / "c1" / "segmentation.nii.gz", organs())
    is_organs(stored(catalog, source, None if masks else NAMES))


def test_masks_that_a_mapping_does_not_list_are_refused_unless_the_rest_is_ignored(
    catalog: Catalog, source: Path
) -> None:
    save(source / "c1" / "image.nii.gz", scan(0))
    for label, name in NAMES.items():
        save(source / "c1" / "masks" / f"{name}.nii.gz", mask(label))
    with pytest.raises(CaseRejected, match="no entry"):
        stored(catalog, source, {"liver": "liver"})
    case = stored(catalog, source, {"liver": "liver", "*": "ignore"})
    assert case.contract.anatomies == {"liver"}


def save_segments(path: Path, names: dict[int, str], ids: Any) -> None:
    """A 3D Slicer segmentation cropped to its labels, as Slicer writes it."""
    z, y, x = np.nonzero(ids)
    image = sitk.GetImageFromArray(ids)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((-40.0, 30.0, 100.0))
    start = [int(axis.min()) for axis in (x, y, z)]
    size = [int(axis.max()) - low + 1 for axis, low in zip((x, y, z), start, strict=True)]
    image = sitk.RegionOfInterest(image, size, start)
    for number, (label, name) in enumerate(names.items()):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(label))
        image.SetMetaData(f"Segment{number}_Layer", "0")
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)


def test_slicer_segments_bring_their_names_and_may_be_cropped(
    catalog: Catalog, source: Path
) -> None:
    save(source / "images" / "c1.nii.gz", scan(0))
    save_segments(source / "labels" / "c1.seg.nrrd", NAMES, organs())
    is_organs(stored(catalog, source))


def test_names_in_the_header_of_slicer_segments_keep_a_case_out(
    catalog: Catalog, source: Path
) -> None:
    save(source / "images" / "c1.nii.gz", scan(0))
    path = source / "labels" / "c1.seg.nrrd"
    save_segments(path, NAMES, organs())
    image = sitk.ReadImage(str(path))
    image.SetMetaData("Segment0_Tags", "Segmentation.Status:completed|")
    image.SetMetaData("operator", "MUELLER^HANS")
    sitk.WriteImage(image, str(path))
    with pytest.raises(CaseRejected, match=r"operator \(12 characters\)"):
        stored(catalog, source)
    told = catalog.validate_folder("s/d", source).report
    assert told.findings[0].code == "identity.header-text"
    assert "MUELLER" not in str(told)
    is_organs(stored(catalog, source, rules=IntakeRules(deidentify=True)))


def test_files_anywhere_are_found_by_a_layout(catalog: Catalog, source: Path) -> None:
    save(source / "part1" / "volume-c1.nii.gz", scan(0))
    save(source / "part2" / "c1" / "seg_liver.nii.gz", mask(1))
    save(source / "part2" / "c1" / "seg_spleen.nii.gz", mask(2))
    save(source / "part1" / "volume-c2.nii.gz", scan(2))  # a test case: no labels
    layout = Layout(image="**/volume-{id}.nii.gz", labels="**/{id}/seg_{name}.nii.gz")
    opened = open_source(source, layout=layout)
    assert [case.id for case in opened.cases] == ["c1"]
    is_organs(
        catalog.contribute("s/d", opened.cases, {n: n for n in NAMES.values()}, TERMS).case("c1")
    )
    with pytest.raises(InputError, match=r"2 found.*0 found"):
        open_source(source, layout=Layout(image="**/volume-{id}.nii.gz", labels="{id}.nii"))
    save(source / "part3" / "volume-c1.nii.gz", scan(0))
    with pytest.raises(CaseRejected, match="also of case c1"):
        open_source(source, layout=layout)


def test_an_unrecognised_folder_is_told_what_was_looked_for_and_found(source: Path) -> None:
    (source / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError) as refusal:
        open_source(source)
    for name in format_names():
        assert name in str(refusal.value)
    assert "holiday.jpg" in str(refusal.value)
    with pytest.raises(InputError, match="no such folder"):
        open_source(source / "nowhere")
    with pytest.raises(InputError, match="give one of"):
        open_source(source, "zip")


def test_a_folder_that_looks_like_two_formats_needs_a_word(catalog: Catalog, source: Path) -> None:
    nnunet(source, {"background": 0, "liver": 1, "spleen": 2})
    save(source / "extra" / "image.nii.gz", scan(1))
    save(source / "extra" / "mask.nii.gz", organs())
    with pytest.raises(InputError, match="case-folders and like nnunet"):
        open_source(source)
    is_organs(stored(catalog, source, format="nnunet"))


def test_without_terms_nothing_is_stored(catalog: Catalog, source: Path) -> None:
    nnunet(source, {"background": 0, "liver": 1, "spleen": 2})
    with pytest.raises(InputError, match="terms"):
        catalog.contribute_folder("s/d", source)
    assert catalog.list() == ()
