"""A hub with a tiny release in it, and a site's folder to contribute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_release import add_release

import clnet

AFFINE = np.array(
    [[-4.0, 0, 0, 60], [0, 4.0, 0, -40], [0, 0, 5.0, 100], [0, 0, 0, 1]]
)  # left to the right, mm


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[clnet.Hub]:
    """A hub on an empty workspace."""
    with clnet.connect(tmp_path / "workspace") as opened:
        yield opened


@pytest.fixture
def furnished(hub: clnet.Hub) -> clnet.Hub:
    """A hub with the release ``2026.11``: liver everywhere, spleen nowhere."""
    add_release(hub.registry)
    return hub


def write_scan(path: Path, seed: int = 0) -> Path:
    """A noisy block of soft tissue in air, 24 x 20 x 16 voxels, as NIfTI."""
    rng = np.random.default_rng(seed)
    ct = np.full((24, 20, 16), -1000.0)
    ct[4:20, 4:16] = 40.0
    ct += rng.normal(scale=20.0, size=ct.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(ct.astype(np.int16), AFFINE)
    image.set_qform(AFFINE, 1)
    nib.save(image, path)
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "scan.nii.gz")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two cases with a liver (1) and a spleen (2), and ``mapping.yaml``."""
    folder = tmp_path / "site"
    for number in range(2):
        write_scan(folder / "images" / f"case-{number}.nii.gz", seed=number)
        labels = np.zeros((24, 20, 16), np.uint8)
        labels[5:10, 6:12, 4:12] = 1
        labels[13:17, 6:12, 4:12] = 2
        (folder / "labels").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(labels, AFFINE), folder / "labels" / f"case-{number}.nii.gz")
    (folder / "mapping.yaml").write_text("1: liver\n2: spleen\n", encoding="utf-8")
    return folder
