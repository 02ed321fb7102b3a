"""The weighted sum of one decoder's windows, on the slices that are in work."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from clnet.model.grid import Grid, Interval

__all__ = ["Accumulator"]


class Accumulator:
    """A ring of planes that follows the windows along z.

    The order of sums at a voxel is that of the global grid, and product and sum are rounded
    one after the other; so the bits do not depend on the tile, its planes or its neighbours.

    Args:
        channels: what is summed: logits, or the last features before them.
        z: slices to sum, first and one past the last.
        y, x: rows and columns to sum.
        depth: slices that are held at once.
        device: where the sums are.
    """

    def __init__(
        self,
        channels: int,
        z: Interval,
        y: Interval,
        x: Interval,
        depth: int,
        device: torch.device,
    ) -> None:
        self.z, self.y, self.x = z, y, x
        self._low = z[0]
        self._depth = min(depth, z[1] - z[0])
        shape = (channels, self._depth, y[1] - y[0], x[1] - x[0])
        self._sums = torch.zeros(shape, device=device)

    def add(self, grid: Grid, window: tuple[int, int, int], output: Tensor, share: float) -> None:
        """Add what a window gave, ``(channels, Z, Y, X)``, times its weight and `share`."""
        z0, y0, x0 = grid.corner(window)
        z = _common((z0, z0 + grid.z.patch), (self._low, self.z[1]))
        y = _common((y0, y0 + grid.y.patch), self.y)
        x = _common((x0, x0 + grid.x.patch), self.x)
        if z is None or y is None or x is None:
            return
        wy = grid.y.weights[window[1], y[0] - y0 : y[1] - y0]
        wx = grid.x.weights[window[2], x[0] - x0 : x[1] - x0]
        plane = (wy[:, None] * wx * share).to(output.device)
        weights = grid.z.weights[window[0]].to(output.device)
        to_y = slice(y[0] - self.y[0], y[1] - self.y[0])
        to_x = slice(x[0] - self.x[0], x[1] - self.x[0])
        part = output[:, :, y[0] - y0 : y[1] - y0, x[0] - x0 : x[1] - x0]
        for first, at, count in self._runs(z):
            weight = weights[first - z0 : first - z0 + count, None, None] * plane
            for channel, values in enumerate(part):
                found = values[first - z0 : first - z0 + count].float() * weight
                target = self._sums[channel, at : at + count, to_y, to_x]
                target += found.to(self._sums.device)

    def read(self, z: Interval, y: Interval, x: Interval) -> Tensor:
        """A copy ``(channels, z, y, x)`` of sums, contiguous."""
        rows = slice(y[0] - self.y[0], y[1] - self.y[0])
        columns = slice(x[0] - self.x[0], x[1] - self.x[0])
        out = self._sums.new_empty((len(self._sums), z[1] - z[0], y[1] - y[0], x[1] - x[0]))
        for first, at, count in self._runs(z):
            part = self._sums[:, at : at + count, rows, columns]
            out[:, first - z[0] : first - z[0] + count] = part
        return out

    def release(self, low: int) -> None:
        """Forget the slices below `low`; their planes are used again."""
        low = min(max(low, self._low), self.z[1])
        done = min(low, self._low + self._depth)
        for _, at, count in self._runs((self._low, done)):
            self._sums[:, at : at + count] = 0
        self._low = low

    def _runs(self, z: Interval) -> Iterator[tuple[int, int, int]]:
        """Slices `z` as runs of planes: first slice, first plane, count."""
        first, last = z
        while first < last:
            at = (first - self.z[0]) % self._depth
            count = min(last - first, self._depth - at)
            yield first, at, count
            first += count


def _common(a: Interval, b: Interval) -> Interval | None:
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low < high else None
