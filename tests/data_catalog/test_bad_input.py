"""Bad input gives one clear error that names file and field, and nothing of it is stored."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tiny_scans import MAPPING, SHAPE, TERMS, case, lps_affine, organs, save, scan

from clnet.anatomy import load_mapping
from clnet.data_catalog import CaseSource, Catalog, IntakeRules
from clnet.data_catalog.hounsfield import as_hounsfield
from clnet.data_catalog.ingest import read_case
from clnet.errors import CaseRejected, ContractError, UnknownAnatomy

Spoil = Callable[[CaseSource], None]


def labels_of(source: CaseSource) -> Path:
    assert isinstance(source.labels, Path)
    return source.labels


def image_as(voxels: Any, affine: Any = None) -> Spoil:
    def spoil(source: CaseSource) -> None:
        save(source.image, voxels, affine)

    return spoil


def labels_as(voxels: Any, affine: Any = None) -> Spoil:
    def spoil(source: CaseSource) -> None:
        save(labels_of(source), voxels, affine)

    return spoil


def with_value(value: float) -> Any:
    voxels = scan(0).astype(np.float32)
    voxels[4, 4, 4] = value
    return voxels


def fraction_at(value: int, fraction: float) -> Any:
    voxels = scan(0).astype(np.int32)
    voxels.reshape(-1)[: int(fraction * voxels.size)] = value
    return voxels


def moved(by: float) -> Any:
    affine = lps_affine()
    affine[0, 3] += by
    return affine


def flattened() -> Any:
    affine = lps_affine()
    affine[:3, 1] = affine[:3, 0]
    return affine


def truncate(source: CaseSource) -> None:
    source.image.write_bytes(source.image.read_bytes()[:-200])


def flip_compressed_voxels(source: CaseSource) -> None:
    # stored without compression, so that only gzip's checksum can tell
    raw = gzip.decompress(source.image.read_bytes())
    data = bytearray(gzip.compress(raw, compresslevel=0))
    data[len(data) // 2] ^= 0x01
    source.image.write_bytes(data)


def replace_by_text(source: CaseSource) -> None:
    source.image.write_text("this is no image")


def remove(source: CaseSource) -> None:
    source.image.unlink()


def replace_by_folder(source: CaseSource) -> None:
    source.image.unlink()
    source.image.mkdir()


def remove_labels(source: CaseSource) -> None:
    labels_of(source).unlink()


def without_orientation(source: CaseSource) -> None:
    image = nib.Nifti1Image(scan(0).transpose(2, 1, 0), lps_affine())
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, source.image)


def as_colours(source: CaseSource) -> None:
    colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, lps_affine()), source.image)


def as_series(source: CaseSource) -> None:
    nib.save(nib.Nifti1Image(np.stack([scan(0)] * 2, axis=-1), lps_affine()), source.image)


def as_slice(source: CaseSource) -> None:
    nib.save(nib.Nifti1Image(scan(0)[0], lps_affine()), source.image)


def as_bomb(source: CaseSource) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((30000, 30000, 30000))
    header.set_sform(lps_affine(), code=1)
    source.image.write_bytes(gzip.compress(header.binaryblock + bytes(1000)))


def with_more_than_it_says(source: CaseSource) -> None:
    raw = gzip.decompress(source.image.read_bytes())
    source.image.write_bytes(gzip.compress(raw + bytes(4 * 1024**2)))


BAD: dict[str, tuple[Spoil, str, str]] = {
    "label id not mapped": (labels_as(organs() * 4), "mapping.4", "no entry"),
    "other shape": (labels_as(organs()[:-1]), "shape", "resample the labels"),
    "other affine": (labels_as(organs(), moved(1.0)), "affine", "off the image's grid"),
    "fractional labels": (labels_as(organs() * np.float32(0.7)), "voxels", "whole numbers"),
    "negative labels": (labels_as(organs().astype(np.int16) * -1), "voxels", "0..65535"),
    "NaN in labels": (labels_as(organs() * np.float32(np.nan)), "voxels", "whole numbers"),
    "NaN": (image_as(with_value(np.nan)), "voxels", "NaN"),
    "infinity": (image_as(with_value(np.inf)), "voxels", "infinity"),
    "8-bit picture": (
        image_as(((scan(0).astype(int) + 1000) // 9).clip(0, 255).astype(np.uint8)),
        "voxels",
        "not Hounsfield",
    ),
    "intensities 0..1": (
        image_as((scan(0) + 1000).astype(np.float32) / 2200),
        "voxels",
        "not Hounsfield",
    ),
    "standardised": (image_as(scan(0).astype(np.float32) / 500), "voxels", "normalised"),
    "intercept not applied": (image_as(scan(0) + 1024), "voxels", "rescale"),
    "2 % beyond metal": (image_as(fraction_at(20000, 0.02)), "voxels", "outside"),
    "empty image": (image_as(np.full(SHAPE, -1000, np.int16)), "voxels", "empty"),
    "flat affine": (image_as(scan(0), flattened()), "affine", "not invertible"),
    "far away": (image_as(scan(0), moved(1e9)), "affine", "kilometre"),
    "metres for mm": (
        image_as(scan(0), lps_affine((0.003, 0.002, 0.0015))),
        "affine",
        "voxel size",
    ),
    "no orientation": (without_orientation, "affine", "left and right"),
    "truncated": (truncate, "file", "truncated"),
    "bits flipped": (flip_compressed_voxels, "file", "unreadable"),
    "text": (replace_by_text, "file", "unreadable"),
    "missing": (remove, "file", "not found"),
    "a folder": (replace_by_folder, "file", "is a folder"),
    "missing labels": (remove_labels, "file", "not found"),
    "colours": (as_colours, "voxels", "plain numbers"),
    "time series": (as_series, "shape", "4 dimensions"),
    "one slice": (as_slice, "shape", "2 dimensions"),
    "decompression bomb": (as_bomb, "shape", "limit"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_named_and_nothing_is_stored(
    catalog: Catalog, source: Path, kind: str
) -> None:
    spoil, field, reason = BAD[kind]
    good, bad = case(source, "good"), case(source, "bad", 1)
    spoil(bad)
    strict = IntakeRules(strict=True)
    with pytest.raises(CaseRejected, match=reason) as refusal:
        catalog.contribute("s/d", [good, bad], MAPPING, TERMS, rules=strict)
    assert refusal.value.file in (str(bad.image), str(bad.labels))
    assert refusal.value.field == field
    assert catalog.list() == ()
    assert stored_files(catalog) == []
    dataset = catalog.contribute("s/d", [good, bad], MAPPING, TERMS)
    assert dataset.case_ids == ("good",)
    assert dataset.validation is not None
    (kept_out,) = dataset.validation.quarantine()
    assert kept_out["case"] == "bad"
    assert kept_out["code"] != "case.rejected"
    assert "bad" not in {path.stem for path in stored_files(catalog)}
    dataset.verify()


def stored_files(catalog: Catalog) -> list[Path]:
    return [p for p in catalog.root.rglob("*") if p.is_file() and p.name != ".lock"]


def test_more_data_than_the_header_says_is_a_bomb(tmp_path: Path, source: Path) -> None:
    bad = case(source, "bad")
    with_more_than_it_says(bad)
    with pytest.raises(CaseRejected, match="more data"):
        Catalog(tmp_path / "c", max_bytes=1024**2).contribute("s/d", [bad], MAPPING, TERMS)


def test_the_size_limit_is_of_the_header(tmp_path: Path, source: Path) -> None:
    small = Catalog(tmp_path / "c", max_bytes=1000)
    with pytest.raises(CaseRejected, match="CLNET_SCAN_MAX_BYTES") as refusal:
        small.contribute("s/d", [case(source, "c1")], MAPPING, TERMS)
    assert refusal.value.field == "shape"


def test_an_anatomy_that_nobody_knows_is_named(catalog: Catalog, source: Path) -> None:
    with pytest.raises(UnknownAnatomy, match=r"mapping\.2.*flubber"):
        catalog.contribute("s/d", [case(source, "c1")], {1: "liver", 2: "flubber"}, TERMS)
    with pytest.raises(ContractError, match="every label is ignored"):
        catalog.contribute("s/d", [case(source, "c1")], {1: "ignore", 2: None}, TERMS)
    assert stored_files(catalog) == []


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("damage", ["truncated", "text", "colours", "series"])
def test_bad_itk_images_are_refused(
    catalog: Catalog, source: Path, suffix: str, damage: str
) -> None:
    good = case(source, "c1")
    path = source / f"image{suffix}"
    if damage == "colours":
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 4, 3), np.uint8), True), str(path))
    elif damage == "series":
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 4, 4, 4), np.int16), False), str(path))
    else:
        sitk.WriteImage(sitk.GetImageFromArray(scan(0)), str(path))
        if damage == "truncated":
            path.write_bytes(path.read_bytes()[:-400])
        else:
            path.write_text("this is no image")
    with pytest.raises(CaseRejected) as refusal:
        catalog.contribute("s/d", [CaseSource("c1", path, good.labels)], MAPPING, TERMS)
    assert refusal.value.file == str(path)
    assert stored_files(catalog) == []


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_damage_anywhere_is_harmless_or_refused(source: Path, suffix: str) -> None:
    mapping = load_mapping(MAPPING)
    good = source / f"good{suffix}"
    sitk.WriteImage(sitk.ReadImage(str(case(source, "c1").image)), str(good))
    labels = source / "labels" / "c1.nii.gz"
    generator = np.random.default_rng(0)
    refused: list[str] = []
    for _ in range(80):
        data = bytearray(good.read_bytes())
        if generator.random() < 0.2:
            data = data[: generator.integers(len(data))]
        for _ in range(generator.integers(1, 10)):
            data[generator.integers(min(540, len(data) - 1))] = generator.integers(256)
        bad = source / f"bad{suffix}"
        bad.write_bytes(data)
        try:
            read_case(CaseSource("c", bad, labels), mapping)
        except CaseRejected as refusal:
            refused.append(refusal.file)
    assert len(refused) > 15
    assert set(refused) <= {str(source / f"bad{suffix}"), str(labels)}


def test_formats_that_nobody_reads_are_refused(catalog: Catalog, source: Path) -> None:
    good = case(source, "c1")
    path = source / "image.png"
    path.write_bytes(b"\x89PNG")
    with pytest.raises(CaseRejected, match="format not known"):
        catalog.contribute("s/d", [CaseSource("c1", path, good.labels)], MAPPING, TERMS)


def test_masks_that_overlap_within_a_layer_are_refused(catalog: Catalog, source: Path) -> None:
    image = case(source, "c1").image
    liver = save(source / "liver.nii.gz", (organs() > 0).astype(np.uint8))
    spleen = save(source / "spleen.nii.gz", (organs() == 2).astype(np.uint8))
    masks = CaseSource("c1", image, {"liver": liver, "spleen": spleen})
    with pytest.raises(CaseRejected, match="exclude each other") as refusal:
        catalog.contribute("s/d", [masks], {"liver": "liver", "spleen": "spleen"}, TERMS)
    assert refusal.value.field == "overlap"


def test_masks_without_an_entry_or_without_a_use_are_refused(
    catalog: Catalog, source: Path
) -> None:
    good = case(source, "c1")
    assert isinstance(good.labels, Path)
    masks = CaseSource("c1", good.image, {"liver": good.labels, "what": good.labels})
    with pytest.raises(CaseRejected, match="no entry") as refusal:
        catalog.contribute("s/d", [masks], {"liver": "liver"}, TERMS)
    assert refusal.value.field == "mapping.what"
    with pytest.raises(CaseRejected, match="no mask"):
        catalog.contribute(
            "s/d",
            [CaseSource("c1", good.image, {"what": good.labels})],
            {"what": "ignore", "liver": "liver"},
            TERMS,
        )
    with pytest.raises(CaseRejected, match="no label id"):
        catalog.contribute("s/d", [good], {1: "liver", 2: "spleen", "what": "colon"}, TERMS)


def test_a_crop_without_air_is_a_ct() -> None:
    crop = np.random.default_rng(0).normal(60, 90, (8, 8, 8)).clip(-150, 900).astype(np.int16)
    np.testing.assert_array_equal(as_hounsfield(crop, "spine"), crop)


def test_paddings_and_a_little_metal_are_a_ct() -> None:
    voxels = scan(0).astype(np.float32)
    voxels[0] = -3024
    voxels[5, 5, 5] = 40000.4
    hu = as_hounsfield(voxels, "metal")
    assert hu[0].max() == -3024
    assert hu[5, 5, 5] == 32767
    np.testing.assert_array_equal(hu[1:5], scan(0)[1:5])
