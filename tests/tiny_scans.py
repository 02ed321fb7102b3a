"""Tiny CT scans with labels, written as files, for the tests of the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog import CaseSource, Terms

SHAPE = (10, 9, 8)
"""Voxels of a tiny scan, ``(z, y, x)``."""

SPACING = (3.0, 2.0, 1.5)
MAPPING = {1: "liver", 2: "spleen"}
TERMS = Terms(licence="CC-BY-4.0", attribution="nobody", obligations=frozenset({"BY"}))
PLAN: dict[str, Any] = {
    "orientation": "LPS",
    "spacing": [3.0, 2.0, 1.5],
    "clip": [-995.0, 1265.0],
    "mean": -187.85,
    "std": 490.7,
    "patch_size": [6, 6, 6],
}


def lps_affine(spacing: tuple[float, float, float] = SPACING) -> NDArray[np.float64]:
    """Affine (RAS+ mm) of a canonical grid with an origin away from zero."""
    z, y, x = spacing
    affine = np.diag([-x, -y, z, 1.0])
    affine[:3, 3] = (40.0, -30.0, 100.0)
    return affine


def scan(seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.int16]:
    """Noise over the range of HU, ``(z, y, x)``."""
    return np.random.default_rng(seed).integers(-1000, 1200, shape).astype(np.int16)


def organs(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint8]:
    """Two boxes: id 1 to the left, 2 to the right, ``(z, y, x)``."""
    ids = np.zeros(shape, dtype=np.uint8)
    ids[2:6, 2:7, 1:3] = 1
    ids[3:8, 3:6, 5:7] = 2
    return ids


def save(path: Path, zyx: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Path:
    """Write a canonical ``(z, y, x)`` array as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(zyx.transpose(2, 1, 0), lps_affine() if affine is None else affine)
    nib.save(image, path)
    return path


def case(folder: Path, case_id: str, seed: int = 0) -> CaseSource:
    """One good case in `folder`."""
    return CaseSource(
        case_id,
        save(folder / "images" / f"{case_id}.nii.gz", scan(seed)),
        save(folder / "labels" / f"{case_id}.nii.gz", organs()),
    )
