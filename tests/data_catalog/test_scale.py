"""Values on another scale than Hounsfield's are seen by what they are, in real scans too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_scans import MAPPING, TERMS, lps_affine, organs, save, scan

from clnet.anatomy import load_mapping
from clnet.anatomy.phantom import render
from clnet.data_catalog import CaseSource, Catalog, IntakeRules
from clnet.data_catalog.case import CaseContent
from clnet.data_catalog.dicom import index_folder
from clnet.data_catalog.labels import translate_map
from clnet.data_catalog.validation import Finding, Subject, judge_content
from clnet.data_catalog.volume import read_volume
from clnet.errors import CaseRejected

Spoil = Callable[[NDArray[np.float64]], NDArray[np.float64]]

REAL = [
    "ts_abdomen_pelvis/example_ct.nii.gz",
    "ts_abdomen_pelvis/example_ct_sm.nii.gz",
    "cip_chest64/ct-64.nrrd",
    "pyradiomics_lung1/lung1_image.nrrd",
    "ibsi_sts_042/CT_image.nii.gz",
    "tptbox_lumbar/sub-ct_label-22_ct.nii.gz",
    "elastix_lung/3DCT_lung_baseline_small.mha",
    "invesalius_cranium/cranium_ct.nii.gz",
]
ORGANS = {"liver", "spleen", "kidney_left", "kidney_right"}
SERIES = ["ibsi_sts_044", "dcmqi_liver_seg", "rt_utils_mock", "highdicom_seg"]


def picture(hu: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a viewer saves: 8 bits of a soft tissue window."""
    return np.rint((np.clip(hu, -160, 240) + 160) / 400 * 255)


def stray(hu: NDArray[np.float64]) -> NDArray[np.float64]:
    """One voxel of noise below all others."""
    found = hu.copy()
    found.flat[0] = -40
    return found


