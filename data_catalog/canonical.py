"""The canonical grid: axes (Z, Y, X) pointing superior, posterior, left; affines in RAS+ mm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.allocation import Allocate, contiguous, in_memory
from clnet.data_catalog.volume import Volume
from clnet.errors import CaseRejected

__all__ = ["Canonical", "grid_distance", "to_canonical"]

SHEAR_TOLERANCE = 2e-3
"""Largest cosine between two voxel axes: 0.1 degrees, above what float32 headers round to."""

SPACING_LIMITS = (0.01, 100.0)
"""Voxel sizes in mm outside of which the header's unit must be wrong."""

FARTHEST = 1e6
"""Largest plausible entry of an affine, in mm."""


@dataclass(frozen=True, slots=True)
class Canonical:
    """A volume reoriented to LPS and transposed; voxels are moved, never interpolated.

    Attributes:
        voxels: C-ordered, shape ``(Z, Y, X)``.
        affine: ``(x, y, z, 1)`` indices of the reoriented grid to RAS+ mm.
        spacing: mm, ``(z, y, x)``.
        axcodes: the file's own orientation, such as ``RAS``.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    axcodes: str


def to_canonical(volume: Volume, allocate: Allocate = in_memory) -> Canonical:
    """Reorient `volume`, keeping oblique rotations in the affine.

    Raises:
        CaseRejected: the affine is not finite, far off, not invertible, sheared (gantry tilt),
            or has voxel sizes that cannot be millimetres.
    """
    from nibabel import orientations

    _check_affine(volume)
    original = orientations.io_orientation(volume.affine)
    target = orientations.axcodes2ornt(("L", "P", "S"))
    transform = orientations.ornt_transform(original, target)
    voxels = orientations.apply_orientation(volume.voxels, transform)
    affine = volume.affine @ orientations.inv_ornt_aff(transform, volume.voxels.shape)
    x, y, z = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    return Canonical(
        voxels=contiguous(voxels.transpose(2, 1, 0), allocate),
        affine=affine,
        spacing=(z, y, x),
        axcodes="".join(str(code) for code in orientations.ornt2axcodes(original)),
    )


def grid_distance(
    first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, int, int]
) -> float:
    """How far apart two affines put the corners of a ``(Z, Y, X)`` grid, at most, in mm."""
    corners = np.array([[x, y, z, 1.0] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    corners[:, :3] *= np.array(shape[::-1]) - 1
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def _check_affine(volume: Volume) -> None:
    affine = volume.affine
    if not np.isfinite(affine).all():
        raise CaseRejected(volume.file, "affine", "holds NaN or infinity", "image.affine")
    if np.abs(affine).max() > FARTHEST:
        raise CaseRejected(
            volume.file, "affine", "places the scan a kilometre away or farther", "image.affine"
        )
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_LIMITS
    if sizes.min() < low or sizes.max() > high:
        text = " x ".join(f"{size:g}" for size in sizes)
        raise CaseRejected(
            volume.file,
            "affine",
            f"voxel size {text} mm; {low} to {high} mm is plausible",
            "image.affine",
        )
    axes = affine[:3, :3] / sizes
    cosines = np.abs(axes.T @ axes - np.eye(3))
    if abs(np.linalg.det(axes)) < 1e-3:
        raise CaseRejected(
            volume.file, "affine", "not invertible: two axes point the same way", "image.affine"
        )
    if cosines.max() > SHEAR_TOLERANCE:
        angle = np.degrees(np.arcsin(min(1.0, cosines.max())))
        raise CaseRejected(
            volume.file,
            "affine",
            f"sheared by {angle:.1f} degrees (a tilted gantry?); resample it to a "
            "right-angled grid first",
            "image.tilted",
        )
