"""What a site sees of validation: exit codes, reports, quarantine, withdrawal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tiny_release import add_decoder, add_release
from typer.testing import CliRunner, Result

import clnet
from clnet.cli import app
from clnet.data_catalog import IntakeRules
from clnet.decoders_registry import DatasetUse, Lineage


def contribute(hub: clnet.Hub, site: Path, *options: str | Path) -> Result:
    arguments = ["datasets", "contribute", "site-a/d", "--source", site]
    arguments += ["--mapping", site / "mapping.yaml", "--licence", "CC-BY-4.0", *options]
    return CliRunner().invoke(
        app,
        [str(a) for a in arguments],
        env={"CLNET_WORKSPACE": str(hub.workspace.root), "COLUMNS": "300"},
    )


def told(hub: clnet.Hub, *arguments: str) -> Any:
    result = CliRunner().invoke(
        app,
        ["datasets", *arguments, "--json"],
        env={"CLNET_WORKSPACE": str(hub.workspace.root)},
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def spoilt(site: Path) -> Path:
    """A site whose second case has a label that nobody explains."""
    path = site / "labels" / "case-1.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + np.uint8(9), image.affine), path)
    return site


def test_a_trial_reports_and_stores_nothing(hub: clnet.Hub, spoilt: Path, tmp_path: Path) -> None:
    done = contribute(hub, spoilt, "--dry-run", "--report", tmp_path / "report")
    assert done.exit_code == 0
    assert "label.unmapped" in done.stdout
    assert "1 of 2 cases usable, 1 quarantined" in done.stderr
    assert "case-1" in (tmp_path / "report" / "report.html").read_text()
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["quarantined"] == ["case-1"]
    assert hub.datasets.list() == ()
    assert contribute(hub, spoilt, "--dry-run", "--strict").exit_code == 2


def test_a_bad_case_is_quarantined_and_listed(hub: clnet.Hub, spoilt: Path) -> None:
    assert contribute(hub, spoilt).exit_code == 0
    shown = told(hub, "show", "site-a/d")
    assert shown["case_ids"] == ["case-0"]
    (kept_out,) = shown["quarantined"]
    assert (kept_out["case"], kept_out["code"]) == ("case-1", "label.unmapped")
    assert hub.datasets.fingerprint("site-a/d")["cases"] == 1


def test_strict_refuses_it_all(hub: clnet.Hub, spoilt: Path, tmp_path: Path) -> None:
    done = contribute(hub, spoilt, "--strict", "--report", tmp_path / "report")
    assert isinstance(done.exception, clnet.CaseRejected)
    assert "has no entry" in str(done.exception)
    assert (tmp_path / "report" / "report.html").is_file()
    assert hub.datasets.list() == ()


def test_findings_come_as_json(hub: clnet.Hub, spoilt: Path) -> None:
    done = contribute(hub, spoilt, "--json")
    values = json.loads(done.stdout)
    assert values["ref"] == "site-a/d@1"
    assert values["quarantined"] == ["case-1"]
    (finding,) = (f for f in values["findings"] if f["severity"] == "error")
    assert set(finding) == {"code", "severity", "file", "case", "explanation", "way_out"}


def test_an_incomplete_folder_is_stored_but_for_the_broken_case(
    hub: clnet.Hub, site: Path, tmp_path: Path
) -> None:
    lost = site / "labels" / "case-1.nii.gz"
    lost.unlink()
    strict = contribute(hub, site, "--json", "--strict", "--report", tmp_path / "report")
    assert isinstance(strict.exception, clnet.CaseRejected)
    assert json.loads(strict.stdout)["refused"]
    assert (tmp_path / "report" / "report.html").is_file()
    assert hub.datasets.list() == ()
    values = json.loads(contribute(hub, site, "--json").stdout)
    assert values["cases"] == 1
    assert values["quarantined"] == ["case-1"]
    (finding,) = (f for f in values["findings"] if f["severity"] == "error")
    assert finding["code"] == "case.no-labels"
    assert finding["file"] == str(site / "images" / "case-1.nii.gz")
    assert finding["way_out"]


def test_a_folder_without_a_whole_case_ends_in_one_error(hub: clnet.Hub, site: Path) -> None:
    for path in (site / "labels").iterdir():
        path.unlink()
    for options in ([], ["--dry-run"], ["--strict"]):
        done = contribute(hub, site, *options)
        assert isinstance(done.exception, clnet.InputError)
        assert "no usable case" in str(done.exception)
    assert hub.datasets.list() == ()


def test_a_code_that_cannot_be_overruled_is_named(hub: clnet.Hub, site: Path) -> None:
    done = contribute(hub, site, "--accept", "file.bomb")
    assert isinstance(done.exception, clnet.InputError)
    assert "file.bomb" in str(done.exception)


def test_a_withdrawn_dataset_names_what_learned_from_it(hub: clnet.Hub, site: Path) -> None:
    assert contribute(hub, site).exit_code == 0
    dataset = hub.datasets.get("site-a/d")
    add_release(hub.registry)
    use = DatasetUse(ref=dataset.ref, sha256=dataset.sha256)
    decoder = add_decoder(
        hub.registry,
        "abdomen/pancreas",
        ["pancreas"],
        favour=0,
        learned_from=Lineage(command="test", code_version="0", datasets=(use,)),
    )
    hub.releases.create("learned", [decoder.ref])
    touched = told(hub, "withdraw", dataset.ref, "--reason", "consent revoked")
    assert touched["decoders"] == [decoder.ref]
    assert touched["releases"] == ["learned"]
    assert hub.datasets.get("site-a/d").case("case-0").ct().any(), "kept unless erased"
    told(hub, "withdraw", dataset.ref, "--reason", "consent revoked", "--erase")
    with pytest.raises(clnet.NotFound, match="erased"):
        hub.datasets.get("site-a/d").case("case-0")
    left = sum(p.stat().st_size for p in dataset.folder.rglob("*") if p.is_file())
    assert left < 20_000
    assert list(dataset.folder.rglob("*.zarr")) == []
    assert hub.datasets.fingerprint("site-a/d")["cases"] == 2, "the tombstone says what it was"


def test_erasing_leaves_other_datasets_alone(hub: clnet.Hub, site: Path) -> None:
    plan = {
        "orientation": "LPS", "spacing": [5.0, 4.0, 4.0], "clip": [-995.0, 1265.0],
        "mean": 0.0, "std": 1.0, "patch_size": [4, 4, 4],
    }  # fmt: skip
    mapping = {"1": "liver", "2": "spleen"}
    one = hub.datasets.contribute("site-a/d", site, mapping, "CC-BY-4.0")
    two = hub.datasets.contribute("site-b/d", site, mapping, "CC-BY-4.0")
    assert told(hub, "duplicates")[0]["elsewhere"] == "site-a/d@1"
    hub.catalog.plan_store(one, plan)
    hub.datasets.withdraw(one.ref, "wish of the site", erase=True)
    two.verify()
    assert hub.catalog.plan_bytes() > 0, "the same cases are planned for the other site"
    hub.datasets.withdraw(two.ref, "wish of the site", erase=True)
    assert hub.catalog.plan_bytes() == 0
    rules = IntakeRules(accept=frozenset({"duplicate.withdrawn"}))
    again = hub.datasets.contribute("site-a/d", site, mapping, "CC-BY-4.0", rules=rules)
    assert again.ref == "site-a/d@2", "a tombstone is never filled again"
    again.verify()
