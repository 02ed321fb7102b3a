"""What was withdrawn stays away: not taken in again, not given out, not listed as if usable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner, Result

import clnet
from clnet.cli import app
from clnet.data_catalog import IntakeRules, Judgement

MAPPING = {"1": "liver", "2": "spleen"}
AGAIN = IntakeRules(accept=frozenset({"duplicate.withdrawn"}))
REASON = "consent revoked"


def run(hub: clnet.Hub, *arguments: object) -> Result:
    return CliRunner().invoke(
        app,
        ["datasets", *(str(a) for a in arguments)],
        env={"CLNET_WORKSPACE": str(hub.workspace.root), "COLUMNS": "300"},
    )


def told(hub: clnet.Hub, *arguments: object) -> Any:
    result = run(hub, *arguments, "--json")
    assert result.exit_code == 0, f"{result.output}{result.exception!r}"
    return json.loads(result.stdout)


def only(site: Path, folder: Path, *cases: str) -> Path:
    """A copy of a site's folder with these cases alone."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for case in cases:
            shutil.copy(site / part / f"{case}.nii.gz", folder / part)
    return folder


@pytest.fixture
def gone(hub: clnet.Hub, site: Path) -> clnet.Hub:
    """A hub where site-a withdrew both its cases."""
    hub.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0")
    hub.datasets.withdraw("site-a/d@1", REASON)
    return hub


@pytest.mark.parametrize("erase", [False, True])
@pytest.mark.parametrize("name", ["site-a/d", "site-a/other"])
def test_withdrawn_scans_are_not_taken_in_again(
    gone: clnet.Hub, site: Path, name: str, erase: bool
) -> None:
    if erase:
        gone.datasets.withdraw("site-a/d@1", REASON, erase=True)
    with pytest.raises(clnet.InputError, match=r"case-0 of site-a/d@1, withdrawn: consent revoked"):
        gone.datasets.contribute(name, site, MAPPING, "CC-BY-4.0")
    trial = gone.datasets.validate(name, site, MAPPING)
    assert trial.report.refused
    assert {found.code for found in trial.report.findings} >= {"duplicate.withdrawn"}
    assert [dataset.ref for dataset in gone.datasets.list()] == ["site-a/d@1"]


@pytest.mark.parametrize("erase", [False, True])
def test_who_takes_them_again_says_so_and_it_is_written_down(
    gone: clnet.Hub, site: Path, erase: bool
) -> None:
    gone.datasets.withdraw("site-a/d@1", REASON, erase=erase)
    again = gone.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0", rules=AGAIN)
    assert again.ref == "site-a/d@2", "a tombstone is never given, nor filled, again"
    again.verify()
    gone.registry.check_usable(again.ref)
    (line,) = [line for line in gone.audit("site-a/d@2") if line.action == "dataset.again"]
    assert line.detail == {"cases": ["case-0", "case-1"]}
    same = gone.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0")
    assert same.ref == "site-a/d@2", "in good standing now"
    assert len([line for line in gone.audit() if line.action == "dataset.again"]) == 1


def test_other_labels_do_not_bring_a_scan_back(gone: clnet.Hub, site: Path) -> None:
    for path in (site / "labels").iterdir():
        image = nib.load(path)
        labels = np.asarray(image.dataobj).copy()
        labels[5] = 0
        nib.save(nib.Nifti1Image(labels, image.affine), path)
    with pytest.raises(clnet.InputError, match="withdrawn: consent revoked"):
        gone.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0")


def test_one_withdrawn_scan_does_not_keep_the_others_out(
    hub: clnet.Hub, site: Path, tmp_path: Path
) -> None:
    one = only(site, tmp_path / "one", "case-0")
    hub.datasets.contribute("site-a/one", one, MAPPING, "CC-BY-4.0")
    hub.datasets.withdraw("site-a/one@1", REASON)
    heard: list[Judgement] = []
    both = hub.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0", tell=heard.append)
    assert both.case_ids == ("case-1",)
    assert heard[0].report.quarantined == ("case-0",)
    assert told(hub, "show", "site-a/d")["quarantined"][0]["code"] == "duplicate.withdrawn"
    rules = IntakeRules(strict=True)
    with pytest.raises(clnet.InputError, match="withdrawn"):
        hub.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0", rules=rules)


def test_what_a_standing_version_holds_was_not_withdrawn(
    hub: clnet.Hub, site: Path, tmp_path: Path
) -> None:
    one = only(site, tmp_path / "one", "case-0")
    hub.datasets.contribute("site-a/d", one, MAPPING, "CC-BY-4.0")
    hub.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0")
    hub.datasets.withdraw("site-a/d@1", "the second version is larger")
    assert hub.datasets.contribute("site-a/d", site, MAPPING, "CC-BY-4.0").ref == "site-a/d@2"
    assert hub.datasets.contribute("site-a/d", one, MAPPING, "CC-BY-4.0").ref == "site-a/d@3"


