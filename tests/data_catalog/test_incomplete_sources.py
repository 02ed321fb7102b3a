"""Folders in which files are missing, doubled or damaged: the rest is stored, all is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_dicom import save_segmentation, save_series, save_structure_set
from tiny_scans import TERMS, organs, save, scan

from clnet.data_catalog import (
    Catalog,
    Finding,
    IntakeRules,
    Judgement,
    Layout,
    load_recipe,
    open_source,
)
from clnet.errors import CaseRejected, InputError

NAMES = {1: "liver", 2: "spleen"}
Build = Callable[[Path, str], None]


def nnunet(folder: Path, case: str) -> None:
    about = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 2}}
    (folder / "dataset.json").write_text(json.dumps(about))
    save(folder / "imagesTr" / f"{case}_0000.nii.gz", scan(0))
    save(folder / "labelsTr" / f"{case}.nii.gz", organs())


def decathlon(folder: Path, case: str) -> None:
    about = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "spleen"}}
    (folder / "dataset.json").write_text(json.dumps(about))
    save(folder / "imagesTr" / f"{case}.nii.gz", scan(0))
    save(folder / "labelsTr" / f"{case}.nii.gz", organs())


def images_labels(folder: Path, case: str) -> None:
    save(folder / "images" / f"{case}.nii.gz", scan(0))
    for label, name in NAMES.items():
        save(folder / "labels" / case / f"{name}.nii.gz", mask(label))


def case_folders(folder: Path, case: str) -> None:
    save(folder / case / "image.nii.gz", scan(0))
    for label, name in NAMES.items():
        save(folder / case / "masks" / f"{name}.nii.gz", mask(label))


def totalsegmentator(folder: Path, case: str) -> None:
    save(folder / case / "ct.nii.gz", scan(0))
    for label, name in NAMES.items():
        save(folder / case / "segmentations" / f"{name}.nii.gz", mask(label))


def mask(label: int) -> Any:
    return (organs() == label).astype(np.uint8)


FORMATS: dict[str, tuple[Build, str, tuple[str, ...]]] = {
    "nnunet": (nnunet, "imagesTr/bad_0000.nii.gz", ("labelsTr/bad.nii.gz",)),
    "decathlon": (decathlon, "imagesTr/bad.nii.gz", ("labelsTr/bad.nii.gz",)),
    "images-labels": (
        images_labels,
        "images/bad.nii.gz",
        ("labels/bad/liver.nii.gz", "labels/bad/spleen.nii.gz"),
    ),
    "case-folders": (
        case_folders,
        "bad/image.nii.gz",
        ("bad/masks/liver.nii.gz", "bad/masks/spleen.nii.gz"),
    ),
    "totalsegmentator": (
        totalsegmentator,
        "bad/ct.nii.gz",
        ("bad/segmentations/liver.nii.gz", "bad/segmentations/spleen.nii.gz"),
    ),
}
"""How a case is written, and the image and the labels of the case named bad."""


def contribute(catalog: Catalog, folder: Path, **options: Any) -> Judgement:
    """Store what is whole; the report that the contributor gets."""
    told: list[Judgement] = []
    catalog.contribute_folder("s/d", folder, None, TERMS, tell=told.append, **options)
    return told[0]


def errors(judgement: Judgement) -> list[Finding]:
    return [found for found in judgement.report.findings if found.severity == "error"]


@pytest.mark.parametrize("lost", ["image", "labels"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_case_with_a_part_missing_is_quarantined_and_the_rest_stored(
    catalog: Catalog, source: Path, name: str, lost: str
) -> None:
    build, image, labels = FORMATS[name]
    for case in ("c1", "bad", "c2"):
        build(source, case)
    for file in [image] if lost == "image" else labels:
        (source / file).unlink()
    code, file = ("case.no-image", labels[0]) if lost == "image" else ("case.no-labels", image)
    with pytest.raises(CaseRejected, match="bad") as refusal:
        contribute(catalog, source, rules=IntakeRules(strict=True))
    assert refusal.value.code == code
    assert catalog.list() == ()
    judgement = contribute(catalog, source)
    assert judgement.report.stored == ("c1", "c2")
    assert judgement.report.quarantined == ("bad",)
    (told,) = errors(judgement)
    assert (told.code, told.case, told.file) == (code, "bad", str(source / file))
    assert told.way_out
    kept = catalog.get("s/d").validation
    assert kept is not None
    assert kept.quarantine()[0]["case"] == "bad"
    assert str(source) not in kept.model_dump_json(), "folders of a site are nobody's business"
    trial = catalog.validate_folder("s/d", source)
    assert trial.report.quarantined == ("bad",)


@pytest.mark.parametrize("name", FORMATS)
def test_where_no_case_is_whole_one_error_says_so(
    catalog: Catalog, source: Path, name: str
) -> None:
    build, image, labels = FORMATS[name]
    build(source, "bad")
    for file in labels:
        (source / file).unlink()
    with pytest.raises(CaseRejected, match="bad"):
        contribute(catalog, source, format=name)
    for n in range(4):
        (source / image.replace("bad", f"worse{n}")).parent.mkdir(exist_ok=True)
        (source / image.replace("bad", f"worse{n}")).write_bytes((source / image).read_bytes())
    with pytest.raises(InputError, match=r"no usable case: .*bad.*; and 2 more"):
        contribute(catalog, source, format=name)
    assert catalog.list() == ()


@pytest.mark.parametrize("name", ["nnunet", "decathlon", "images-labels", "case-folders"])
def test_two_images_of_one_case_are_ambiguous(catalog: Catalog, source: Path, name: str) -> None:
    build, image, _ = FORMATS[name]
    for case in ("c1", "bad"):
        build(source, case)
    (source / image.replace(".nii.gz", ".nrrd")).write_bytes(b"whatever")
    (told,) = errors(contribute(catalog, source))
    assert (told.code, told.case) == ("case.ambiguous", "bad")
    assert "keep one" in told.explanation


def test_labels_of_two_kinds_are_ambiguous(catalog: Catalog, source: Path) -> None:
    for case in ("c1", "both", "twice", "two"):
        case_folders(source, case)
    save(source / "both" / "seg.nii.gz", organs())
    save(source / "twice" / "labels" / "pancreas.nii.gz", mask(1))
    save(source / "two" / "scan.nii.gz", scan(1))
    judgement = contribute(catalog, source)
    assert judgement.report.stored == ("c1",)
    assert {found.case: found.code for found in errors(judgement)} == dict.fromkeys(
        ("both", "twice", "two"), "case.ambiguous"
    )


def test_an_image_without_a_channel_keeps_its_own_case_out(catalog: Catalog, source: Path) -> None:
    for case in ("c1", "bad"):
        nnunet(source, case)
    (source / "imagesTr" / "bad_0000.nii.gz").rename(source / "imagesTr" / "bad.nii.gz")
    judgement = contribute(catalog, source)
    assert judgement.report.stored == ("c1",)
    (told,) = errors(judgement)
    assert (told.code, told.case) == ("case.id", "bad")
    assert "ID_0000" in told.explanation


def test_a_folder_whose_scans_have_other_names_is_listed(catalog: Catalog, source: Path) -> None:
    case_folders(source, "c1")
    save(source / "odd" / "CT_1.nii.gz", scan(0))
    (told,) = errors(contribute(catalog, source))
    assert (told.code, told.case) == ("case.no-image", "odd")
    assert "CT_1.nii.gz" in told.explanation


@pytest.mark.parametrize("build", [case_folders, totalsegmentator])
def test_folders_that_hold_no_case_are_noted(catalog: Catalog, source: Path, build: Build) -> None:
    build(source, "c1")
    for name in ("documents", "empty"):
        (source / name).mkdir()
    (source / "documents" / "readme.txt").write_text("hello")
    judgement = contribute(catalog, source)
    (told,) = (found for found in judgement.report.findings if found.severity == "info")
    assert (told.code, told.severity, told.case) == ("source.left-out", "info", "")
    assert "documents, empty" in told.explanation
    assert judgement.report.quarantined == ()
    assert "The folder as a whole" in judgement.html()
    assert "documents, empty" in judgement.html()
    strict = contribute(catalog, source, rules=IntakeRules(strict=True))
    assert strict.report.stored == ("c1",), "a note refuses nothing"


def segments(path: Path, label: int) -> bytes:
    image = sitk.GetImageFromArray(mask(label))
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetMetaData("Segment0_Name", NAMES[label])
    image.SetMetaData("Segment0_LabelValue", "1")
    image.SetMetaData("Segment0_Layer", "0")
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path.read_bytes()


HAN_SEG = {1: "Glottis", 2: "Lips"}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_a_truncated_slicer_segmentation_keeps_its_own_case_out(
    catalog: Catalog, source: Path, share: float
) -> None:
    recipe = load_recipe("han-seg")
    for case in ("case_01", "case_02", "case_03"):
        folder = source / "set_1" / case
        image = sitk.GetImageFromArray(scan(0))
        image.SetSpacing((1.5, 2.0, 3.0))
        folder.mkdir(parents=True)
        sitk.WriteImage(image, str(folder / f"{case}_IMG_CT.nrrd"))
        for label, name in HAN_SEG.items():
            segments(folder / f"{case}_OAR_{name}.seg.nrrd", label)
    path = source / "set_1" / "case_02" / "case_02_OAR_Lips.seg.nrrd"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    judgement = contribute(catalog, source, recipe=recipe)
    assert judgement.report.stored == ("case_01", "case_03")
    (told,) = errors(judgement)
    assert (told.code, told.case, told.file) == ("file.unreadable", "case_02", str(path))


def test_every_damaged_mask_of_a_case_is_told(catalog: Catalog, source: Path) -> None:
    case_folders(source, "c1")
    save(source / "bad" / "image.nii.gz", scan(0))
    for name in NAMES.values():
        (source / "bad" / "masks").mkdir(exist_ok=True)
        (source / "bad" / "masks" / f"{name}.seg.nrrd").write_bytes(b"NRRD0004\n")
    judgement = contribute(catalog, source)
    assert [Path(found.file).name for found in errors(judgement)] == [
        "liver.seg.nrrd",
        "spleen.seg.nrrd",
    ]


def test_a_layout_notes_its_test_images_and_lists_labels_without_one(source: Path) -> None:
    for case in ("c1", "c2", "test1", "test2"):
        save(source / "img" / f"{case}.nii.gz", scan(0))
    for case in ("c1", "c2", "lost"):
        save(source / "seg" / f"{case}.nii.gz", organs())
    opened = open_source(source, layout=Layout(image="img/{id}.nii.gz", labels="seg/{id}.nii.gz"))
    assert [case.id for case in opened.cases] == ["c1", "c2"]
    assert opened.broken == {"lost"}
    (note,) = (found for found in opened.findings if found.severity == "info")
    assert note.explanation == "images without labels left out (2): test1, test2"


def patient(folder: Path, name: str, seed: int) -> list[Path]:
    files = save_series(folder / name / "ct", scan(seed))
    rois = {
        roi: [[(x, 1, z), (x + 2, 1, z), (x + 2, 5, z), (x, 5, z)] for z in (3, 4)]
        for roi, x in (("liver", 1), ("spleen", 4))
    }
    save_structure_set(folder / name / "rs" / "rs.dcm", files[0], rois)
    return files


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_structure_set_keeps_its_own_patient_out(
    catalog: Catalog, source: Path, share: float
) -> None:
    for n, name in enumerate(("good", "bad")):
        patient(source, name, n)
    path = source / "bad" / "rs" / "rs.dcm"
    cut(path, share)
    judgement = contribute(catalog, source)
    assert judgement.report.stored == ("good",)
    (told,) = errors(judgement)
    assert told.file == str(path)
    assert told.code == "file.unreadable"
    with pytest.raises(CaseRejected, match=r"rs\.dcm"):
        contribute(catalog, source, rules=IntakeRules(strict=True))


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_a_truncated_segmentation_keeps_its_own_patient_out(
    catalog: Catalog, source: Path, share: float
) -> None:
    for n, name in enumerate(("good", "bad")):
        files = save_series(source / name / "ct", scan(n))
        save_segmentation(source / name / "seg" / "seg.dcm", files, {"liver": organs() == 1})
    path = source / "bad" / "seg" / "seg.dcm"
    cut(path, share)
    judgement = contribute(catalog, source)
    assert judgement.report.stored == ("good",)
    (told,) = errors(judgement)
    assert told.file == str(path)


def test_wherever_a_structure_set_ends_too_early_it_is_told(source: Path) -> None:
    for n, name in enumerate(("good", "bad")):
        patient(source, name, n)
    path = source / "bad" / "rs" / "rs.dcm"
    data = path.read_bytes()
    for length in range(0, len(data), 29):
        path.write_bytes(data[:length])
        opened = open_source(source, "dicom")
        assert [case.id for case in opened.cases] == ["good"], length
        (told,) = (found for found in opened.findings if found.severity == "error")
        assert told.file == str(path), length


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_slice_keeps_its_own_series_out(
    catalog: Catalog, source: Path, share: float
) -> None:
    for n, name in enumerate(("good", "bad")):
        files = patient(source, name, n)
    cut(files[-1], share)  # without the last slice the others are a scan as even as before
    judgement = contribute(catalog, source)
    assert judgement.report.stored == ("good",)
    assert judgement.report.quarantined == ("bad",)
    (told,) = errors(judgement)
    assert told.file == str(files[-1])
