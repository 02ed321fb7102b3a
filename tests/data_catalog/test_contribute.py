from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr
from tiny_scans import MAPPING, SPACING, TERMS, case, lps_affine, organs, save, scan

from clnet.data_catalog import CaseSource, Catalog, IntakeRules, Terms, open_source
from clnet.errors import CaseRejected, InputError, IntegrityError, NotFound


def test_what_was_contributed_comes_back(catalog: Catalog, source: Path) -> None:
    dataset = catalog.contribute("site-a/abdomen", [case(source, "c1", seed=7)], MAPPING, TERMS)
    assert dataset.ref == "site-a/abdomen@1"
    assert dataset.case_ids == ("c1",)
    stored = catalog.get("site-a/abdomen").case("c1")
    np.testing.assert_array_equal(stored.ct(), scan(7))
    np.testing.assert_array_equal(stored.labels("organ"), organs())
    np.testing.assert_allclose(stored.affine, lps_affine())
    assert stored.spacing == pytest.approx(SPACING)
    assert stored.axcodes == "LPS"
    assert stored.layers == ("organ",)
    assert {e.name: e.value for e in stored.contract.entries} == {"liver": 1, "spleen": 2}
    assert catalog.get("site-a/abdomen@1").manifest.terms == TERMS
    dataset.verify()
    with pytest.raises(NotFound, match="organ"):
        stored.labels("bone")
    with pytest.raises(NotFound, match="c2"):
        dataset.case("c2")


def test_the_store_is_zarr_3_sharded_and_compressed(catalog: Catalog, source: Path) -> None:
    large = np.tile(np.int16([[[-1000, 40]]]), (70, 70, 150))
    image = save(source / "image.nii.gz", large)
    labels = save(source / "labels.nii.gz", (large > 0).astype(np.uint8))
    dataset = catalog.contribute("s/d", [CaseSource("c", image, labels)], {1: "liver"}, TERMS)
    group = zarr.open_group(dataset.case("c").folder, mode="r")
    ct = group["ct"]
    assert isinstance(ct, zarr.Array)
    assert ct.metadata.zarr_format == 3
    assert ct.chunks == (64, 64, 64)
    assert ct.shards is not None
    assert all(shard % chunk == 0 for shard, chunk in zip(ct.shards, ct.chunks, strict=True))
    assert ct.nbytes_stored() < large.nbytes / 10
    np.testing.assert_array_equal(dataset.case("c").ct(), large)


def test_the_same_content_again_is_the_same_version(catalog: Catalog, source: Path) -> None:
    cases = [case(source, "c1", 1), case(source, "c2", 2)]
    first = catalog.contribute("site-a/abdomen", cases, MAPPING, TERMS)
    again = catalog.contribute("site-a/abdomen", cases[::-1], MAPPING, TERMS)
    assert again.ref == first.ref
    other = catalog.contribute("site-a/abdomen", cases[:1], MAPPING, TERMS)
    assert other.ref == "site-a/abdomen@2"
    assert catalog.contribute("site-a/abdomen", cases, MAPPING, TERMS).version == 1
    assert catalog.get("site-a/abdomen").version == 2
    assert [d.ref for d in catalog.list()] == ["site-a/abdomen@1", "site-a/abdomen@2"]


def test_other_labels_meanings_or_terms_make_another_version(
    catalog: Catalog, source: Path
) -> None:
    cases = [case(source, "c1")]
    first = catalog.contribute("s/d", cases, MAPPING, TERMS)
    relabelled = catalog.contribute("s/d", cases, {1: "liver", 2: "pancreas"}, TERMS)
    licensed = catalog.contribute("s/d", cases, MAPPING, Terms(licence="CC0-1.0"))
    assert [relabelled.version, licensed.version] == [2, 3]
    assert first.case("c1").sha256 != relabelled.case("c1").sha256
    assert first.case("c1").sha256 == licensed.case("c1").sha256
    assert len({first.sha256, relabelled.sha256, licensed.sha256}) == 3


