"""Fill closed contours on a slice: a pixel is inside if its centre is, by the even-odd rule."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["fill"]


def fill(contours: Iterable[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre an odd number of `contours` encloses.

    So a contour within another is a hole, and so is one joined to the outer contour by a
    keyhole, whose two edges cancel.

    Args:
        contours: closed polygons of ``(N, 2)`` points ``(x, y)`` in pixels; the centre of the
            first pixel is (0, 0).
        shape: ``(x, y)`` pixels.

    Returns:
        bool, ``shape``.
    """
    columns, rows = shape
    # where an edge crosses a row, all pixels to the right change sides
    flips = np.zeros((rows, columns + 1), np.int64)
    for contour in contours:
        start, end = contour, np.roll(contour, -1, axis=0)
        up = start[:, 1] <= end[:, 1]
        low, high = np.where(up[:, None], start, end), np.where(up[:, None], end, start)
        # rows with low <= row < high: a corner on a row counts once
        first = np.clip(np.ceil(low[:, 1]), 0, rows).astype(np.int64)
        last = np.clip(np.ceil(high[:, 1]), 0, rows).astype(np.int64)
        count = np.maximum(last - first, 0)
        edge = np.repeat(np.arange(len(contour)), count)
        within = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
        row = first[edge] + within
        # how far along the edge, 0 to 1: a slope could overflow
        along = (row - low[edge, 1]) / (high[edge, 1] - low[edge, 1])
        crossing = low[edge, 0] + along * (high[edge, 0] - low[edge, 0])
        column = np.clip(np.ceil(crossing), 0, columns).astype(np.int64)
        np.add.at(flips, (row, column), 1)
    inside: NDArray[np.bool_] = (np.cumsum(flips[:, :-1], axis=1) % 2).astype(bool).T
    return inside
