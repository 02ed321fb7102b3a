"""The scan that readers of training data are compared on."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["LOBES", "SPACING", "make_volume", "save_nifti"]

SPACING = (1.0, 0.57, 0.57)
"""mm, (z, y, x)."""

LOBES = {
    1: "lung_upper_lobe_right",
    2: "lung_lower_lobe_right",
    3: "lung_upper_lobe_left",
    4: "lung_lower_lobe_left",
    5: "lung_middle_lobe_right",
}
REAL = "pyradiomics_lung1/lung1_image.nrrd"
SURROUND = -400  # HU between lung and its surroundings


def make_volume(
    data: Path, edge: int, slices: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8], str]:
    """HU and labels ``(Z, Y, X)``, and what they are in words.

    The 48 real slices are repeated, turned otherwise each time, so that no codec finds the same
    bytes again; without them, or at another size, a chest of ellipses and noise is drawn.
    """
    source = data / REAL
    if source.is_file() and edge == 512:
        chest = sitk.GetArrayFromImage(sitk.ReadImage(str(source))).astype(np.int16)
        said = f"{len(chest)} slices of a real chest CT, turned and mirrored at each repetition"
    else:
        chest = _drawn(edge)
        said = "a drawn chest with noise"
    blocks = [_turned(chest, n) for n in range(-(-slices // len(chest)))]
    labels = [_lungs(block) for block in blocks]
    ct = np.ascontiguousarray(np.concatenate(blocks)[:slices])
    lungs = np.concatenate(labels)[:slices]
    _, y, x = np.ogrid[: len(ct), :edge, :edge]
    right = np.where(y < 0.35 * edge, 1, np.where(y < 0.6 * edge, 5, 2))
    # the left of the patient is where x is high
    lobes = np.where(x < edge // 2, right, np.where(y < 0.45 * edge, 3, 4))
    return ct, (lungs * lobes).astype(np.uint8), f"{said}; five lobes of lung as labels"


def save_nifti(path: Path, voxels: NDArray[np.generic]) -> Path:
    """A canonical ``(z, y, x)`` array as ``.nii.gz``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    z, y, x = SPACING
    nib.save(nib.Nifti1Image(voxels.transpose(2, 1, 0), np.diag([-x, -y, z, 1.0])), path)
    return path


def _drawn(edge: int) -> NDArray[np.int16]:
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:48, :edge, :edge].astype(np.float32)
    y, x = 2 * y / edge - 1, 2 * x / edge - 1
    hu = np.where((y / 0.7) ** 2 + (x / 0.9) ** 2 < 1, 40.0, -1000.0)
    for side in (-0.4, 0.4):
        hu[(y / 0.5) ** 2 + ((x - side) / 0.3) ** 2 < 1] = -800.0
    return np.asarray(hu + rng.normal(0, 15, hu.shape) + z % 3, dtype=np.int16)


def _turned(chest: NDArray[np.int16], n: int) -> NDArray[np.int16]:
    turned = np.rot90(chest, n % 4, axes=(1, 2))
    turned = turned[:, :, ::-1] if n >= 4 else turned
    return turned[::-1] if n % 2 else turned


def _lungs(block: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Air that is not outside."""
    smooth = ndimage.gaussian_filter(block.astype(np.float32), (0.7, 2, 2))
    parts, count = ndimage.label(smooth < SURROUND)
    inside = np.ones(count + 1, dtype=bool)
    for border in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1], np.zeros(1, int)):
        inside[np.unique(border)] = False
    return np.asarray(inside[parts])
