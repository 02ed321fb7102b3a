"""Small round lesions, drawn within organs; the labels do not know of them."""

from __future__ import annotations

import numpy as np

from clnet.anatomy.phantom.canvas import Canvas, Mask, Window

__all__ = ["paint_lesions"]


def paint_lesions(
    canvas: Canvas,
    window: Window,
    inside: Mask,
    part: str,
    most: int,
    box: tuple[list[float], list[float]],
) -> None:
    """Up to `most` round lesions in a mask, centred in a box (x, y, z); labels stay."""
    draw = canvas.person.generator(f"{part}-lesions")
    points = canvas.at(window)
    tissue, low, high = ("nodule", 4.5, 9.0) if part == "lung" else ("lesion", 6.0, 15.0)
    for _ in range(int(draw.integers(0, most + 1))):
        at, radius = draw.uniform(*box), draw.uniform(low, high)
        near = sum((p - np.float32(c)) ** 2 for p, c in zip(points, at, strict=True))
        canvas.paint(window, inside & (near < radius**2), tissue, None)
