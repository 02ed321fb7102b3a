"""Real CT through the catalog: checks of the plumbing, on scans that are too few for more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tiny_scans import PLAN, TERMS

from clnet.anatomy import vocabulary
from clnet.data_catalog import (
    CaseSource,
    Catalog,
    Dataset,
    DatasetPin,
    PatchStream,
    StreamSpec,
    fingerprint,
)
from clnet.data_catalog.hounsfield import as_hounsfield
from clnet.data_catalog.volume import read_volume
from clnet.errors import CaseRejected


def in_layer(real_data: Path, layer: str) -> dict[str, str]:
    """Label ids of the abdomen's map whose anatomy lies in `layer`; the others are ignored."""
    names = json.loads((real_data / "ts_abdomen_pelvis" / "total_class_map.json").read_text())
    known = vocabulary()

    def meaning(name: str) -> str:
        leaf = known.leaves(known.resolve(name))[0]
        return name if known[leaf].layer == layer else "ignore"

    return {key: meaning(name) for key, name in names.items()}


def abdomen(real_data: Path) -> CaseSource:
    folder = real_data / "ts_abdomen_pelvis"
    labels = folder / "example_seg_fast_force_split.nii.gz"
    return CaseSource("example", folder / "example_ct.nii.gz", labels)


@pytest.fixture
def organs(catalog: Catalog, real_data: Path) -> Dataset:
    mapping = in_layer(real_data, "organ")
    return catalog.contribute("site-a/organs", [abdomen(real_data)], mapping, TERMS)


def test_an_abdomen_is_stored_voxel_by_voxel(organs: Dataset, real_data: Path) -> None:
    source = abdomen(real_data)
    stored = organs.case("example")
    image = nib.load(source.image)
    assert isinstance(image, nib.Nifti1Image)
    ct = np.asanyarray(image.dataobj)
    # the file is RAS: left and posterior are the other way round
    np.testing.assert_array_equal(stored.ct(), ct[::-1, ::-1].transpose(2, 1, 0))
    assert stored.axcodes == "RAS"
    assert stored.spacing == pytest.approx((3.0, 3.0, 3.0))
    corner = stored.affine @ [0, 0, 0, 1]
    np.testing.assert_allclose(corner, image.affine @ [ct.shape[0] - 1, ct.shape[1] - 1, 0, 1])
    stored.verify()


def test_sites_share_a_scan_and_label_their_own(
    catalog: Catalog, organs: Dataset, real_data: Path
) -> None:
    bones = catalog.contribute(
        "site-b/bones", [abdomen(real_data)], in_layer(real_data, "bone"), TERMS
    )
    one, two = organs.case("example").contract, bones.case("example").contract
    assert "liver" in one.anatomies
    assert "sacrum" in two.anatomies
    assert not one.anatomies & two.anatomies
    assert organs.case("example").sha256 != bones.case("example").sha256


def test_its_organs_lie_where_organs_lie(organs: Dataset) -> None:
    case = organs.case("example")
    grid = case.labels("organ")
    value = {e.name: e.value for e in case.contract.entries}

    def centre(name: str) -> Any:
        return np.argwhere(grid == value[name]).mean(axis=0)

    assert centre("spleen")[2] > centre("liver")[2], "the spleen is on the left, +x"
    assert centre("liver")[0] > centre("urinary_bladder")[0], "the liver is above, +z"
    ct = case.ct()
    assert 0 < ct[grid == value["liver"]].mean() < 200


def test_the_abdomen_in_figures(organs: Dataset) -> None:
    figures = fingerprint(organs)
    assert json.loads(json.dumps(figures)) == figures
    assert figures["cases"] == 1
    assert 200 < figures["anatomies"]["liver"]["ml"] < 2500
    assert figures["anatomies"]["liver"]["seen"] == 1


def test_a_planned_abdomen_gives_patches_of_a_small_organ(
    catalog: Catalog, organs: Dataset
) -> None:
    store = catalog.plan_store(organs, PLAN | {"spacing": [6.0, 6.0, 6.0]})
    assert store.open("example").image.shape == (56, 50, 61)
    stream = PatchStream(
        [store],
        StreamSpec(
            datasets=(DatasetPin(ref=organs.ref, sha256=organs.sha256),),
            plan_sha256=store.plan_sha256,
            patch_size=(16, 16, 16),
            batch_size=2,
            focus=("adrenal_gland_left",),
            foreground=(1.0, 1.0),
            total=10,
        ),
    )
    for patch in stream.patches(0):
        value = next(e.value for e in patch.contract.entries if e.name == "adrenal_gland_left")
        assert (patch.labels["organ"] == value).any()


