"""Datasets in an object store, through the command line and the Python API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import clnet
from clnet.cli import app
from clnet.errors import StorageUnavailable


def run(workspace: Path, url: str, *arguments: str) -> Any:
    environment = {"CLNET_WORKSPACE": str(workspace), "CLNET_DATASETS": url, "COLUMNS": "300"}
    return CliRunner().invoke(app, ["datasets", *arguments], env=environment)


def test_one_workspace_contributes_and_another_trains(
    s3_url: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    arguments = ["site-a/d", "--source", str(site), "--mapping", str(site / "mapping.yaml")]
    done = run(one, s3_url, "contribute", *arguments, "--licence", "CC-BY-4.0")
    assert done.exit_code == 0, done.output
    listed = json.loads(run(other, s3_url, "list", "--json").stdout)
    assert [found["ref"] for found in listed] == ["site-a/d@1"]
    done = run(other, s3_url, "export", "site-a/d@1", "--to", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    for case in ("case-0", "case-1"):
        back = nib.load(tmp_path / "out" / "images" / f"{case}.nii.gz")
        given = nib.load(site / "images" / f"{case}.nii.gz")
        np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(given.dataobj))
        np.testing.assert_allclose(back.affine, given.affine)

    monkeypatch.setenv("CLNET_DATASETS", s3_url)
    with clnet.connect(other) as hub:
        hub.releases.import_("starter")
        patches = hub.datasets.patches("site-a/d", ["liver"], encoder="starter", length=2)
        assert patches[0]["image"].shape == (1, 48, 48, 48)


def test_a_store_that_is_gone_is_one_clear_error(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    done = run(tmp_path / "w", s3_url + "/gone", "list")
    assert isinstance(done.exception, StorageUnavailable)
    assert "AWS_ENDPOINT_URL" in str(done.exception)
