"""A small picture of a case: its middle slices with the labels drawn on them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.case import CaseContent

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["thumbnail"]

SIZE = 160
WINDOW = (-160.0, 240.0)
"""Soft tissue, in HU."""

_COLOURS = np.array(
    [
        *((230, 80, 70), (90, 200, 90), (80, 140, 250), (240, 200, 60)),
        *((200, 100, 220), (80, 210, 210), (245, 150, 60), (170, 200, 120)),
    ],
    np.float32,
)


def thumbnail(content: CaseContent) -> bytes:
    """Axial and coronal slice through the middle of the labels, as PNG.

    Shown as radiologists look: the patient's right on the left, front and head up.
    """
    from PIL import Image

    z, y = _middle(content)
    axial = _painted(content, (z, slice(None), slice(None)))
    coronal = _painted(content, (slice(None, None, -1), y, slice(None)))
    spacing_z, spacing_y, spacing_x = content.spacing
    parts = [
        _scaled(axial, spacing_y, spacing_x),
        _scaled(coronal, spacing_z, spacing_x),
    ]
    picture = Image.new("RGB", (sum(p.width for p in parts) + 4, max(p.height for p in parts)))
    left = 0
    for part in parts:
        picture.paste(part, (left, 0))
        left += part.width + 4
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=4)  # 2 % larger than at best, in a third of the time
    return data.getvalue()


def _middle(content: CaseContent) -> tuple[int, int]:
    """Slice and row in the middle of what is labelled, else of the scan."""
    step = tuple(slice(None, None, max(1, n // 96)) for n in content.ct.shape)
    rows = [np.argwhere(grid[step])[:, :2] for grid in content.labels.values()]
    found = np.concatenate(rows) if rows else np.empty((0, 2), np.intp)
    if not len(found):
        return content.ct.shape[0] // 2, content.ct.shape[1] // 2
    middle = np.median(found, axis=0)
    return int(middle[0]) * (step[0].step or 1), int(middle[1]) * (step[1].step or 1)


def _painted(content: CaseContent, where: tuple[int | slice, ...]) -> NDArray[np.uint8]:
    low, high = WINDOW
    grey = np.clip((content.ct[where].astype(np.float32) - low) / (high - low), 0, 1) * 255
    picture = np.repeat(grey[..., None], 3, axis=-1)
    for grid in content.labels.values():
        codes = grid[where]
        drawn = codes > 0
        colour = _COLOURS[(codes[drawn].astype(np.intp) - 1) % len(_COLOURS)]
        picture[drawn] = 0.6 * picture[drawn] + 0.4 * colour
    return picture.astype(np.uint8)


def _scaled(picture: NDArray[np.uint8], row_mm: float, column_mm: float) -> Image.Image:
    from PIL import Image

    height, width = picture.shape[0] * row_mm, picture.shape[1] * column_mm
    scale = SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(picture).resize(size)
