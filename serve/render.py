"""The picture of a result: three planes with overlays, a legend, and what made it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from clnet.anatomy.vocabulary import LAYERS, vocabulary
from clnet.serve.planes import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    Plane,
    Volume,
    colour_of,
    draw_plane,
    telling_point,
)

__all__ = ["Caption", "render"]

DPI = 100
WIDTH = 1600
MARGIN = 44
GAP = 14
HEADER = 104
LINE = 27  # pixels of a legend row
TALL = 1.25  # scans longer than this many times their depth get the upright layout
UPRIGHT_HEIGHT = 960
COLUMN = 470
SCALE_BAR_MM = 50

BACKGROUND = "#0b0e14"
INK = "#e8ecf3"
MUTED = "#8a94a6"
WARNING = "#f5b945"


@dataclass(frozen=True, slots=True)
class Caption:
    """Words around the picture.

    Attributes:
        title: first line.
        subtitle: second line, smaller.
        notice: shown as a warning, for instance that the model learned from phantoms.
    """

    title: str = "CL-Net segmentation"
    subtitle: str = ""
    notice: str = ""


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle in pixels from the top left corner."""

    left: int
    top: int
    width: int
    height: int


def render(
    ct: NDArray[Any],
    affine: NDArray[Any],
    layers: Mapping[str, NDArray[Any]],
    names: Mapping[str, Mapping[int, str]],
    caption: Caption,
) -> bytes:
    """A PNG with an axial, a coronal and a sagittal plane, 1600 pixels wide.

    Patients are seen as radiologists do: their right is on the left, axial from the feet.
    All planes keep the scan's proportions in mm. CT window: soft tissue.

    Args:
        ct: HU in the scan's own axis order.
        affine: voxel indices to RAS+ mm.
        layers: label map per layer, same shape as `ct`.
        names: per layer, label value to canonical id.
        caption: title and notice.
    """
    volume = Volume.of(ct, affine, layers, names, LAYERS)
    sizes = volume.millilitres()
    upright = volume.size_mm(2) > TALL * volume.size_mm(1)
    boxes, legend, height = _upright(volume) if upright else _landscape(volume, len(sizes))
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    _header(figure, caption, height)
    point = telling_point(volume)
    for plane, box in boxes.items():
        _panel(figure, volume, plane, point, box, height)
    _legend(figure, sizes, legend, height)
    buffer = io.BytesIO()
    canvas.print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _upright(volume: Volume) -> tuple[dict[Plane, _Box], _Box, int]:
    """Coronal and sagittal side by side, axial above the legend in a column."""
    x, y, z = (volume.size_mm(axis) for axis in range(3))
    across = WIDTH - 2 * MARGIN - 2 * GAP
    scale = min(UPRIGHT_HEIGHT / z, (across - COLUMN) / (x + y))
    tall = round(z * scale)
    coronal = _Box(MARGIN, HEADER, round(x * scale), tall)
    sagittal = _Box(coronal.left + coronal.width + GAP, HEADER, round(y * scale), tall)
    left = sagittal.left + sagittal.width + GAP
    column = WIDTH - MARGIN - left
    axial_scale = min(column / x, 0.5 * tall / y)
    axial = _Box(left, HEADER, round(x * axial_scale), round(y * axial_scale))
    top = axial.top + axial.height + GAP
    legend = _Box(left, top, column, HEADER + tall - top)
    return {CORONAL: coronal, SAGITTAL: sagittal, AXIAL: axial}, legend, HEADER + tall + MARGIN


