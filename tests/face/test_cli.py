"""The command line mirrors the Python face."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import clnet
from clnet.cli import app, main
from clnet.errors import InputError

COMMANDS = sorted(
    {
        (group.name, command.name or command.callback.__name__)
        for group in app.registered_groups
        for command in group.typer_instance.registered_commands
    }
    | {(command.name or command.callback.__name__,) for command in app.registered_commands}
)


def run(workspace: Path, *arguments: str | Path) -> str:
    """Standard output of a command that must succeed."""
    told = CliRunner().invoke(
        app,
        [str(a) for a in arguments],
        env={"CLNET_WORKSPACE": str(workspace)},
        catch_exceptions=False,
    )
    assert told.exit_code == 0, told.output
    return told.stdout


def records(workspace: Path, *arguments: str | Path) -> Any:
    return json.loads(run(workspace, *arguments, "--json"))


def test_the_installed_command_runs() -> None:
    command = Path(sys.executable).with_name("clnet")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"clnet {clnet.__version__}\n"


@pytest.fixture
def workspace(furnished: clnet.Hub) -> Path:
    return furnished.workspace.root


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(command: tuple[str, ...]) -> None:
    told = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0
    group_help = CliRunner().invoke(app, [*command[:-1], "--help"], env={"COLUMNS": "200"})
    assert "xample" in told.output or "xample" in group_help.output


def test_the_packages_version_is_the_modules() -> None:
    from importlib.metadata import version

    assert version("clnet") == clnet.__version__


def test_a_dataset_is_contributed_listed_and_shown(workspace: Path, site: Path) -> None:
    told = records(
        workspace,
        *("datasets", "contribute", "site-b/abdomen", "--source", site),
        *("--mapping", site / "mapping.yaml", "--licence", "CC-BY-4.0", "--obligation", "by"),
    )
    assert told["ref"] == "site-b/abdomen@1"
    assert [row["ref"] for row in records(workspace, "datasets", "list")] == ["site-b/abdomen@1"]
    shown = records(workspace, "datasets", "show", "site-b/abdomen")
    assert shown["terms"]["obligations"] == ["BY"]
    assert shown["case_ids"] == ["case-0", "case-1"]
    held = records(workspace, "datasets", "fingerprint", "site-b/abdomen")
    assert set(held["anatomies"]) == {"liver", "spleen"}
    assert "liver" in run(workspace, "datasets", "fingerprint", "site-b/abdomen")
    out = site.parent / "exported"
    run(workspace, "datasets", "export", "site-b/abdomen@1", "--to", out, "--format", "nnunet")
    assert sorted(path.name for path in out.iterdir()) == [
        *("dataset.json", "imagesTr", "labelsTr", "terms.json"),
    ]


def test_encoders_are_listed_and_shown(workspace: Path) -> None:
    assert [row["ref"] for row in records(workspace, "encoders", "list")] == ["encoder/starter@1"]
    assert records(workspace, "encoders", "show", "starter")["plan"]["spacing"] == [8.0, 8.0, 8.0]


def test_decoders_are_listed_shown_promoted_and_traced(workspace: Path) -> None:
    refs = [row["ref"] for row in records(workspace, "decoders", "list")]
    assert refs == ["abdomen/liver@1", "abdomen/spleen@1"]
    moved = records(workspace, "decoders", "promote", "abdomen/liver@1", "--alias", "trusted")
    assert "trusted" in moved["aliases"]
    assert records(workspace, "decoders", "show", "abdomen/liver@trusted")["version"] == 1
    tree = run(workspace, "decoders", "lineage", "abdomen/liver")
    assert "encoder: encoder encoder/starter@1" in tree
    assert "site-a/abdomen@1" in tree


def test_releases_are_made_compared_and_carried(workspace: Path, tmp_path: Path) -> None:
    made = records(workspace, "releases", "create", "liver-only", "abdomen/liver@1")
    assert made["decoders"] == 1
    assert [row["name"] for row in records(workspace, "releases", "list")] == [
        "2026.11",
        "liver-only",
    ]
    assert "abdomen/liver@1" in run(workspace, "releases", "show", "liver-only")
    assert records(workspace, "releases", "diff", "2026.11", "liver-only")["removed"] == [
        "abdomen/spleen@1"
    ]
    run(workspace, "releases", "export", "2026.11", tmp_path / "bundle")
    elsewhere = tmp_path / "elsewhere"
    assert records(elsewhere, "releases", "import", tmp_path / "bundle")["name"] == "2026.11"


def test_a_scan_is_segmented_into_a_folder(workspace: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = run(workspace, "segment", scan, "--output", out, "--anatomy", "Liver")
    assert "present" in told
    assert {path.name for path in out.iterdir()} == {
        "labels.json",
        "masks",
        "preview.png",
        "statistics.json",
    }


def test_a_second_scan_into_the_same_folder_leaves_nothing_of_the_first(
    workspace: Path, scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(workspace, "segment", scan, "--output", out)
    mine = [out / "masks" / "corrected.nii.gz", out / "notes.txt"]
    stale = [out / "masks" / "bone.nii.gz"]
    for path in mine + stale:
        path.write_bytes(b"earlier")
    run(workspace, "segment", scan, "--output", out, "--anatomy", "liver")
    assert {path for path in mine + stale if path.exists()} == set(mine)
    assert (out / "masks" / "organ.nii.gz").exists()


def test_a_memory_budget_is_kept_and_explained(workspace: Path, scan: Path, tmp_path: Path) -> None:
    asked = ["segment", str(scan), "--workspace", str(workspace), "--output", str(tmp_path / "out")]
    told = CliRunner().invoke(app, [*asked, "--memory-budget", "300 MiB", "--explain"])
    assert told.exit_code == 0
    assert re.search(r"2 decoders in 1 pass and 1 tile: .* of 300 MiB", told.stderr)
    assert "of temporary files" in told.stderr
    run(workspace, "segment", scan, "--output", tmp_path / "other")
    for path in (tmp_path / "out" / "masks").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / "masks" / path.name).read_bytes()
    refused = CliRunner().invoke(app, [*asked, "--memory-budget", "2MB"])
    assert "memory budget of 2 MiB: this scan takes" in str(refused.exception)
    unread = CliRunner().invoke(app, [*asked, "--memory-budget", "plenty"])
    assert "write it like 4GiB" in str(unread.exception)
    for command in (asked, ["serve", "--workspace", str(workspace)]):
        nothing = CliRunner().invoke(app, [*command, "--memory-budget", "0"])
        assert "write it like 4GiB" in str(nothing.exception)
    hub = clnet.connect(workspace)
    for refusing in (
        lambda: hub.segment(scan, memory_budget=0),
        lambda: hub.serve(memory_budget=-5),
    ):
        with pytest.raises(InputError, match="more than 0 bytes"):
            refusing()


def test_an_empty_workspace_says_what_to_do(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["jobs", "list", "--workspace", str(tmp_path)])
    assert (told.exit_code, told.stdout) == (0, "")
    assert "clnet jobs submit" in told.stderr


def exit_of_main(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["clnet", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_users_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("releases", "show", "nothing", "--workspace", tmp_path)
    assert exit_of_main(monkeypatch, *asked) == 2
    assert capsys.readouterr().err == "error: release 'nothing' is not in the registry\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("segment {scan} --output {file}", "--output {file}: {file} is not a folder"),
        ("segment {scan} --output {file}/out", "--output {file}/out: {file} is not a folder"),
        ("evaluate --reference a --prediction b --out {file}", "--out {file}: {file} is not"),
        ("datasets contribute a/b --source {site} --report {file}", "--report {file}: {file} is"),
        ("datasets contribute a/b --source x --report {file} --dry-run", "--report {file}: {file}"),
        ("datasets import a.clnet --report {file}/r", "--report {file}/r: {file} is not a folder"),
        ("datasets fingerprint --plot {site}", "--plot {site}: is a folder; name a file"),
        ("datasets fingerprint --plot {file}/a.png", "--plot {file}: {file} is not a folder"),
        ("datasets list --workspace {file}/w", "{file}/w: no folder can be made there"),
        ("datasets list --workspace /proc/nope", "/proc/nope: no folder can be made there"),
        ("jobs list --workspace {file}", "workspace {file}: is a file"),
        ("releases export 2026.11 {file}", "{file} exists already"),
        ("releases export 2026.11 {file}/r", "{file}: no folder can be made there"),
        ("sites key make {file}/key", "{file}: no folder can be made there"),
        ("sites serve --tls-certificate x.pem --tls-key y.pem", "TLS certificate x.pem, key y.pem"),
        ("serve --host nowhere.invalid --port 0", "cannot listen on nowhere.invalid:0"),
    ],
)
def test_a_place_that_cannot_be_used_is_told_before_the_work(
    workspace: Path,
    scan: Path,
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    reason: str,
) -> None:
    monkeypatch.setenv("CLNET_WORKSPACE", str(workspace))
    file = scan.with_name("junk.txt")
    file.write_text("no folder", encoding="utf-8")
    places = {"scan": scan, "site": site, "file": file}
    code = exit_of_main(monkeypatch, *(part.format(**places) for part in command.split()))
    assert code == (1 if command.startswith("serve") else 2)
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith(f"error: {reason.format(**places)}")
    assert "Traceback" not in told
    with clnet.connect(workspace) as hub:
        assert not hub.datasets.list()


@pytest.mark.parametrize("port", [99999, -1])
def test_a_port_that_no_machine_has_is_refused(
    furnished: clnet.Hub, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    assert exit_of_main(monkeypatch, "serve", f"--port={port}") == 2
    with pytest.raises(clnet.InputError, match=f"port {port}: 1 to 65535"):
        furnished.serve(port=port)


def test_a_damaged_artefact_is_one_line_and_exit_code_1(
    workspace: Path,
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in (workspace / "artefacts").glob("*/*"):
        path.write_bytes(b"damaged")
    asked = ("segment", scan, "--output", tmp_path / "out", "--workspace", workspace)
    assert exit_of_main(monkeypatch, *asked) == 1
    assert "the stored bytes hash to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["jobs", "submit"], "name a decoder"),
        (["jobs", "submit", "abdomen/liver", "--dataset", "a/b@1"], "a/b"),
        (["jobs", "submit", "x", "--dataset", "a/b", "--set", "epochs=no"], "epochs"),
        (["jobs", "submit", "x", "--dataset", "a/b", "--set", "epochs"], "NAME=VALUE"),
        (["jobs", "list", "--status", "lost"], "queued"),
        (["jobs", "logs", "no-such-job"], "no-such-job"),
        (["decoders", "promote", "abdomen/liver"], "abdomen/liver@1"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    workspace: Path, arguments: list[str], reason: str
) -> None:
    told = CliRunner().invoke(app, arguments, env={"CLNET_WORKSPACE": str(workspace)})
    assert isinstance(told.exception, clnet.InputError)
    assert reason in str(told.exception)
