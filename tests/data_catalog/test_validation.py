"""Validation: what is wrong with a contribution is found, explained, and kept out or taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tiny_scans import MAPPING, TERMS, case, lps_affine, organs, save, scan

from clnet.data_catalog import CaseSource, Catalog, Finding, IntakeRules, Judgement
from clnet.data_catalog.validation import codes
from clnet.errors import CaseRejected, ContributionRefused, InputError

SHAPE = (20, 16, 16)
SPACING = (10.0, 10.0, 10.0)
AFFINE = lps_affine(SPACING)
ORGANS = {
    1: "liver",
    2: "spleen",
    3: "kidney_right",
    4: "kidney_left",
    5: "urinary_bladder",
    6: "heart",
    7: "spinal_cord",
}
CORNERS = {1: (11, 4, 3), 2: (11, 7, 11), 3: (8, 9, 4), 4: (8, 9, 11), 5: (1, 4, 7), 6: (16, 4, 8)}


def body() -> tuple[Any, Any]:
    """A block of noisy tissue in air with seven organs where they belong, ``(z, y, x)``."""
    ids = np.zeros(SHAPE, np.uint8)
    for value, (z, y, x) in CORNERS.items():
        ids[z : z + 3, y : y + 3, x : x + 3] = value
    ids[:, 12, 8] = 7
    noise = np.random.default_rng(0).normal(40, 15, SHAPE)
    ct = np.full(SHAPE, -1000.0)
    ct[:, 2:14, 2:15] = noise[:, 2:14, 2:15]
    return ct.astype(np.int16), ids


def body_case(
    folder: Path,
    ct: Any = None,
    ids: Any = None,
    affine: Any = AFFINE,
    label_affine: Any = None,
    name: str = "c1",
) -> CaseSource:
    own_ct, own_ids = body()
    return CaseSource(
        name,
        save(folder / "images" / f"{name}.nii.gz", own_ct if ct is None else ct, affine),
        save(
            folder / "labels" / f"{name}.nii.gz",
            own_ids if ids is None else ids,
            affine if label_affine is None else label_affine,
        ),
    )


def judge(catalog: Catalog, *cases: CaseSource, mapping: Any = ORGANS, **rules: Any) -> Judgement:
    return catalog.validate("s/d", cases, mapping, rules=IntakeRules(**rules))


def found(judgement: Judgement) -> set[str]:
    return {finding.code for finding in judgement.report.findings}


def the(judgement: Judgement, code: str) -> Finding:
    (finding,) = (f for f in judgement.report.findings if f.code == code)
    return finding


def test_a_good_case_has_no_findings(catalog: Catalog, source: Path) -> None:
    judgement = judge(catalog, body_case(source))
    assert judgement.report.findings == ()
    assert judgement.report.stored == ("c1",)
    assert not catalog.root.exists(), "a trial stores nothing"


def test_every_code_says_what_it_is_and_what_to_do() -> None:
    for code, kind in codes().items():
        assert kind.title, code
        assert kind.way_out.endswith((".", *(f"--accept {code}." for _ in [0]))), code
        assert not kind.judged or f"--accept {code}" in kind.way_out


def mirrored(ids: Any) -> Any:
    return ids[:, :, ::-1]


def swapped(ids: Any) -> Any:
    return np.choose(ids, [0, 1, 2, 4, 3, 5, 6, 7]).astype(np.uint8)


TURNED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mirrored": (lambda v: v[:, :, ::-1], "orientation.mirrored"),
    "upside down": (lambda v: v[::-1], "orientation.upside-down"),
    "backwards": (lambda v: v[:, ::-1], "orientation.back-to-front"),
}


@pytest.mark.parametrize("kind", TURNED)
def test_a_body_the_wrong_way_round_is_quarantined(
    catalog: Catalog, source: Path, kind: str
) -> None:
    turn, code = TURNED[kind]
    ct, ids = body()
    bad = body_case(source, turn(ct), turn(ids))
    judgement = judge(catalog, bad)
    assert the(judgement, code).severity == "error"
    assert judgement.report.quarantined == ("c1",)
    with pytest.raises(CaseRejected, match=r"way|again"):
        catalog.contribute("s/d", [bad], ORGANS, TERMS)
    accepted = IntakeRules(accept=frozenset({code}))
    assert catalog.contribute("s/d", [bad], ORGANS, TERMS, rules=accepted).case_ids == ("c1",)


def test_exchanged_sides_are_quarantined(catalog: Catalog, source: Path) -> None:
    judgement = judge(catalog, body_case(source, ids=swapped(body()[1])))
    finding = the(judgement, "orientation.sides-swapped")
    assert "kidney_right should lie right of kidney_left" in finding.explanation


def test_only_a_judgement_can_be_overruled() -> None:
    with pytest.raises(InputError, match=r"only .*label\.outside-body"):
        IntakeRules(accept=frozenset({"file.bomb"}))


def test_labels_in_the_air_are_quarantined(catalog: Catalog, source: Path) -> None:
    ct, ids = body()
    thin = ct.copy()
    thin[:, :, 6:] = -1000
    assert the(judge(catalog, body_case(source, thin)), "label.outside-body").severity == "error"
    shifted = np.roll(ids, 4, axis=1)
    assert "label.partly-outside-body" in found(judge(catalog, body_case(source, ct, shifted)))


def test_tissue_of_another_density_is_a_warning(catalog: Catalog, source: Path) -> None:
    ct, _ = body()
    judgement = judge(catalog, body_case(source, np.where(ct > -900, ct + 500, ct)))
    assert the(judgement, "hu.tissue").severity == "warning"
    assert judgement.report.stored == ("c1",)


def test_empty_and_tiny_labels_are_told(catalog: Catalog, source: Path) -> None:
    ct, ids = body()
    ids[ids == 2] = 0
    ids[ids == 1] = 0
    ids[11, 4, 3] = 1
    judgement = judge(catalog, body_case(source, ids=ids))
    assert "spleen" in the(judgement, "label.empty").explanation
    assert "liver (1 voxels)" in the(judgement, "label.tiny").explanation
    nothing = judge(catalog, body_case(source, ct, np.zeros_like(ids)))
    assert found(nothing) == {"label.none"}
    assert nothing.report.stored == ("c1",)


def test_doubled_and_blank_slices_are_told(catalog: Catalog, source: Path) -> None:
    ct, _ = body()
    ct[5] = ct[4]
    ct[9] = -1000
    ct[19] = -1024  # padding at the end is usual
    judgement = judge(catalog, body_case(source, ct))
    assert "z = 5" in the(judgement, "slices.doubled").explanation
    assert the(judgement, "slices.blank").explanation == "1 blank slices: z = 9"


WRONG_HU: dict[str, tuple[Callable[[Any], Any], str]] = {
    "shifted": (lambda ct: (ct.astype(np.int32) + 1024).astype(np.uint16), "hu.shifted"),
    "0..1": (lambda ct: ((ct + 1000.0) / 1100).clip(0, 1).astype(np.float32), "hu.normalised"),
    "8 bit": (
        lambda ct: (np.arange(ct.size) % 256).astype(np.uint8).reshape(ct.shape),
        "hu.picture",
    ),
    "mask": (lambda ct: (ct > -500).astype(np.uint8), "hu.mask"),
}


@pytest.mark.parametrize("kind", WRONG_HU)
def test_what_is_no_hounsfield_unit_is_told_apart(
    catalog: Catalog, source: Path, kind: str
) -> None:
    spoil, code = WRONG_HU[kind]
    assert code in found(judge(catalog, body_case(source, spoil(body()[0]))))


def test_labels_on_another_grid_are_resampled_when_asked(catalog: Catalog, source: Path) -> None:
    _, ids = body()
    half = ids[::2, ::2, ::2]
    affine = lps_affine((20.0, 20.0, 20.0))
    bad = body_case(source, ids=half, label_affine=affine)
    assert found(judge(catalog, bad)) == {"grid.shape"}
    judgement = judge(catalog, bad, resample=True)
    assert the(judgement, "grid.resampled").severity == "warning"
    stored = catalog.contribute("s/d", [bad], ORGANS, TERMS, rules=IntakeRules(resample=True))
    (value,) = (e.value for e in stored.case("c1").contract.entries if e.name == "liver")
    grid = stored.case("c1").labels("organ")
    np.testing.assert_array_equal(grid[::2, ::2, ::2] == value, half == 1)
    assert grid.shape == SHAPE
    far = lps_affine(SPACING)
    far[0, 3] += 5000
    away = body_case(source, label_affine=far, name="c2")
    assert "grid.apart" in found(judge(catalog, away, resample=True))


def masks(source: Path, overlap: int) -> CaseSource:
    """A liver and a spleen of 200 voxels each that share some."""
    liver, spleen = np.zeros((10, 10, 10), np.uint8), np.zeros((10, 10, 10), np.uint8)
    liver.reshape(-1)[:200] = 1
    spleen.reshape(-1)[200 - overlap : 400 - overlap] = 1
    return CaseSource(
        "c1",
        save(source / "ct.nii.gz", scan(0, (10, 10, 10))),
        {
            "liver": save(source / "liver.nii.gz", liver),
            "spleen": save(source / "spleen.nii.gz", spleen),
        },
    )


def test_a_small_overlap_is_stored_as_one_of_both(catalog: Catalog, source: Path) -> None:
    names = {"liver": "liver", "spleen": "spleen"}
    dataset = catalog.contribute("s/d", [masks(source, 3)], names, TERMS)
    stored = dataset.case("c1")
    (both,) = (e for e in stored.contract.entries if not e.exact)
    assert both.members == ("liver", "spleen")
    flat = stored.labels("organ").reshape(-1)
    assert np.flatnonzero(flat == both.value).tolist() == [197, 198, 199]
    assert dataset.validation is not None
    (finding,) = (f for f in dataset.validation.findings if f.code == "label.overlap-kept")
    assert "3 voxels are both liver and spleen (1.5% of the smaller)" in finding.explanation
    with pytest.raises(CaseRejected, match=r"2\.0%"):
        catalog.contribute("s/e", [masks(source, 4)], names, TERMS)


def test_duplicates_are_told_but_not_across_sites(catalog: Catalog, source: Path) -> None:
    one, two = case(source, "a", 1), case(source, "b", 1)
    third = CaseSource("c", one.image, save(source / "other.nii.gz", organs() * 0))
    catalog.contribute("site-a/old", [one], MAPPING, TERMS)
    told: list[Judgement] = []
    catalog.contribute("site-a/new", [one, two, third], MAPPING, TERMS, tell=told.append)
    by_case = {(f.case, f.code) for f in told[0].report.findings}
    assert {("b", "duplicate.case"), ("c", "duplicate.scan")} <= by_case
    assert ("a", "duplicate.catalog") in by_case
    assert catalog.cross_site_duplicates() == {}

    dataset = catalog.contribute("site-b/new", [one], MAPPING, TERMS, tell=told.append)
    text = told[1].report.model_dump_json() + told[1].html()
    assert "site-a" not in text
    assert dataset.validation is not None
    assert "site-a" not in dataset.validation.model_dump_json()
    (again,) = {e.case for e in catalog.cross_site_duplicates()["site-b/new@1"]}
    assert again == "a"


def test_an_odd_voxel_size_is_told(catalog: Catalog, source: Path) -> None:
    cases = [case(source, f"c{n}", n) for n in range(5)]
    odd = CaseSource(
        "odd",
        save(source / "odd.nii.gz", scan(9), lps_affine((30.0, 2.0, 1.5))),
        save(source / "odd-labels.nii.gz", organs(), lps_affine((30.0, 2.0, 1.5))),
    )
    report = judge(catalog, *cases, odd, mapping=MAPPING).report
    assert {f.case for f in report.findings if f.code == "spacing.outlier"} == {"odd"}


def named(path: Path, field: str, text: bytes) -> None:
    image = nib.load(path)
    data = np.asarray(image.dataobj)
    image = nib.Nifti1Image(data, image.affine, image.header)
    if field == "extension":
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, text))
    else:
        image.header[field] = text
    nib.save(image, path)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("descrip", b"Doe John 1970"),
        ("aux_file", b"ward 7 scanner"),
        ("db_name", b"DOE^JOHN"),
        ("intent_name", b"J. Doe"),
        ("extension", b"PatientName: Doe"),
    ],
)
@pytest.mark.parametrize("part", ["image", "labels"])
def test_header_text_is_refused_or_left_behind(
    catalog: Catalog, source: Path, field: str, text: bytes, part: str
) -> None:
    bad = case(source, "c1")
    file = bad.image if part == "image" else bad.labels
    assert isinstance(file, Path)
    named(file, field, text)
    told: list[Judgement] = []
    with pytest.raises(CaseRejected, match="deidentify"):
        catalog.contribute("s/d", [bad], MAPPING, TERMS, tell=told.append)
    assert text.decode() not in told[0].html(), "a report must not repeat what it complains about"
    dataset = catalog.contribute("s/d", [bad], MAPPING, TERMS, rules=IntakeRules(deidentify=True))
    stored = b"".join(p.read_bytes() for p in dataset.folder.rglob("*") if p.is_file())
    assert text not in stored


@pytest.mark.parametrize(
    "text", ["FSL5.0", "6.0.5:9e026117", "TE=0;Time=104233.125", "SPM12", "img", "ITK 5.3"]
)
def test_what_software_writes_is_no_name(catalog: Catalog, source: Path, text: str) -> None:
    good = case(source, "c1")
    assert isinstance(good.image, Path)
    named(good.image, "descrip", text.encode())
    assert "identity.header-text" not in found(judge(catalog, good, mapping=MAPPING))


def test_text_in_an_nrrd_header_is_refused(catalog: Catalog, source: Path) -> None:
    good = case(source, "c1")
    image = sitk.ReadImage(str(good.image))
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    path = source / "image.nrrd"
    sitk.WriteImage(image, str(path))
    plain = CaseSource("c1", path, good.labels)
    assert "identity.header-text" not in found(judge(catalog, plain, mapping=MAPPING))
    image.SetMetaData("PatientName", "Doe^John")
    sitk.WriteImage(image, str(path))
    assert "identity.header-text" in found(judge(catalog, plain, mapping=MAPPING))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_header_that_reads_other_files_is_refused(
    catalog: Catalog, source: Path, suffix: str
) -> None:
    good = case(source, "c1")
    raw = source / "secret.raw"
    raw.write_bytes(scan(0).tobytes())
    z, y, x = scan(0).shape
    header = {
        ".nrrd": f"NRRD0004\ntype: short\ndimension: 3\nsizes: {x} {y} {z}\nendian: little\n"
        "encoding: raw\ndata file: secret.raw\n\n",
        ".mha": f"ObjectType = Image\nNDims = 3\nDimSize = {x} {y} {z}\n"
        "ElementType = MET_SHORT\nElementDataFile = secret.raw\n",
    }[suffix]
    path = source / f"image{suffix}"
    path.write_text(header)
    bad = CaseSource("c1", path, good.labels)
    assert found(judge(catalog, bad, mapping=MAPPING)) == {"file.foreign-data"}


def test_a_report_is_a_page_a_file_and_a_table(catalog: Catalog, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    good = body_case(tmp_path / "source")
    bad = CaseSource(hostile, good.image, good.labels)
    judgement = judge(
        catalog, good, bad, body_case(tmp_path / "s2", ids=swapped(body()[1]), name="c2")
    )
    page, data = (path.name for path in judgement.write(tmp_path / "report"))
    assert (page, data) == ("report.json", "report.html")
    html = (tmp_path / "report" / "report.html").read_text()
    assert hostile not in html
    assert "&lt;script&gt;" in html
    assert html.count("data:image/png;base64,") == 2
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["stored"] == ["c1"]
    assert set(report["quarantined"]) == {hostile, "c2"}
    for row in judgement.report.rows():
        assert row["code"] in codes()
        assert row["way_out"]
    assert "1 of 3 cases usable" in judgement.report.summary


def test_a_contribution_of_bad_cases_alone_is_refused(catalog: Catalog, source: Path) -> None:
    missing = [CaseSource(f"c{n}", source / f"{n}.nii.gz", source / "l.nii.gz") for n in range(5)]
    with pytest.raises(ContributionRefused, match=r"5 of 5 cases.*not found.*2 more"):
        catalog.contribute("s/d", missing, MAPPING, TERMS)
    assert catalog.list() == ()


def save_contours(source: Path, series: str = "ct") -> tuple[list[Path], Path]:
    """A clean series and a structure set that draws a liver on it."""
    from tiny_dicom import save_series, save_structure_set

    files = save_series(source / series, scan(0))
    corners = [(1.5, 1.5), (5.5, 1.5), (5.5, 6.5), (1.5, 6.5)]
    rois = {name: [[(*c, z) for c in corners]] for name, z in (("liver", 3), ("spleen", 5))}
    return files, save_structure_set(source / "rs.dcm", files[0], rois)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("PatientName", "Doe^John"),
        ("PatientBirthDate", "19610302"),
        ("OperatorsName", "Roe^Richard"),
        ("ROIInterpreter", "Roe^Richard"),
    ],
)
def test_a_structure_set_that_names_somebody_is_refused(
    catalog: Catalog, source: Path, field: str, value: str
) -> None:
    from pydicom import Dataset, dcmread

    _, path = save_contours(source)
    names = {"liver": "liver", "spleen": "spleen"}
    assert not {c for c in found(catalog.validate_folder("s/d", source, names)) if "ident" in c}
    structures = dcmread(path)
    if field == "ROIInterpreter":
        observation = Dataset()
        observation.ROIInterpreter = value
        structures.RTROIObservationsSequence = [observation]
    else:
        setattr(structures, field, value)
    structures.save_as(path)
    report = catalog.validate_folder("s/d", source, names).report
    (told,) = (f for f in report.findings if f.code == "identity.dicom-tags")
    assert (told.file, told.severity) == (str(path), "error")
    assert field in told.explanation
    assert value not in report.model_dump_json()
    rules = IntakeRules(deidentify=True)
    dataset = catalog.contribute_folder("s/d", source, names, TERMS, rules=rules)
    stored = b"".join(p.read_bytes() for p in dataset.folder.rglob("*") if p.is_file())
    assert value.encode() not in stored


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("LO", "Doe^John", True),
        ("PN", "Roe", True),
        ("UT", "results to j.roe@clinic.example", True),
        ("UN", b"of patient 4711-0815 ", True),
        ("LO", "HiSpeed CT/i", False),
        ("LO", "none", False),
        ("DS", "4711", False),
        ("UN", b"\x14\x00\x00\x00", False),
    ],
)
def test_private_tags_that_name_somebody_are_told(
    catalog: Catalog, source: Path, kind: str, value: Any, told: bool
) -> None:
    from pydicom import dcmread

    _, path = save_contours(source)
    structures = dcmread(path)
    structures.PatientID = "4711-0815"
    block = structures.private_block(0x0009, "MAKER_01", create=True)
    block.add_new(0x10, kind, value)
    structures.save_as(path)
    report = catalog.validate_folder("s/d", source, {"liver": "liver", "*": "ignore"}).report
    (finding,) = (f for f in report.findings if f.code == "identity.dicom-tags")
    assert ("private tag (0009,1010)" in finding.explanation) == told


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Mueller_Hans_19610302", True),
        ("hans-1961-03-02", True),
        ("02.03.1961_hm", True),
        ("liver_12", False),
        ("LUNG1-001", False),
        ("s0000", False),
        ("case_20019915", False),
        ("1.3.6.1.4.1.20050301.7", False),
    ],
)
def test_a_case_called_after_its_patient_is_told(
    catalog: Catalog, source: Path, name: str, told: bool
) -> None:
    judgement = judge(catalog, case(source, name), mapping=MAPPING)
    assert ("identity.case-id" in found(judgement)) == told
    assert judgement.report.stored == (name,)
    if told:
        finding = the(judgement, "identity.case-id")
        assert finding.severity == "warning"
        assert name not in finding.explanation


@pytest.mark.parametrize("folder", ["doe_john", "4711-0815", "Roe^Jane"])
def test_a_folder_called_after_the_patient_in_its_headers_is_told(
    catalog: Catalog, source: Path, folder: str
) -> None:
    from pydicom import dcmread

    files, _ = save_contours(source, folder)
    mapping = {"liver": "liver", "*": "ignore"}
    if "^" not in folder:
        assert "identity.case-id" not in found(catalog.validate_folder("s/d", source, mapping))
        for path in files:
            header = dcmread(path)
            header.PatientName, header.PatientID = "Doe^John", "4711-0815"
            del header.PatientIdentityRemoved
            header.save_as(path)
    rules = IntakeRules(deidentify=True)
    judgement = catalog.validate_folder("s/d", source, mapping, rules=rules)
    assert "identity.case-id" in found(judgement)


@pytest.mark.parametrize("field", ["RescaleSlope", "RescaleIntercept"])
def test_dicom_without_its_rescale_is_told(catalog: Catalog, source: Path, field: str) -> None:
    from pydicom import dcmread

    files, _ = save_contours(source)
    mapping = {"liver": "liver", "*": "ignore"}
    assert "hu.rescale-untold" not in found(catalog.validate_folder("s/d", source, mapping))
    for path in files[:3]:
        header = dcmread(path)
        # as a file would have it whose stored values are HU
        header.PixelRepresentation = 1
        header.PixelData = (scan(0)[files.index(path)]).astype("<i2").tobytes()
        header.RescaleSlope, header.RescaleIntercept = 1, 0
        delattr(header, field)
        header.save_as(path)
    judgement = catalog.validate_folder("s/d", source, mapping)
    finding = the(judgement, "hu.rescale-untold")
    assert (finding.severity, finding.explanation[:12]) == ("warning", "3 of 10 slic")
    assert judgement.report.stored == ("ct",)


def test_dicom_that_names_the_patient_is_refused(catalog: Catalog, source: Path) -> None:
    from pydicom import dcmread
    from tiny_dicom import save_segmentation, save_series

    files = save_series(source / "ct", scan(0))
    identity = {"identity.dicom-tags", "identity.removed"}
    save_segmentation(source / "seg.dcm", files, {"liver": organs() == 1})
    names = {"liver": "liver"}
    assert not found(catalog.validate_folder("s/d", source, names)) & identity
    first = dcmread(files[0])
    first.PatientBirthDate = "19700101"
    first.save_as(files[0])
    with pytest.raises(CaseRejected, match=r"PatientBirthDate \(0010,0030\)") as refusal:
        catalog.contribute_folder("s/d", source, names, TERMS)
    assert refusal.value.code == "identity.dicom-tags"
    assert "19700101" not in str(refusal.value)
    rules = IntakeRules(deidentify=True)
    dataset = catalog.contribute_folder("s/d", source, names, TERMS, rules=rules)
    stored = b"".join(p.read_bytes() for p in dataset.folder.rglob("*") if p.is_file())
    assert b"19700101" not in stored
    assert b"Tiny^Phantom" not in stored
    for path in files:
        header = dcmread(path)
        del header.PatientIdentityRemoved
        header.save_as(path)
    report = catalog.validate_folder("s/d", source, names).report
    assert any("PatientName" in f.explanation for f in report.findings)