def _landscape(volume: Volume, entries: int) -> tuple[dict[Plane, _Box], _Box, int]:
    """Three planes at one scale in a row, the legend below."""
    x, y, z = (volume.size_mm(axis) for axis in range(3))
    scale = (WIDTH - 2 * MARGIN - 2 * GAP) / (2 * x + y)
    tall = round(max(y, z) * scale)
    boxes: dict[Plane, _Box] = {}
    left = MARGIN
    for plane in (AXIAL, CORONAL, SAGITTAL):
        width = round(volume.size_mm(plane.right) * scale)
        height = round(volume.size_mm(plane.down) * scale)
        boxes[plane] = _Box(left, HEADER + (tall - height) // 2, width, height)
        left += width + GAP
    rows = min(6, -(-max(entries, 1) // 5))
    legend = _Box(MARGIN, HEADER + tall + 2 * GAP, WIDTH - 2 * MARGIN, (rows + 1) * LINE)
    return boxes, legend, legend.top + legend.height + MARGIN // 2


def _header(figure: Figure, caption: Caption, height: int) -> None:
    def y(pixels: int) -> float:
        return 1 - pixels / height

    x = MARGIN / WIDTH
    figure.text(x, y(46), caption.title, color=INK, fontsize=19, weight="bold", va="center")
    figure.text(x, y(78), caption.subtitle, color=MUTED, fontsize=11.5, va="center")
    if caption.notice:
        figure.text(
            1 - MARGIN / WIDTH - 0.008,
            y(46),
            caption.notice,
            color=WARNING,
            fontsize=11.5,
            weight="bold",
            ha="right",
            va="center",
            bbox={
                "boxstyle": "round,pad=0.55",
                "facecolor": "#2b2210",
                "edgecolor": WARNING,
                "linewidth": 1,
            },
        )


def _panel(
    figure: Figure,
    volume: Volume,
    plane: Plane,
    point: tuple[int, int, int],
    box: _Box,
    height: int,
) -> None:
    axes = figure.add_axes(
        (
            box.left / WIDTH,
            1 - (box.top + box.height) / height,
            box.width / WIDTH,
            box.height / height,
        )
    )
    axes.set_axis_off()
    image = draw_plane(volume, plane, point[plane.normal], (box.width, box.height))
    # one image pixel per figure pixel, so that nothing is interpolated twice
    axes.imshow(
        image, extent=(0, box.width, box.height, 0), interpolation="nearest", vmin=0, vmax=1
    )
    axes.set_xlim(0, box.width)
    axes.set_ylim(box.height, 0)

    def place(axis: int, length: int) -> float:
        where: float = (point[axis] + 0.5) / volume.ct.shape[axis]
        return length * (1 - where if axis == 2 else where)

    line: dict[str, Any] = {"color": "#ffffff", "alpha": 0.28, "linewidth": 0.8, "dashes": (6, 6)}
    axes.axvline(place(plane.right, box.width), **line)
    axes.axhline(place(plane.down, box.height), **line)
    edge = [withStroke(linewidth=2.2, foreground="#000000", alpha=0.7)]  # readable on bone too
    small: dict[str, Any] = {"color": INK, "fontsize": 10, "path_effects": edge}
    left, right, top, bottom = plane.edges
    axes.text(8, box.height / 2, left, ha="left", va="center", **small)
    axes.text(box.width - 8, box.height / 2, right, ha="right", va="center", **small)
    axes.text(box.width / 2, 8, top, ha="center", va="top", **small)
    axes.text(box.width / 2, box.height - 8, bottom, ha="center", va="bottom", **small)
    title: dict[str, Any] = {**small, "fontsize": 11.5, "weight": "bold"}
    axes.text(10, 9, plane.name, ha="left", va="top", **title)
    bar = SCALE_BAR_MM * box.width / volume.size_mm(plane.right)
    if bar < 0.4 * box.width:
        end, base = box.width - 14, box.height - 14
        axes.plot([end - bar, end], [base, base], color=INK, linewidth=2.2, solid_capstyle="butt")
        axes.text(end - bar / 2, base - 6, "5 cm", ha="center", va="bottom", **small)


def _legend(figure: Figure, sizes: Mapping[str, float], box: _Box, height: int) -> None:
    axes = figure.add_axes(
        (
            box.left / WIDTH,
            1 - (box.top + box.height) / height,
            box.width / WIDTH,
            box.height / height,
        )
    )
    axes.set_axis_off()
    axes.set_xlim(0, box.width)
    axes.set_ylim(box.height, 0)
    columns = max(1, box.width // 296) if box.width > 2 * COLUMN else max(1, box.width // 235)
    rows = max(1, box.height // LINE - 1)
    shown = list(sizes.items())[: rows * columns]
    left_out = len(sizes) - len(shown)
    more = f", the {len(shown)} largest" if left_out else ""
    head = f"{len(sizes)} anatomies{more}" if sizes else "nothing was found"
    axes.text(0, LINE / 2, head, color=MUTED, fontsize=10.5, va="center")
    used = -(-len(shown) // columns)
    for i, (anatomy, millilitres) in enumerate(shown):
        x = (i // used) * box.width / columns
        y = (i % used + 1.5) * LINE
        axes.add_patch(
            FancyBboxPatch((x, y - 7), 14, 14, boxstyle="square,pad=0", color=colour_of(anatomy))
        )
        name = vocabulary()[anatomy].name if anatomy in vocabulary() else anatomy
        name = name if len(name) <= 23 else name[:22] + "…"
        axes.text(x + 24, y, name, color=INK, fontsize=10.5, va="center")
        end = x + box.width / columns - 22
        axes.text(end, y, _amount(millilitres), color=MUTED, fontsize=9.5, ha="right", va="center")


def _amount(millilitres: float) -> str:
    if millilitres >= 1000:
        return f"{millilitres / 1000:.1f} l"
    return f"{millilitres:.0f} ml" if millilitres >= 10 else f"{millilitres:.1f} ml"