def test_equal_content_has_an_equal_hash_wherever_it_lies(tmp_path: Path, source: Path) -> None:
    cases = [case(source, "c1")]
    one = Catalog(tmp_path / "one").contribute("s/d", cases, MAPPING, TERMS)
    two = Catalog(tmp_path / "two").contribute("other/name", cases, MAPPING, TERMS)
    assert one.sha256 == two.sha256


def test_progress_tells_each_case(catalog: Catalog, source: Path) -> None:
    told: list[tuple[float, str]] = []
    cases = [case(source, "a", 1), case(source, "b", 2)]
    catalog.contribute("s/d", cases, MAPPING, TERMS, lambda f, text: told.append((f, text)))
    assert told == [(0.5, "a"), (1.0, "b")]


@pytest.mark.parametrize(
    ("images", "labels", "suffix"), [("images", "labels", ""), ("imagesTr", "labelsTr", "_0000")]
)
def test_a_folder_is_contributed(
    catalog: Catalog, source: Path, images: str, labels: str, suffix: str
) -> None:
    for name in ("c1", "c2"):
        save(source / images / f"{name}{suffix}.nii.gz", scan(1))
        save(source / labels / f"{name}.nii.gz", organs())
    (source / images / "readme.txt").write_text("not an image")
    dataset = catalog.contribute_folder("s/d", source, MAPPING, TERMS)
    assert dataset.case_ids == ("c1", "c2")


def test_a_folder_of_masks_is_one_case_each(catalog: Catalog, source: Path) -> None:
    save(source / "images" / "c1.nii.gz", scan(1))
    save(source / "labels" / "c1" / "liver.nii.gz", (organs() == 1).astype(np.uint8))
    mapping = {"liver": "liver", "spleen": "spleen"}
    stored = catalog.contribute_folder("s/d", source, mapping, TERMS).case("c1")
    np.testing.assert_array_equal(stored.labels("organ"), organs() == 1)
    assert not stored.contract.known("spleen"), "a name without a mask is unknown"


def test_a_folder_with_unpaired_files_is_refused_if_nothing_is_whole(source: Path) -> None:
    with pytest.raises(InputError, match="images/"):
        open_source(source, "images-labels")
    save(source / "images" / "c1.nii.gz", scan(1))
    (source / "labels").mkdir()
    with pytest.raises(CaseRejected, match="none for case c1") as refusal:
        open_source(source)
    assert refusal.value.code == "case.no-labels"
    save(source / "labels" / "c2.nii.gz", organs())
    with pytest.raises(InputError, match="no usable case"):
        open_source(source)
    save(source / "labels" / "c1.nii.gz", organs())
    opened = open_source(source)
    assert [case.id for case in opened.cases] == ["c1"]
    assert opened.broken == {"c2"}


@pytest.mark.parametrize(
    "name",
    ["abdomen", "Site/abdomen", "site/../x", "../x/y", "site/", "a/b/c", "-a/b", "a/b@1", ""],
)
def test_a_name_that_is_no_site_and_name_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(InputError, match="site/name"):
        catalog.contribute(name, [], MAPPING, TERMS)


@pytest.mark.parametrize("case_id", ["../../x", "", ".hidden", "a/b", "x" * 129, "ü"])
def test_a_case_id_that_is_no_plain_name_is_refused(
    catalog: Catalog, source: Path, case_id: str
) -> None:
    good = case(source, "good")
    with pytest.raises(CaseRejected) as refusal:
        catalog.contribute("s/d", [CaseSource(case_id, good.image, good.labels)], MAPPING, TERMS)
    assert refusal.value.field == "id"


