"""Datasets written back as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tiny_scans import MAPPING, TERMS, case, organs, save, scan

from clnet.data_catalog import CaseSource, Catalog
from clnet.data_catalog.export import export
from clnet.errors import AlreadyExists, InputError


def voxels(path: Path) -> Any:
    return np.asanyarray(nib.load(path).dataobj)  # type: ignore[attr-defined]


def oriented(folder: Path, axcodes: str) -> CaseSource:
    """A case whose files are turned to `axcodes`."""
    made = case(folder, axcodes.lower(), seed=3)
    assert isinstance(made.image, Path)
    assert isinstance(made.labels, Path)
    for path in (made.image, made.labels):
        image = nib.load(path)
        codes = nib.orientations.axcodes2ornt(tuple(axcodes))
        start = nib.orientations.io_orientation(image.affine)
        turned = image.as_reoriented(nib.orientations.ornt_transform(start, codes))
        nib.save(nib.Nifti1Image(np.asanyarray(turned.dataobj), turned.affine), path)
    return made


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "PIR", "ASL"])
def test_files_come_back_as_they_were(
    catalog: Catalog, source: Path, tmp_path: Path, axcodes: str
) -> None:
    given = oriented(source, axcodes)
    dataset = catalog.contribute("s/d", [given], MAPPING, TERMS)
    export(dataset, tmp_path / "out", "nifti")
    assert isinstance(given.image, Path)
    assert isinstance(given.labels, Path)
    image = tmp_path / "out" / "images" / f"{given.id}.nii.gz"
    np.testing.assert_array_equal(voxels(image), voxels(given.image))
    np.testing.assert_allclose(nib.load(image).affine, nib.load(given.image).affine, atol=1e-5)
    for label, name in MAPPING.items():
        mask = voxels(tmp_path / "out" / "labels" / given.id / f"{name}.nii.gz")
        np.testing.assert_array_equal(mask == 1, voxels(given.labels) == label)
    assert json.loads((tmp_path / "out" / "terms.json").read_text())["licence"] == "CC-BY-4.0"


@pytest.mark.parametrize(
    "mapping",
    [
        {1: "liver", 2: "spleen"},
        {1: "kidney", 2: {"anatomy": "aorta", "within": "auto"}},
        {1: {"exact": "liver", "within": [3.0, 12.0]}, 2: "spleen"},
        {1: "liver", 2: ["liver", "liver_tumor"]},
        {1: "liver", 2: "unknown"},
    ],
)
def test_what_is_exported_gives_the_same_dataset_again(
    catalog: Catalog, source: Path, tmp_path: Path, mapping: Any
) -> None:
    dataset = catalog.contribute("s/d", [case(source, "c1"), case(source, "c2", 5)], mapping, TERMS)
    export(dataset, tmp_path / "out", "nifti")
    again = Catalog(tmp_path / "other").contribute_folder(
        "s/again", tmp_path / "out", tmp_path / "out" / "mapping.yaml", TERMS
    )
    for one, two in zip(dataset, again, strict=True):
        np.testing.assert_array_equal(one.ct(), two.ct())
        assert one.contract == two.contract
        for layer in one.layers:
            np.testing.assert_array_equal(one.labels(layer), two.labels(layer))


@pytest.mark.parametrize(
    "mapping",
    [
        {1: "liver", 2: "spleen"},
        {1: "liver", 2: ["liver", "liver_tumor"]},
        {1: "liver", 2: "unknown"},
    ],
)
def test_nnunet_raw_says_the_same(
    catalog: Catalog, source: Path, tmp_path: Path, mapping: Any
) -> None:
    dataset = catalog.contribute("s/d", [case(source, "c1")], mapping, TERMS)
    export(dataset, tmp_path / "out", "nnunet")
    about = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert about["numTraining"] == 1
    assert ("regions_class_order" in about) == (mapping[2] == ["liver", "liver_tumor"])
    assert ("ignore" in about["labels"]) == (mapping[2] == "unknown")
    again = Catalog(tmp_path / "other").contribute_folder("s/again", tmp_path / "out", terms=TERMS)
    one, two = dataset.case("c1"), again.case("c1")
    assert one.contract == two.contract
    np.testing.assert_array_equal(one.ct(), two.ct())
    for layer in one.layers:
        np.testing.assert_array_equal(one.labels(layer), two.labels(layer))


def test_slices_beyond_an_extent_are_ignored_by_nnunet(
    catalog: Catalog, source: Path, tmp_path: Path
) -> None:
    mapping: dict[Any, Any] = {1: {"anatomy": "aorta", "within": "auto"}, 2: "ignore"}
    dataset = catalog.contribute("s/d", [case(source, "c1")], mapping, TERMS)
    export(dataset, tmp_path / "out", "nnunet")
    about = json.loads((tmp_path / "out" / "dataset.json").read_text())
    ids = voxels(tmp_path / "out" / "labelsTr" / "c1.nii.gz").transpose(2, 1, 0)
    drawn = (organs() == 1).any(axis=(1, 2))
    assert (ids[~drawn] == about["labels"]["ignore"]).all()
    np.testing.assert_array_equal(ids == about["labels"]["aorta"], organs() == 1)


def test_cases_that_know_different_things_are_no_nnunet_dataset(
    catalog: Catalog, source: Path, tmp_path: Path
) -> None:
    for case_id, names in (("c1", ("liver", "spleen")), ("c2", ("liver",))):
        save(source / "images" / f"{case_id}.nii.gz", scan(1))
        for label, name in enumerate(names, start=1):
            mask = (organs() == label).astype(np.uint8)
            save(source / "labels" / case_id / f"{name}.nii.gz", mask)
    dataset = catalog.contribute_folder("s/d", source, terms=TERMS)
    with pytest.raises(InputError, match="spleen is known in c1 or in c2"):
        export(dataset, tmp_path / "out", "nnunet")
    assert not (tmp_path / "out").exists(), "nothing, rather than half of it"
    export(dataset, tmp_path / "out", "nifti")
    with pytest.raises(AlreadyExists):
        export(dataset, tmp_path / "out", "nifti")