def padded(hu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners that the scanner did not see."""
    found = hu.copy()
    found[:6, :6] = -3024
    return found


SPOILT: dict[str, tuple[Spoil, str]] = {
    "half": (lambda hu: hu / 2, "hu.scale"),
    "twice": (lambda hu: hu * 2, "hu.scale"),
    "no intercept": (lambda hu: hu + 1024, "hu.scale"),
    "intercept twice": (lambda hu: hu - 1024, "hu.scale"),
    "negated": (lambda hu: -hu, "hu.scale"),
    "no intercept, stray": (lambda hu: stray(np.maximum(hu + 1024, 0)), "hu.scale"),
    "no intercept, padded": (lambda hu: padded(np.maximum(hu + 1024, 0)), "hu.scale"),
    "window": (lambda hu: np.clip(hu, -160, 240), "hu.windowed"),
    "bone window": (lambda hu: np.clip(hu, -450, 1050), "hu.windowed"),
    "picture": (lambda hu: picture(hu) - 1, "hu.windowed"),
    "picture, stray": (lambda hu: stray(picture(hu)), "hu.windowed"),
    "picture, padded": (lambda hu: padded(picture(hu)), "hu.windowed"),
}


def content(
    ct: NDArray[Any], ids: NDArray[Any], mapping: dict[int, str], spacing: float = 3.0
) -> CaseContent:
    sizes = (spacing, spacing, spacing)
    maps, contract = translate_map(ids, "labels", load_mapping(mapping), spacing)
    whole = np.clip(np.rint(ct), -32768, 32767).astype(np.int16)
    return CaseContent(whole, maps, contract, sizes, lps_affine(sizes), "LPS")


def of_intensities(case: CaseContent) -> list[Finding]:
    found = judge_content(Subject("c", case, "ct.nii.gz"))
    return [f for f in found if f.code.startswith("hu.")]


def unlabelled(ct: NDArray[Any]) -> CaseContent:
    return content(ct, np.zeros(ct.shape, np.uint8), {1: "liver"})


@pytest.mark.parametrize("kind", SPOILT)
def test_a_real_scan_on_another_scale_is_quarantined(
    catalog: Catalog, source: Path, real_data: Path, kind: str
) -> None:
    spoil, code = SPOILT[kind]
    folder = real_data / "ts_abdomen_pelvis"
    image: Any = nib.load(folder / "example_ct.nii.gz")
    spoilt = np.clip(spoil(image.get_fdata()), -32768, 32767).astype(np.int16)
    nib.save(nib.Nifti1Image(spoilt, image.affine), source / "ct.nii.gz")
    labels = folder / "example_seg_fast_force_split.nii.gz"
    bad = CaseSource("c", source / "ct.nii.gz", labels)
    names = json.loads((folder / "total_class_map.json").read_text())
    mapping = {key: name if name in ORGANS else "ignore" for key, name in names.items()}
    report = catalog.validate("s/d", [bad], mapping).report
    first, *more = [f.code for f in report.findings if f.severity == "error"]
    assert first == code
    assert set(more) <= {"label.outside-body"}, "body and air are told apart by HU"
    assert report.quarantined == ("c",)
    with pytest.raises(CaseRejected, match=f"--accept {code}"):
        catalog.contribute("s/d", [bad], mapping, TERMS)
    rules = IntakeRules(accept=frozenset({code, *more}))
    assert catalog.validate("s/d", [bad], mapping, rules=rules).report.stored == ("c",)


@pytest.mark.parametrize("scan", REAL)
def test_real_scans_have_nothing_of_it(real_data: Path, scan: str) -> None:
    ct = np.asarray(read_volume(real_data / scan).voxels).transpose(2, 1, 0)
    assert of_intensities(unlabelled(ct)) == []


@pytest.mark.parametrize("folder", SERIES)
def test_real_series_have_nothing_of_it(real_data: Path, folder: str) -> None:
    for series in index_folder(real_data / folder).series.values():
        ct = np.asarray(series.read().voxels).transpose(2, 1, 0)
        assert of_intensities(unlabelled(ct)) == []


@pytest.mark.parametrize("kind", ["negated", "intercept twice"])
def test_in_a_crop_without_air_labels_tell(real_data: Path, kind: str) -> None:
    folder = real_data / "tptbox_lumbar"
    ids = np.asarray(read_volume(folder / "sub-ct_seg-vert_label-22_msk.nii.gz").voxels)
    ct = np.asarray(read_volume(folder / "sub-ct_label-22_ct.nii.gz").voxels, dtype=np.float64)
    bones = {21: "vertebrae_L2", 22: "vertebrae_L3", 23: "vertebrae_L4"}
    assert of_intensities(content(ct, ids, bones)) == []
    (finding, *_) = of_intensities(content(SPOILT[kind][0](ct), ids, bones))
    assert finding.code == "hu.scale"
    assert "far lighter" in finding.explanation


def test_a_faint_air_is_a_warning(real_data: Path) -> None:
    ct = np.asarray(read_volume(real_data / REAL[0]).voxels).transpose(2, 1, 0)
    (finding,) = of_intensities(unlabelled(ct * 0.8))
    assert (finding.code, finding.severity) == ("hu.unusual", "warning")


def test_what_only_lost_its_bones_is_a_warning(real_data: Path) -> None:
    ct = np.asarray(read_volume(real_data / REAL[0]).voxels).transpose(2, 1, 0)
    (finding,) = of_intensities(unlabelled(np.clip(ct, -1000, 400)))
    assert (finding.code, finding.severity) == ("hu.clipped", "warning")


@pytest.mark.parametrize("seed", range(4))
def test_phantoms_of_any_field_of_view_pass(seed: int) -> None:
    phantom = render(seed)
    for layer, names in phantom.names.items():
        case = content(phantom.ct, phantom.labels[layer], dict(names))
        assert of_intensities(case) == []


def person(seed: int, contrast: float, lungs: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """A cylinder of fat, muscle, lungs, bone and a liver in air, ``(z, y, x)``, and its labels."""
    z, y, x = np.mgrid[:24, -32:32, -32:32]
    radius = np.hypot(y, x)
    tissue = np.select(
        [radius > 28, radius > 24, (y < 0) & (z > 14), radius > 21, x < -4],
        [-1000.0, -105.0, lungs, 700.0, 55.0 + contrast],
        50.0,
    )
    noise = np.random.default_rng(seed).normal(0, 1, tissue.shape)
    spread = np.select([tissue == lungs, tissue == 700], [90.0, 250.0], 14.0)
    return tissue + noise * spread, ((radius < 21) & (x < -4) & (z < 14)).astype(np.uint8)


people = st.builds(person, st.integers(0, 99), st.floats(-20, 150), st.floats(-870, -500))


@settings(max_examples=40, deadline=None)
@given(people, st.sampled_from([None, -1024, -2000, -3024]), st.integers(0, 12), st.booleans())
def test_nobody_is_refused_for_contrast_breath_padding_metal_or_a_crop(
    body: tuple[NDArray[Any], NDArray[Any]], padding: int | None, corner: int, crop: bool
) -> None:
    ct, ids = body
    if padding is not None:
        ct[:, :corner, :corner] = padding
    ct[5:8, 40:44, 30:34] = 3071  # an implant beyond the scanner's range
    if crop:
        ct, ids = ct[:, 14:50, 14:50], ids[:, 14:50, 14:50]
    findings = of_intensities(content(ct, ids, {1: "liver"}))
    assert not [f for f in findings if f.severity == "error"]


@settings(max_examples=40, deadline=None)
@given(
    people,
    st.one_of(
        st.tuples(st.floats(0.4, 0.6), st.just(0.0)),
        st.tuples(st.floats(1.5, 6.0), st.just(0.0)),
        st.tuples(st.just(1.0), st.floats(700, 2000)),
        st.tuples(st.just(1.0), st.floats(-2000, -700)),
        st.tuples(st.just(-1.0), st.floats(-100, 100)),
    ),
)
def test_whoever_is_on_another_scale_is_refused(
    body: tuple[NDArray[Any], NDArray[Any]], scale: tuple[float, float]
) -> None:
    ct, ids = body
    slope, intercept = scale
    findings = of_intensities(content(ct * slope + intercept, ids, {1: "liver"}))
    assert "hu.scale" in [f.code for f in findings]


def test_a_crop_of_soft_tissue_is_a_warning_however_few_values_it_has() -> None:
    liver = np.random.default_rng(0).normal(55, 18, (24, 24, 24))
    (finding,) = of_intensities(content(liver, np.ones(liver.shape, np.uint8), {1: "liver"}))
    assert (finding.code, finding.severity) == ("hu.clipped", "warning")


def test_noise_of_the_whole_range_passes(catalog: Catalog, source: Path) -> None:
    for seed in range(20):
        case = content(scan(seed), organs(), MAPPING, spacing=2.0)
        assert [f for f in of_intensities(case) if f.code != "hu.tissue"] == []
    ct = save(source / "ct.nii.gz", scan(0))
    good = CaseSource("c", ct, save(source / "labels.nii.gz", organs()))
    assert catalog.validate("s/d", [good], MAPPING).report.stored == ("c",)