def test_case_ids_that_differ_in_case_alone_are_refused(catalog: Catalog, source: Path) -> None:
    good = case(source, "good")
    twice = [good, CaseSource("GOOD", good.image, good.labels)]
    with pytest.raises(CaseRejected, match="twice"):
        catalog.contribute("s/d", twice, MAPPING, TERMS, rules=IntakeRules(strict=True))
    assert catalog.contribute("s/d", twice, MAPPING, TERMS).case_ids == ("good",)
    with pytest.raises(InputError, match="no case"):
        catalog.contribute("s/d", [], MAPPING, TERMS)


def test_refs_that_name_nothing_are_not_found(catalog: Catalog, source: Path) -> None:
    assert catalog.list() == ()
    with pytest.raises(NotFound, match="none yet"):
        catalog.get("s/d")
    catalog.contribute("s/d", [case(source, "c1")], MAPPING, TERMS)
    with pytest.raises(NotFound, match="s/d@2"):
        catalog.get("s/d@2")
    with pytest.raises(NotFound, match="s/d"):
        catalog.get("s/other")
    for ref in ("s/d@0", "s/d@x", "s/d@", "s/d@1/../2"):
        with pytest.raises(InputError):
            catalog.get(ref)


def test_contributions_at_once_become_versions_one_by_one(catalog: Catalog, source: Path) -> None:
    cases = [case(source, f"c{n}", n) for n in range(4)]
    versions: list[int] = []

    def contribute(n: int) -> None:
        versions.append(catalog.contribute("s/d", [cases[n]], MAPPING, TERMS).version)

    threads = [threading.Thread(target=contribute, args=(n % 4,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len(catalog.list()) == 4
    for dataset in catalog.list():
        dataset.verify()


def test_a_catalog_is_a_folder_of_this_machine(tmp_path: Path) -> None:
    assert Catalog(f"file://{tmp_path}").root == tmp_path
    with pytest.raises(InputError, match="this machine"):
        Catalog("s3://bucket/datasets")


def test_a_changed_manifest_is_noticed(catalog: Catalog, source: Path) -> None:
    folder = catalog.contribute("s/d", [case(source, "c1")], MAPPING, TERMS).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["terms"]["obligations"] = []
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        catalog.get("s/d@1")


def test_a_changed_contract_is_noticed_before_a_voxel_is_read(
    catalog: Catalog, source: Path
) -> None:
    dataset = catalog.contribute("s/d", [case(source, "c1")], MAPPING, TERMS)
    path = dataset.case("c1").folder / "zarr.json"
    path.write_text(path.read_text().replace("spleen", "pancreas"))
    with pytest.raises(IntegrityError, match="contract"):
        dataset.case("c1")
    path.write_text("{")
    with pytest.raises(IntegrityError, match="c1"):
        dataset.case("c1")
    path.unlink()
    with pytest.raises(IntegrityError, match="c1"):
        dataset.case("c1")


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_changed_voxels_are_noticed_by_verify(catalog: Catalog, source: Path, damage: str) -> None:
    dataset = catalog.contribute("s/d", [case(source, "c1")], MAPPING, TERMS)
    (shard,) = (dataset.case("c1").folder / "ct" / "c").rglob("0/0/0")
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 0xFF
        shard.write_bytes(data)
    elif damage == "truncate":
        shard.write_bytes(data[: len(data) // 2])
    else:
        shard.unlink()
    with pytest.raises(IntegrityError, match="ct"):
        dataset.case("c1").verify()


def test_terms_are_checked() -> None:
    with pytest.raises(ValueError, match="licence"):
        Terms(licence="")
    with pytest.raises(ValueError, match="obligations"):
        Terms.model_validate({"licence": "CC0-1.0", "obligations": ["PAY"]})


def test_what_was_stored_under_a_licence_of_another_list_is_still_read(
    catalog: Catalog, source: Path
) -> None:
    # as a version of SPDX's list that is not installed here would have let in
    old = TERMS.model_copy(update={"licence": "CC BY 9.0"})
    dataset = catalog.contribute("s/d", [case(source, "c1")], MAPPING, old)
    assert Catalog(catalog.root).get(dataset.ref).manifest.terms == old
