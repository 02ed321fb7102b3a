"""The doctor: what is there, what is missing, what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import clnet
from clnet.cli import app
from clnet.doctor import Finding, diagnose, healthy


def find(name: str, workspace: Path, database: str, **options: object) -> Finding:
    found = {f.name: f for f in diagnose(workspace, database, **options)}
    return found[name]


def test_a_machine_that_runs_the_tests_is_fit(hub: clnet.Hub) -> None:
    findings = list(diagnose(hub.workspace.root, hub.workspace.database))
    assert healthy(findings)
    assert {"python", "torch", "ray", "cpu", "gpu", "memory", "disk", "database"} <= {
        finding.name for finding in findings
    }
    assert not hub.workspace.root.exists()


def test_the_workspaces_database_is_opened(furnished: clnet.Hub) -> None:
    found = find("database", furnished.workspace.root, furnished.workspace.database)
    assert (found.verdict, "schema up to date" in found.seen) == ("ok", True)


def test_a_database_that_does_not_answer_fails_with_advice(tmp_path: Path) -> None:
    url = f"postgresql://nobody:secret@/clnet?host={tmp_path}"
    found = find("database", tmp_path, url)
    assert found.verdict == "fail"
    assert "CLNET_DATABASE" in found.advice
    assert "secret" not in found.seen


def test_a_damaged_database_fails(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_bytes(b"no database" * 100)
    assert find("database", tmp_path, f"sqlite:///{tmp_path}/registry.db").verdict == "fail"


def test_object_storage_is_tried_for_real(tmp_path: Path, s3_url: str) -> None:
    import s3fs

    assert find("object storage", tmp_path, "", s3=s3_url).verdict == "ok"
    assert s3fs.S3FileSystem().find(s3_url) == []


def test_a_store_without_conditional_writes_is_told(
    tmp_path: Path, second_s3_server: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", second_s3_server)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdirs("clnet-tests", exist_ok=True)
    found = find("object storage", tmp_path, "", s3=s3_url)
    assert found.verdict == "warn"
    assert "If-None-Match" in str(found)


def test_a_missing_bucket_fails_with_advice(tmp_path: Path, s3_url: str) -> None:
    found = find("object storage", tmp_path, "", s3="s3://no-such-bucket/prefix")
    assert found.verdict == "fail"
    assert "AWS_ENDPOINT_URL" in found.advice


@pytest.mark.parametrize("url", ["nowhere://bucket", "garbage", "/tmp/garbage", "s3:/bucket"])
def test_what_is_no_object_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["doctor", "--s3", url, "--workspace", str(tmp_path)])
    assert isinstance(told.exception, clnet.InputError)
    assert "s3://bucket/prefix" in str(told.exception)
    assert told.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ray_is_started_for_real(tmp_path: Path) -> None:
    assert find("ray runtime", tmp_path, "", ray=True).verdict == "ok"


def test_the_command_prints_json_and_fails_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLNET_DATABASE", f"postgresql://nobody@/clnet?host={tmp_path}")
    told = CliRunner().invoke(app, ["doctor", "--json", "--workspace", str(tmp_path)])
    assert told.exit_code == 1
    verdicts = {finding["name"]: finding["verdict"] for finding in json.loads(told.stdout)}
    assert verdicts["database"] == "fail"
    assert verdicts["torch"] == "ok"
