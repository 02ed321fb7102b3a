"""The one global grid of windows over a volume, and their weights, which sum to 1 everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clnet.model.inference import SlidingWindow

__all__ = ["Axis", "Grid", "Interval"]

SIGMA = 0.125  # of the window's size, as nnU-Net weighs its windows

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one axis.

    Attributes:
        size: voxels of the volume.
        patch: voxels of a window.
        starts: first voxel of each window, ascending; negative where a small volume is padded.
        weights: ``(windows, patch)`` Gaussians that sum to 1 over the windows of each voxel.
    """

    size: int
    patch: int
    starts: tuple[int, ...]
    weights: Tensor

    @classmethod
    def of(cls, size: int, patch: int, window: SlidingWindow, axis: int = 0) -> Axis:
        """Windows that cover `size` voxels of the canonical axis `axis`, as `window` asks."""
        padded, turned = max(size, patch), window.turned(axis)
        before = (padded - size + turned) // 2
        starts = window.starts(padded, patch)
        if turned:
            starts = [padded - patch - start for start in reversed(starts)]
        offsets = np.arange(patch) - window.centre(axis, patch)
        bell = np.exp(-0.5 * (offsets / (SIGMA * patch)) ** 2)
        total = np.zeros(padded)
        for start in starts:
            total[start : start + patch] += bell
        weights = np.stack([bell / total[start : start + patch] for start in starts])
        return cls(
            size,
            patch,
            tuple(start - before for start in starts),
            torch.from_numpy(weights.astype(np.float32)),
        )

    def touching(self, interval: Interval) -> range:
        """Indices of the windows that share a voxel with `interval`."""
        low, high = interval
        found = [i for i, s in enumerate(self.starts) if s < high and low < s + self.patch]
        return range(found[0], found[-1] + 1) if found else range(0)

    def final(self, index: int) -> int:
        """Voxels below this one are complete once all windows up to `index` were added."""
        return self.starts[index + 1] if index + 1 < len(self.starts) else self.size


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows over a volume ``(Z, Y, X)``: the product of its axes."""

    z: Axis
    y: Axis
    x: Axis

    @classmethod
    def of(
        cls, shape: tuple[int, int, int], patch: tuple[int, int, int], window: SlidingWindow
    ) -> Grid:
        """The grid over a volume of `shape`."""
        z, y, x = (Axis.of(shape[axis], patch[axis], window, axis) for axis in range(3))
        return cls(z, y, x)

    def row(self, index: int, y: Interval, x: Interval) -> list[tuple[int, int, int]]:
        """Windows of row `index` along z that touch a tile, in the order they are added."""
        return list(product((index,), self.y.touching(y), self.x.touching(x)))

    def corner(self, window: tuple[int, int, int]) -> tuple[int, int, int]:
        """First voxel of a window."""
        z, y, x = window
        return self.z.starts[z], self.y.starts[y], self.x.starts[x]

    def cut(self, image: NDArray[Any], window: tuple[int, int, int], air: float) -> Tensor:
        """The window's voxels of `image`, padded with `air`; float32 in memory of its own."""
        corner = self.corner(window)
        patch = (self.z.patch, self.y.patch, self.x.patch)
        out = torch.full(patch, air, dtype=torch.float32)
        inside, outside = [], []
        for start, length, size in zip(corner, patch, image.shape, strict=True):
            low, high = max(start, 0), min(start + length, size)
            inside.append(slice(low, high))
            outside.append(slice(low - start, high - start))
        out.numpy()[tuple(outside)] = image[tuple(inside)]
        return out