def test_a_chest_in_nrrd_with_packed_ids(catalog: Catalog, real_data: Path) -> None:
    folder = real_data / "cip_chest64"
    ids = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "lm-64.nrrd")))
    airway = 2  # id = region + 256 * type; type 2 is the airway, region 0 lies outside the lungs
    lung = {
        int(i): "lung" if int(i) % 256 else ("trachea" if int(i) // 256 == airway else "ignore")
        for i in np.unique(ids)
        if i
    }
    source = CaseSource("chest", folder / "ct-64.nrrd", folder / "lm-64.nrrd")
    stored = catalog.contribute("site-c/chest", [source], lung, TERMS).case("chest")
    assert max(lung) > 255
    assert stored.axcodes == "LPS"
    assert stored.spacing == pytest.approx((3.98734, 4.171872, 4.171872), rel=1e-4)
    np.testing.assert_array_equal(
        stored.ct(), sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "ct-64.nrrd")))
    )
    value = next(e.value for e in stored.contract.entries if e.name == "lung")
    inside = stored.labels("organ") == value
    np.testing.assert_array_equal(inside, ids % 256 > 0)
    assert stored.ct()[inside].mean() < -600


def test_nifti_and_itk_agree_where_a_scan_lies(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "pyradiomics_lung1" / "lung1_image.nrrd"
    there = tmp_path / "lung1.nii"
    sitk.WriteImage(sitk.ReadImage(str(path)), str(there))
    one, two = read_volume(path), read_volume(there)
    np.testing.assert_allclose(one.affine, two.affine, atol=1e-3)
    np.testing.assert_array_equal(one.voxels, two.voxels)


def test_a_mask_on_another_grid_is_refused(catalog: Catalog, real_data: Path) -> None:
    folder = real_data / "elastix_lung"
    source = CaseSource(
        "lung",
        folder / "3DCT_lung_baseline_small.mha",
        folder / "3DCT_lung_baseline_mask.mha",
    )
    with pytest.raises(CaseRejected, match="resample") as refusal:
        catalog.contribute("s/d", [source], {1: "lung"}, TERMS)
    assert refusal.value.field == "shape"


@pytest.mark.parametrize(
    "scan",
    [
        "tptbox_lumbar/sub-ct_label-22_ct.nii.gz",
        "elastix_lung/3DCT_lung_baseline_small.mha",
        "ibsi_sts_042/CT_image.nii.gz",
        "pyradiomics_lung1/lung1_image.nrrd",
        "invesalius_cranium/cranium_ct.nii.gz",
    ],
)
def test_every_real_ct_is_recognised(real_data: Path, scan: str) -> None:
    as_hounsfield(read_volume(real_data / scan).voxels, scan)


def test_a_label_map_is_no_ct(real_data: Path) -> None:
    labels = read_volume(real_data / "ts_abdomen_pelvis" / "example_seg.nii.gz")
    with pytest.raises(CaseRejected, match="Hounsfield"):
        as_hounsfield(labels.voxels, "labels")


def test_vertebrae_of_a_turned_scan_lie_in_their_order(catalog: Catalog, real_data: Path) -> None:
    folder = real_data / "tptbox_lumbar"
    source = CaseSource(
        "lumbar",
        folder / "sub-ct_label-22_ct.nii.gz",
        folder / "sub-ct_seg-vert_label-22_msk.nii.gz",
    )
    mapping = {21: "vertebra_l2", 22: "vertebra_l3", 23: "vertebra_l4"}
    stored = catalog.contribute("s/spine", [source], mapping, TERMS).case("lumbar")
    assert stored.axcodes == "PIR"
    grid = stored.labels("bone")
    value = {e.name: e.value for e in stored.contract.entries}
    heights = [np.argwhere(grid == value[f"vertebrae_L{n}"])[:, 0].mean() for n in (2, 3, 4)]
    assert heights[0] > heights[1] > heights[2], "L2 lies above L3 above L4"