def test_another_site_hears_nothing_of_it(gone: clnet.Hub, site: Path) -> None:
    heard: list[Judgement] = []
    gone.datasets.contribute("site-b/d", site, MAPPING, "CC-BY-4.0", tell=heard.append)
    assert "site-a" not in heard[0].report.model_dump_json()


def test_a_withdrawn_version_is_not_exported(gone: clnet.Hub, tmp_path: Path) -> None:
    with pytest.raises(clnet.Incompatible, match="consent revoked"):
        gone.datasets.export("site-a/d@1", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert gone.audit("site-a/d@1")[0].action == "dataset.withdraw"


def test_a_trial_import_refuses_what_an_import_would(
    hub: clnet.Hub, site: Path, tmp_path: Path
) -> None:
    hub.sites.add("site-a")
    hub.sites.add_key("site-a", hub.sites.make_key(tmp_path / "a.pem"))
    for name in ("d", "e"):
        hub.datasets.contribute(f"site-a/{name}", site, MAPPING, "CC-BY-4.0")
        hub.datasets.bundle(f"site-a/{name}@1", tmp_path / f"{name}.clnet", tmp_path / "a.pem")
    with clnet.connect(tmp_path / "elsewhere") as there:
        there.sites.add("site-a")
        public = there.sites.make_key(tmp_path / "b.pem")
        there.sites.add_key("site-a", public)
        other = only(site, tmp_path / "one", "case-0")
        there.datasets.contribute("site-a/e", other, MAPPING, "CC-BY-4.0")
        there.datasets.bundle("site-a/e@1", tmp_path / "other.clnet", tmp_path / "b.pem")
    hub.sites.add_key("site-a", public)
    hub.datasets.withdraw("site-a/d@1", REASON)
    for file, error in (
        ("d.clnet", clnet.Incompatible),
        ("other.clnet", clnet.AlreadyExists),
    ):
        for trial in (("--dry-run",), ()):
            refused = run(hub, "import", tmp_path / file, *trial)
            assert isinstance(refused.exception, error), refused.exception
    assert run(hub, "import", tmp_path / "e.clnet", "--dry-run").exit_code == 0
    hub.datasets.withdraw("site-a/e@1", REASON, erase=True)
    assert isinstance(
        run(hub, "import", tmp_path / "e.clnet", "--dry-run").exception, clnet.Incompatible
    )


def test_a_bundle_brings_no_withdrawn_scan_under_another_name(
    gone: clnet.Hub, site: Path, tmp_path: Path
) -> None:
    gone.sites.add("site-a")
    with clnet.connect(tmp_path / "at-the-site") as there:
        public = there.sites.make_key(tmp_path / "a.pem")
        there.datasets.contribute("site-a/again", site, MAPPING, "CC-BY-4.0")
        there.datasets.bundle("site-a/again@1", tmp_path / "b.clnet", tmp_path / "a.pem")
    gone.sites.add_key("site-a", public)
    trial = gone.datasets.validate_bundle(tmp_path / "b.clnet")
    assert trial.report.quarantined == ("case-0", "case-1")
    with pytest.raises(clnet.InputError, match="withdrawn: consent revoked"):
        gone.datasets.import_(tmp_path / "b.clnet")
    taken = gone.datasets.import_(tmp_path / "b.clnet", accept=AGAIN.accept)
    actions = [line.action for line in gone.audit(taken.ref)]
    assert actions == ["dataset.import", "dataset.again", "dataset.record"]


def test_the_list_tells_what_was_withdrawn_and_erased(gone: clnet.Hub, site: Path) -> None:
    gone.datasets.contribute("site-b/d", site, MAPPING, "CC-BY-4.0")
    assert gone.datasets.withdrawn() == {"site-a/d@1": REASON}

    def listed() -> list[tuple[str, str | None, bool]]:
        return [(row["ref"], row["withdrawn"], row["erased"]) for row in told(gone, "list")]

    assert listed() == [("site-a/d@1", REASON, False), ("site-b/d@1", None, False)]
    assert REASON in run(gone, "list").stdout
    gone.datasets.withdraw("site-a/d@1", REASON, erase=True)
    assert listed()[0] == ("site-a/d@1", REASON, True)
    assert run(gone, "fingerprint", "--plot", site / "c.png").exit_code == 0


def test_the_command_line_takes_again_what_is_accepted(gone: clnet.Hub, site: Path) -> None:
    command = ["contribute", "site-a/d", "--source", site, "--mapping", site / "mapping.yaml"]
    command += ["--licence", "CC-BY-4.0"]
    refused = run(gone, *command)
    assert refused.exit_code != 0
    assert "withdrawn: consent revoked" in str(refused.exception)
    assert "duplicate.withdrawn" in refused.output
    assert run(gone, *command, "--dry-run").exit_code == 2
    assert told(gone, *command, "--accept", "duplicate.withdrawn")["ref"] == "site-a/d@2"
