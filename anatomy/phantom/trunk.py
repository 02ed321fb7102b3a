"""Painting the envelope of the body, the lungs and the bowel that nothing labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clnet.anatomy.phantom.canvas import Canvas, Window
from clnet.anatomy.phantom.lesions import paint_lesions
from clnet.anatomy.phantom.plan import Part
from clnet.anatomy.phantom.shapes import Floats, Tube
from clnet.anatomy.phantom.texture import smooth_field

__all__ = ["PROCEDURES"]


def _dome(canvas: Canvas, window: Window) -> Floats:
    """Height of the diaphragm above every point."""
    x, y, _ = canvas.at(window)
    draw = canvas.person.generator("diaphragm")
    top, right = 466 + draw.uniform(-12, 12), 10 + draw.uniform(-6, 6)
    off = np.sqrt((x / 128) ** 2 + ((y + 2) / 95) ** 2)
    side = np.where(x < 0, right, 0) * np.clip(np.abs(x) / 40, 0, 1)
    return np.asarray(top + side - 14 * np.exp(-((x / 30) ** 2)) - 66 * off**3, dtype=np.float32)


def paint_envelope(canvas: Canvas, part: Part) -> None:
    """Skin, fat, the muscle wall and the fat within."""
    window = canvas.everything()
    depth = canvas.plan.sections["frame"].depth(canvas.points)
    z = canvas.points[2]
    belly = 1 + 0.6 * np.exp(-(((z - 230) / 130) ** 2)) - 0.75 / (1 + np.exp(-(z - 660) / 12))
    fat = np.float32(canvas.person.fat) * belly
    np.copyto(canvas.body, (depth > -fat) & (z > -60))
    draw = canvas.person.generator("streaks")
    streak = smooth_field(draw, canvas.axes, canvas.person.extents(), 26.0)
    canvas.paint(window, canvas.body, "fat", part.anatomies[0])
    canvas.paint(window, canvas.body & (depth < 3.5 - fat), "skin", None)
    canvas.paint(window, canvas.body & (depth > 0), "muscle", None)
    canvas.paint(window, canvas.body & (depth > 9) & (streak > 1.1), "fat", None)
    cage = canvas.plan.sections["cage"].depth(canvas.points)
    dome = _dome(canvas, window)
    inside = (cage > 1.5) & (z > 330) & canvas.body
    canvas.cavity["thorax"] = inside & (z > dome)
    abdomen = canvas.plan.sections["peritoneum"].depth(canvas.points) > 0
    high = np.clip((z - 330) / 50, 0, 1)
    abdomen &= (cage > 1.5) | (high < 0.5)
    canvas.cavity["abdomen"] = abdomen & (z < dome - 3) & (z > 50) & canvas.body
    canvas.paint(window, canvas.cavity["thorax"], "fat", None)
    canvas.paint(window, canvas.cavity["abdomen"], "fat", None)


def paint_lungs(canvas: Canvas, part: Part) -> None:
    """Five lobes, divided by fissures that are faintly visible, and their vessels."""
    window = canvas.slab(360, 672)
    if window is None:
        return
    x, y, z = canvas.at(window)
    draw = canvas.person.generator("lungs")
    half = 13 + 15 * np.exp(-(((y - 18) / 34) ** 2)) + 6 * np.clip((z - 600) / 50, 0, 1)
    inside = canvas.cavity["thorax"][window] & (np.abs(x) > half + draw.uniform(-2, 3))
    axes = tuple(axis[part_] for axis, part_ in zip(canvas.axes, window, strict=True))
    first, second, third = (
        smooth_field(draw, axes, canvas.person.extents(), step) for step in (24.0, 24.0, 11.0)
    )
    vessel = first**2 + second**2 < 0.035
    fine = third > 2.1
    canvas.paint(window, inside, "lung", None)
    for side, sign, slope in (("left", 1, 1.0), ("right", -1, 0.95)):
        here = inside & (sign * x > 0)
        level = 508 + draw.uniform(-13, 13)
        slope = slope * (1 + draw.uniform(-0.12, 0.12))
        curve = 6 * np.sin(x / 40 + draw.uniform(0, 6))
        oblique = (z - level - slope * y - curve) / np.sqrt(1 + slope**2)
        fissure = np.abs(oblique) < 2.6
        upper = here & (oblique > 0)
        canvas.paint(window, here, None, f"lung_lower_lobe_{side}")
        canvas.paint(window, upper, None, f"lung_upper_lobe_{side}")
        if side == "right":
            across = z - (level + 14 + draw.uniform(-8, 8)) + 0.12 * y + 0.5 * curve
            canvas.paint(window, upper & (across < 0), None, "lung_middle_lobe_right")
            fissure = fissure | ((np.abs(across) < 2.6) & (oblique > 0))
        canvas.paint(window, here & fissure, "fissure", None)
        canvas.paint(window, here & (vessel | fine) & ~fissure, "lung_vessel", None)
    paint_lesions(canvas, window, inside, "lung", 6, ([-110, -75, 420], [110, 80, 630]))


def paint_bowel(canvas: Canvas, part: Part) -> None:
    """Unlabelled loops: a colon with faeces and gas, small bowel around it."""
    window = canvas.slab(90, 345)
    if window is None:
        return
    _, y, z = canvas.at(window)
    draw = canvas.person.generator("bowel")
    inside = canvas.cavity["abdomen"][window]
    axes = tuple(axis[part_] for axis, part_ in zip(canvas.axes, window, strict=True))
    extents = canvas.person.extents()
    loops, gas = (smooth_field(draw, axes, extents, step) for step in (22.0, 30.0))
    room = inside & (z < 325) & (z > 110) & (y < 34)
    canvas.paint(window, room & (np.abs(loops) < 0.55), "soft", None)
    canvas.paint(window, room & (np.abs(loops) < 0.28), "content", None)
    canvas.paint(window, room & (np.abs(loops) < 0.3) & (gas - y / 60 > 1.6), "gas", None)
    dx, dz = draw.uniform(-10, 10, 2)
    colon = np.array(
        [
            [-78, 2, 165, 20],
            [-98, 8, 230, 20],
            [-98, 2, 300, 18],
            [-50, -58, 298 + dz, 17],
            [20, -70, 288 + dz, 17],
            [80, -30, 322, 17],
            [102, 18, 310, 16],
            [100 + dx / 2, 14, 230, 16],
            [82, 0, 160, 15],
            [30, -14, 140, 15],
            [4, 34, 128, 15],
            [0, 42, 90, 16],
            [0, 46, 40, 14],
        ]
    )
    found = canvas.distance((Tube(colon, np.ones(3)),))
    if found is None:
        return
    window, distance = found
    axes = tuple(axis[part_] for axis, part_ in zip(canvas.axes, window, strict=True))
    bubbles = smooth_field(canvas.person.generator("faeces"), axes, extents, 28.0)
    canvas.paint(window, distance < 0, "soft", None)
    canvas.paint(window, distance < -4, "faeces", None)
    canvas.paint(window, (distance < -4) & (bubbles - canvas.at(window)[1] / 50 > 0.9), "gas", None)


PROCEDURES: dict[str, Callable[[Canvas, Part], None]] = {
    "envelope": paint_envelope,
    "lungs": paint_lungs,
    "bowel": paint_bowel,
}
