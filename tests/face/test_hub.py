"""The Python face: one object from which everything is reached."""

from __future__ import annotations

import ast
import builtins
import errno
import json
import os
import re
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import clnet
import clnet.errors
import clnet.hub
from clnet.data_catalog import open_source
from clnet.hub.segmented import read_scan
from clnet.starter import RELEASE


def test_every_error_can_be_caught_by_its_name_in_the_face() -> None:
    assert set(clnet.errors.__all__) <= set(clnet.__all__)
    for name in clnet.errors.__all__:
        assert getattr(clnet, name) is getattr(clnet.errors, name)
    for module in Path(clnet.hub.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                _, _, raised = (ast.get_docstring(node) or "").partition("Raises:\n")
                for name in re.findall(r"^    (\w+):", raised, re.MULTILINE):
                    assert hasattr(clnet, name) or hasattr(builtins, name), (module.name, name)


def test_connect_takes_the_folder_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLNET_WORKSPACE", str(tmp_path / "elsewhere"))
    assert clnet.connect().workspace.root == tmp_path / "elsewhere"


def test_connect_uses_a_folder_of_the_working_directory_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLNET_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert clnet.connect().workspace.root == tmp_path / "clnet-workspace"
    assert not (tmp_path / "clnet-workspace").exists()


def test_database_and_artefacts_may_live_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLNET_DATABASE", f"sqlite:///{tmp_path}/other.db")
    monkeypatch.setenv("CLNET_ARTEFACTS", str(tmp_path / "models"))
    with clnet.connect(tmp_path / "workspace") as hub:
        hub.registry.artefacts.put(b"weights")
        assert hub.encoders.list() == []
    assert (tmp_path / "other.db").exists()
    assert (tmp_path / "models").is_dir()


@pytest.mark.parametrize("target", ["https://clnet.hospital.example", "s3://bucket/hub"])
def test_an_address_is_no_workspace(target: str) -> None:
    with pytest.raises(clnet.InputError, match="folder"):
        clnet.connect(target)


def test_a_file_is_no_workspace(scan: Path) -> None:
    with pytest.raises(clnet.InputError, match="is a file"):
        clnet.connect(scan)


def test_every_public_name_is_there() -> None:
    assert {name for name in clnet.__all__ if getattr(clnet, name) is None} == set()
    with pytest.raises(AttributeError):
        _ = clnet.no_such_name


def test_a_contributed_dataset_is_stored_and_known(hub: clnet.Hub, site: Path) -> None:
    told: list[float] = []
    dataset = hub.datasets.contribute(
        "site-a/abdomen",
        site,
        site / "mapping.yaml",
        "CC-BY-4.0",
        progress=lambda done, _: told.append(done),
    )
    assert dataset.ref == "site-a/abdomen@1"
    assert told == [0.5, 1.0]
    assert [d.ref for d in hub.datasets.list()] == ["site-a/abdomen@1"]
    assert hub.registry.dataset("site-a/abdomen@1").sha256 == dataset.sha256
    assert hub.datasets.get("site-a/abdomen").case_ids == ("case-0", "case-1")


def test_a_fingerprint_says_what_a_dataset_holds(hub: clnet.Hub, site: Path) -> None:
    hub.datasets.contribute("site-a/abdomen", site, {1: "liver", 2: "spleen"}, "CC-BY-4.0")
    held = hub.datasets.fingerprint("site-a/abdomen")
    assert held["cases"] == 2
    assert held["spacing_zyx_mm"]["median"] == [5.0, 4.0, 4.0]
    assert held["anatomies"]["liver"] == {
        "exact": True,
        "known": 2,
        "seen": 2,
        "voxels": 2 * 5 * 6 * 8,
        "ml": pytest.approx(2 * 5 * 6 * 8 * 0.08, abs=0.05),
    }
    assert abs(held["intensity_hu"]["p50"] - 40) < 10


def test_cases_may_be_given_as_files(hub: clnet.Hub, site: Path) -> None:
    cases = open_source(site).cases[:1]
    dataset = hub.datasets.contribute(
        "site-a/one", cases, {1: "liver", 2: "ignore"}, clnet.Terms(licence="CC-BY-4.0")
    )
    assert len(dataset) == 1


def test_a_licence_that_is_none_is_refused(hub: clnet.Hub, site: Path) -> None:
    with pytest.raises(clnet.InputError, match="SPDX"):
        hub.datasets.contribute("site-a/abdomen", site, {1: "liver", 2: "spleen"}, "")


def test_decoders_are_listed_promoted_and_traced(furnished: clnet.Hub) -> None:
    liver = furnished.decoders.get("abdomen/liver@production")
    assert [d.ref for d in furnished.decoders.list("abdomen/liver")] == [liver.ref]
    moved = furnished.decoders.promote("abdomen/liver", 1, alias="trusted")
    assert set(moved.aliases) == {"production", "trusted"}
    roles = {parent["role"] for parent in furnished.decoders.lineage(liver.ref)["from"]}
    assert {"data", "encoder", "body_part_model"} <= roles


def test_a_release_travels_to_another_hub(furnished: clnet.Hub, tmp_path: Path) -> None:
    furnished.releases.export("2026.11", tmp_path / "bundle")
    with clnet.connect(tmp_path / "other") as other:
        imported = other.releases.import_(tmp_path / "bundle")
        assert imported.sha256 == furnished.releases.get("2026.11").sha256
        assert other.releases.list()[0].name == "2026.11"
        assert other.encoders.get("starter").sha256 == imported.encoder_sha256


@pytest.mark.skipif(not RELEASE.is_dir(), reason="this checkout ships no starter release")
def test_the_starter_release_is_imported_by_name(hub: clnet.Hub) -> None:
    imported = hub.releases.import_("starter")
    assert [release.name for release in hub.releases.list()] == [imported.name]
    assert all(decoder.probe_sha256 for decoder in imported.decoders)
    spine = next(d for d in imported.decoders if d.group == "bone/lumbar_spine")
    assert (spine.learned, spine.anatomies) == ((), ("vertebrae_lumbar",))
    assert sum(len(decoder.anatomies) for decoder in imported.decoders) == 27


def test_a_scan_comes_back_on_its_own_grid(
    furnished: clnet.Hub, scan: Path, tmp_path: Path
) -> None:
    result = furnished.segment(scan, release="2026.11")
    files = {path.name: path for path in result.save(tmp_path / "out")}
    assert set(files) == {"organ.nii.gz", "labels.json", "statistics.json", "preview.png"}
    original, saved = nib.load(scan), nib.load(files["organ.nii.gz"])
    assert saved.shape == original.shape
    np.testing.assert_array_equal(saved.affine, original.affine)
    assert saved.header["qform_code"] == original.header["qform_code"]
    labels = np.asarray(saved.dataobj)
    meaning = json.loads(files["labels.json"].read_text())["layers"]["organ"]["labels"]
    assert {meaning[str(v)]["anatomy"] for v in np.unique(labels) if v} == {"liver"}
    np.testing.assert_array_equal(labels, result.labels["organ"])
    assert result.mask("Liver").all()


def test_a_scan_that_is_no_nifti_comes_back_as_nifti_on_its_grid(
    furnished: clnet.Hub, scan: Path, tmp_path: Path
) -> None:
    import SimpleITK as sitk

    nrrd = tmp_path / "scan.nrrd"
    sitk.WriteImage(sitk.ReadImage(str(scan)), str(nrrd))
    files = furnished.segment(nrrd).save(tmp_path / "out", formats=["nifti"])
    saved = nib.load(next(path for path in files if path.name == "organ.nii.gz"))
    assert saved.shape == nib.load(scan).shape
    np.testing.assert_allclose(saved.affine, nib.load(scan).affine, atol=1e-4)


def test_statistics_name_what_made_a_result(furnished: clnet.Hub, scan: Path) -> None:
    statistics = furnished.segment(scan).statistics()
    release = furnished.releases.get("2026.11")
    assert statistics["release"]["sha256"] == release.sha256
    liver = statistics["anatomies"]["liver"]
    assert (liver["state"], liver["decoder"]) == ("present", "abdomen/liver@1")
    json.dumps(statistics)


def test_statistics_tell_what_a_result_took(
    furnished: clnet.Hub, scan: Path, tmp_path: Path
) -> None:
    result = furnished.segment(scan, memory_budget="300MiB")
    told = result.statistics()["inference"]
    plan = result.result.effort.schedule
    assert (told["passes"], told["tiles"], told["windows"]) == (1, 1, plan.encodings)
    assert told["memory_bytes"] == plan.memory <= told["budget_bytes"] == 300 << 20
    # a file of other numbers than HU is spooled as it is, and again as HU
    image = nib.load(scan)
    floats = tmp_path / "floats.nii.gz"
    values = np.asarray(image.dataobj, dtype=np.float32)
    nib.save(nib.Nifti1Image(values, image.affine), floats)
    more = furnished.segment(floats).statistics()["inference"]["disk_bytes"]
    assert more - told["disk_bytes"] == values.nbytes


def test_only_what_is_asked_for_is_reported(furnished: clnet.Hub, scan: Path) -> None:
    result = furnished.segment(scan, anatomies=["spleen"])
    assert set(result.statistics()["anatomies"]) == {"spleen"}
    assert not result.labels["organ"].any()


def test_a_hub_without_release_says_so(hub: clnet.Hub, scan: Path) -> None:
    with pytest.raises(clnet.NotFound, match="no release yet"):
        hub.segment(scan)


def test_a_format_that_is_not_written_is_refused(
    furnished: clnet.Hub, scan: Path, tmp_path: Path
) -> None:
    with pytest.raises(clnet.InputError, match="nifti"):
        furnished.segment(scan).save(tmp_path / "out", formats=["dicom-seg"])
    assert not (tmp_path / "out").exists()


def test_what_is_not_wanted_of_a_result_is_not_made(
    furnished: clnet.Hub, scan: Path, tmp_path: Path
) -> None:
    result = furnished.segment(scan)
    result.save(tmp_path / "all")  # what is imported at first use counts for nothing
    tracemalloc.start()
    files = result.save(tmp_path / "masks", formats=["nifti"])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {path.name for path in files} == {"organ.nii.gz", "labels.json", "statistics.json"}
    assert most < 4 << 20  # a picture takes 40 MiB and more
    files = result.save(tmp_path / "picture", formats=["png"])
    assert {path.name for path in files} == {"preview.png", "statistics.json"}


def test_a_supporter_that_is_not_served_is_not_reported(furnished: clnet.Hub, scan: Path) -> None:
    from tiny_release import add_decoder

    add_decoder(
        furnished.registry,
        "abdomen/pancreas",
        ["pancreas"],
        supporters=["abdomen/liver@1"],
        favour=0,
    )
    release = furnished.releases.create("leaning", ["abdomen/pancreas@1"])
    assert [d.ref for d in release.supporters] == ["abdomen/liver@1"]
    assert set(furnished.segment(scan, release).statistics()["anatomies"]) == {"pancreas"}


def test_the_room_for_plan_stores_is_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clnet.connect(tmp_path).catalog.plans_max_bytes is None
    monkeypatch.setenv("CLNET_PLANS_MAX_BYTES", "2GiB")
    assert clnet.connect(tmp_path).catalog.plans_max_bytes == 2 << 30


def test_the_largest_scan_that_contributions_take_is_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clnet.connect(tmp_path).catalog.max_bytes == 2 << 30
    monkeypatch.setenv("CLNET_SCAN_MAX_BYTES", "4GiB")
    assert clnet.connect(tmp_path).catalog.max_bytes == 4 << 30


def test_a_scan_to_segment_may_be_as_large_as_the_temporary_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4)).header
    header["dim"] = [3, 1024, 1024, 1536, 1, 1, 1, 1]
    header["vox_offset"] = 352
    scan = tmp_path / "large.nii"
    scan.write_bytes(header.binaryblock + bytes(4))
    os.truncate(scan, 352 + (3 << 30))  # 3 GiB that take none

    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(clnet.InputError, match=r"no room for 3072 MiB.*TMPDIR") as refusal:
        read_scan(scan)
    assert not isinstance(refusal.value, clnet.CaseRejected)


def test_a_large_scan_that_is_read_into_memory_is_refused_with_a_way_out(tmp_path: Path) -> None:
    scan = tmp_path / "large.nrrd"
    scan.write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
        b"sizes: 1024 1024 1536\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
        b"endian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    os.truncate(scan, scan.stat().st_size + (3 << 30))
    with pytest.raises(clnet.CaseRejected, match=r"2048 MiB.*convert it to NIfTI"):
        read_scan(scan)
