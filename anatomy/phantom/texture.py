"""Smooth random fields over the scan, the same at every spacing, and scanner noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter

__all__ = ["smooth_field", "white_noise"]

Floats = NDArray[np.float32]


def _basis(at: NDArray[np.float64], start: float, knots: int, step: float) -> Floats:
    """(points, knots) weights of the uniform cubic B-splines."""
    grid = start + step * (np.arange(knots + 4) - 3)
    inside = np.clip(at, grid[3], grid[knots] - 1e-6)
    return np.asarray(BSpline.design_matrix(inside, grid, 3).toarray(), dtype=np.float32)


def smooth_field(
    generator: np.random.Generator,
    axes: tuple[NDArray[np.float64], ...],
    extents: tuple[tuple[float, float], ...],
    step: float,
) -> Floats:
    """A random field of unit variance (roughly) that changes over about `step` mm.

    `axes` are the positions of the voxels in mm along z, y and x; `extents` the whole range of
    each axis, the same for every spacing and field of view: the field depends on it and on
    the generator alone.
    """
    counts = [int(np.ceil((high - low) / step)) + 3 for low, high in extents]
    field = generator.standard_normal(counts).astype(np.float32) / np.float32(0.48**1.5 * 1.0)
    for axis, (at, (low, _), count) in enumerate(zip(axes, extents, counts, strict=True)):
        weights = _basis(at, low, count, step)
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def white_noise(generator: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Floats:
    """Gaussian noise of unit variance, correlated over `sigma` voxels."""
    noise = generator.standard_normal(shape, dtype=np.float32)
    if sigma > 0:
        noise = gaussian_filter(noise, sigma, mode="wrap", truncate=3)
        noise /= np.float32(noise.std() + 1e-6)
    return np.asarray(noise, dtype=np.float32)
