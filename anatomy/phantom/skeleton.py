"""Painting bones, with a cortical shell around marrow, the spine and the head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clnet.anatomy.phantom.canvas import Canvas
from clnet.anatomy.phantom.plan import Part

__all__ = ["PROCEDURES"]

_CORTEX = 3.0


def paint_bone(canvas: Canvas, part: Part) -> None:
    """A cortical shell around marrow."""
    found = canvas.distance(canvas.person.shapes(part))
    if found is None:
        return
    window, distance = found
    distance[~canvas.body[window]] = 99
    canvas.paint(window, distance < 0, "cortex", part.anatomies[0])
    canvas.paint(window, distance < -_CORTEX, "marrow", None)


def paint_skull(canvas: Canvas, part: Part) -> None:
    """Vault and face with orbits and nasal cavity."""
    paint_bone(canvas, part)
    window = canvas.slab(735, 830)
    if window is None:
        return
    x, y, z = canvas.at(window)
    bone = canvas.anatomy[window] == canvas.anatomies.index("skull")
    orbit = ((np.abs(x) - 32) / 18) ** 2 + ((y + 82) / 24) ** 2 + ((z - 801) / 18) ** 2 < 1
    canvas.paint(window, bone & orbit, "fat")
    nose = (x / 14) ** 2 + ((y + 68) / 24) ** 2 + ((z - 776) / 22) ** 2 < 1
    canvas.paint(window, bone & nose, "gas", None)
    throat = (x / 11) ** 2 + ((y + 32) / 10) ** 2 < 1
    canvas.paint(window, throat & (z < 762) & (z > 700) & canvas.body[window], "gas")


def paint_brain(canvas: Canvas, part: Part) -> None:
    """Brain with ventricles, CSF under the vault."""
    found = canvas.distance(canvas.person.shapes(part))
    if found is None:
        return
    window, distance = found
    x, y, z = canvas.at(window)
    distance[~canvas.body[window]] = 99
    canvas.paint(window, distance < 0, "brain", "brain")
    draw = canvas.person.generator("ventricles")
    size = draw.uniform(0.8, 1.3)
    ventricle = ((np.abs(x) - 11) / 8) ** 2 + ((y + 3) / 30) ** 2 + ((z - 832) / 11) ** 2
    canvas.paint(window, ventricle < size**2, "csf", None)


def paint_ribs(canvas: Canvas, part: Part) -> None:
    """Twelve pairs that slope downwards to the front, cartilage between them and the sternum."""
    window = canvas.slab(330, 672)
    if window is None:
        return
    points = canvas.at(window)
    x, y, z = points
    cage = canvas.plan.sections["cage"]
    depth = cage.depth(points)
    width, deep, centre = cage.at(z)
    angle = np.arctan2(np.abs(x) / width, (y - centre) / deep)
    draw = canvas.person.generator("ribs")
    drop = np.float32(draw.uniform(48, 62))
    level = z + drop * (1 - np.cos(angle)) / 2
    levels = canvas.person.levels()
    gap = (levels["thoracic"] - levels["lumbar"]) / 12
    first = levels["thoracic"] - 0.4 * gap
    number = np.clip(np.round((first - level) / gap), 0, 11)
    off = (level - (first - gap * number)) * 0.9
    radius = np.float32(7.0 * (1 + draw.uniform(-0.05, 0.08)))
    distance = np.sqrt((depth + 6.5) ** 2 + off**2) - radius
    ends = np.array([2.5] * 7 + [2.25, 2.1, 1.95, 1.5, 1.1], dtype=np.float32)
    end = ends[number.astype(np.int16)]
    distance[~canvas.body[window]] = 99
    rib = (distance < 0) & (angle < end)
    cartilage = (distance < 0) & (angle >= end) & (number < 10)
    canvas.paint(window, cartilage, "cartilage")
    for name, side in (("ribs_left", x > 0), ("ribs_right", x <= 0)):
        canvas.paint(window, rib & side, "cortex", name)
    canvas.paint(window, rib & (distance < -_CORTEX), "marrow", None)


def paint_spine(canvas: Canvas, part: Part) -> None:
    """Vertebrae from the sacrum to the skull with discs, arches and processes; the cord."""
    plan = canvas.plan
    levels = canvas.person.levels()
    top = levels["cervical"]
    window = canvas.window(np.array([-60, -30, 120]), np.array([60, 150, top + 20]))
    if window is None:
        return
    x, y, z = canvas.at(window)
    width, deep, centre = plan.spine.at(z)
    floor = levels["sacrum"] - 3 - 0.35 * (y - 50)
    body = np.sqrt((x / width) ** 2 + ((y - centre) / deep) ** 2)
    behind = y - (centre + deep + 7)
    canal = np.sqrt(x**2 + behind**2)
    bounds = [levels["sacrum"]]
    phase = np.zeros_like(z)
    regions = []
    for name in ("lumbar", "thoracic", "cervical"):
        low, high = bounds[-1], levels[name]
        here = (z >= low) & (z < high)
        count = plan.discs[name]
        phase[here] = ((z[here] - low) / (high - low) * count) % 1
        regions.append((name, (z >= low if name != "lumbar" else z > floor) & (z < high)))
        bounds.append(high)
    inside = (z > floor) & (z < bounds[-1]) & canvas.body[window]
    small = np.clip((bounds[2] - z) / 20, 0, 1)
    arch = (canal < 14) & (behind > -8)
    mid = np.abs(phase - 0.45) < 0.34
    spinous = (np.abs(x) < 5) & (behind > 0) & (behind < 18 + 17 * small) & mid
    reach = 20 + 17 * small
    transverse = (np.abs(behind + 1) < 6.5) & (np.abs(x) < reach) & (np.abs(phase - 0.5) < 0.3)
    bone = inside & ((body < 1) | arch | spinous | transverse)
    for name, region in regions:
        canvas.paint(window, bone & region, "cortex", f"vertebrae_{name}")
    core = (body < 1 - 3.0 / width) & (phase > 0.14) & (phase < 0.86)
    canvas.paint(window, inside & core, "marrow", None)
    canvas.paint(window, inside & (body < 1) & ((phase < 0.1) | (phase > 0.93)), "disc", None)
    cord = (canal < 7.8) & (z > 195) & (z < top + 8) & canvas.body[window]
    canvas.paint(window, cord, "csf", "spinal_cord")
    canvas.paint(window, cord & (canal < 6), "cord", None)


PROCEDURES: dict[str, Callable[[Canvas, Part], None]] = {
    "bone": paint_bone,
    "skull": paint_skull,
    "brain": paint_brain,
    "ribs": paint_ribs,
    "spine": paint_spine,
}
