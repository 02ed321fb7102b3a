"""What the quickstart is asked for is checked before the minutes that it takes."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import clnet
from clnet.quickstart.journey import Journey
from clnet.quickstart.recipe import OwnDeployment
from clnet.quickstart.served import segment_over_http


def text(path: Path) -> None:
    path.write_text("not an image", encoding="utf-8")


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 200, (16, 16, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-2000]))


def not_finite(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((16, 16, 16), np.nan, np.float32), np.eye(4)), path)


def picture(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16)).astype(np.uint8)
    nib.save(nib.Nifti1Image(pixels, np.eye(4)), path)


def nothing(path: Path) -> None:
    """Leaves no file."""


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (text, "not a NIfTI file"),
        (truncated, "ends early"),
        (not_finite, "not finite"),
        (picture, "not Hounsfield units"),
        (nothing, "No such file"),
    ],
)
def test_a_ct_that_the_service_would_refuse_is_refused_at_once(
    tmp_path: Path, write: Callable[[Path], None], reason: str
) -> None:
    ct = tmp_path / "ct.nii.gz"
    write(ct)
    with pytest.raises(clnet.InputError, match=reason) as refused:
        Journey(tmp_path / "workspace", ct=ct)
    assert str(refused.value).startswith(f"{ct}: ")
    assert not (tmp_path / "workspace").exists()


def test_a_cluster_that_does_not_answer_is_told_before_the_phantoms(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("clnet"), "quickstart", "--ray", "127.0.0.1:9"]
    asked = [*command, "--workspace", tmp_path / "workspace"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: Ray at 127.0.0.1:9: ")
    assert not (tmp_path / "workspace" / "registry.db").exists()


@pytest.mark.slow
def test_a_scan_that_may_fail_loses_no_other(
    furnished: clnet.Hub, scan: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.nii.gz"
    text(broken)
    release = furnished.releases.get("2026.11")
    answers = segment_over_http(
        furnished,
        release,
        {"phantom-1": scan, "ct-broken": broken},
        tmp_path / "results",
        OwnDeployment(group="abdomen/liver", replicas=1),
        lambda done, text: None,
        may_fail={"ct-broken"},
    )
    assert answers.outputs == {"phantom-1": tmp_path / "results" / "phantom-1"}
    assert "not a NIfTI file" in answers.refused["ct-broken"]
