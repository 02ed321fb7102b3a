"""The figure of a whole catalog: what each dataset holds, and where along the body.

After figure 1 of arXiv 2503.12698.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from clnet.anatomy import PartOfBody, part_of_body
from clnet.platform.body_extents import BodyExtents

__all__ = ["GROUPS", "CatalogRow", "catalog_figure", "draw_catalog"]

GROUPS: dict[PartOfBody, str] = {
    "head_neck": "Head-neck",
    "chest": "Chest",
    "abdomen": "Abdomen",
    "whole_body": "Whole body",
}
COLOURS: dict[PartOfBody, str] = {
    "head_neck": "#7c3aed",
    "chest": "#0284c7",
    "abdomen": "#c2410c",
    "whole_body": "#4d7c0f",
}
ROW_INCHES, HEAD_INCHES, WIDTH_INCHES, DPI = 0.34, 1.3, 14.0, 110
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "color": "#64748b"}


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One dataset of the figure.

    Attributes:
        ref: of the dataset version.
        fingerprint: what it holds.
        extents: where along the body; None where no body-part model is at hand.
    """

    ref: str
    fingerprint: dict[str, Any]
    extents: BodyExtents | None

    @property
    def group(self) -> PartOfBody:
        """The part of the body that most of its anatomies lie in."""
        return part_of_body(self.fingerprint["anatomies"])


def draw_catalog(rows: Sequence[CatalogRow]) -> bytes:
    """:func:`catalog_figure` as PNG."""
    buffer = io.BytesIO()
    catalog_figure(rows).savefig(buffer, format="png")
    return buffer.getvalue()


@style.context("default")  # whatever the caller, or a library of theirs, has set
def catalog_figure(rows: Sequence[CatalogRow]) -> Figure:
    """Datasets are lines, by group and then by number of scans."""
    order = list(GROUPS)
    lines = sorted(
        rows, key=lambda row: (order.index(row.group), -row.fingerprint["cases"], row.ref)
    )
    figure = Figure(
        figsize=(WIDTH_INCHES, HEAD_INCHES + ROW_INCHES * len(lines)),
        dpi=DPI,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 5, sharey=True, squeeze=False, width_ratios=(1, 1, 1, 1, 2))[0]
    for y, row in enumerate(lines):
        _draw_row(panels, y, row)
    titles = ("CTs", "anatomies", "spacing, mm", "HU where labelled", "along the body")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    names = [f"{row.ref}  [{GROUPS[row.group]}]" for row in lines]
    panels[0].set_yticks(range(len(lines)), names, fontsize=8)
    panels[0].invert_yaxis()
    panels[0].set_xscale("log")
    panels[0].set_xlim(left=0.5)
    panels[4].set_xlim(-0.05, 1.05)
    panels[4].set_xticks((0, 0.5, 1), ("pelvis 0", "0.5", "1 head"))
    figure.supxlabel(
        "spacing: dot in-plane, diamond between slices, medians with their ranges; HU: mean and "
        "standard deviation; body: light scans, dark what is labelled",
        fontsize=8,
    )
    if all(row.extents is None for row in lines):
        why = "not measured: give a body-part model\n(--body-part-model starter)"
        panels[4].text(0.5, 0.5, why, transform=panels[4].transAxes, fontsize=8, **_CENTRED)
    return figure


def _draw_row(panels: Sequence[Axes], y: int, row: CatalogRow) -> None:
    colour, found = COLOURS[row.group], row.fingerprint
    panels[0].barh(y, found["cases"], color=colour, height=0.6)
    panels[0].annotate(str(found["cases"]), (found["cases"], y), fontsize=8, va="center")
    panels[1].barh(y, len(found["anatomies"]), color=colour, height=0.6)
    for axis, marker, shift in ((2, "o", 0.12), (0, "D", -0.12)):  # x in-plane, z
        low, middle, high = (found["spacing_zyx_mm"][k][axis] for k in ("min", "median", "max"))
        panels[2].hlines(y + shift, low, high, color=colour)
        panels[2].plot(middle, y + shift, marker, color=colour, markersize=4)
    if "mean" in found["foreground_hu"]:
        mean, std = found["foreground_hu"]["mean"], found["foreground_hu"]["std"]
        panels[3].hlines(y, mean - std, mean + std, color=colour)
        panels[3].plot(mean, y, "o", color=colour, markersize=4)
    if row.extents is None:
        return
    if not row.extents.scans:
        panels[4].text(0.5, y, "no scan that shows a body's course", fontsize=8, **_CENTRED)
    else:
        low, high = np.median(np.array(row.extents.scans), axis=0)
        panels[4].barh(y, high - low, left=low, color=colour, alpha=0.3, height=0.6)
    if row.extents.labelled is not None:
        low, high = row.extents.labelled
        panels[4].barh(y, high - low, left=low, color=colour, height=0.25)
