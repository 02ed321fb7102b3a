"""Painting organs, vessels and muscles from their shapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clnet.anatomy.phantom.canvas import Canvas, Window
from clnet.anatomy.phantom.lesions import paint_lesions
from clnet.anatomy.phantom.plan import Part
from clnet.anatomy.phantom.shapes import Floats

__all__ = ["PROCEDURES", "paint_solid"]


def _found(canvas: Canvas, part: Part) -> tuple[Window, Floats] | None:
    """Window and distance of a part's shapes, kept within its cavity."""
    found = canvas.distance(canvas.person.shapes(part))
    if found is None:
        return None
    window, distance = found
    keep = canvas.body if part.within is None else canvas.cavity[part.within]
    distance[~keep[window]] = 99
    return window, distance


def paint_solid(canvas: Canvas, part: Part) -> None:
    """One tissue throughout, with lesions in the liver."""
    found = _found(canvas, part)
    if found is None:
        return
    window, distance = found
    canvas.paint(window, distance < 0, part.tissue, part.anatomies[0])
    if part.id == "liver":
        paint_lesions(canvas, window, distance < -3, "liver", 5, ([-125, -60, 340], [-20, 60, 460]))


def paint_muscle(canvas: Canvas, part: Part) -> None:
    """A muscle within its fascia: a thin layer of fat where it borders on other muscle."""
    found = _found(canvas, part)
    if found is None:
        return
    window, distance = found
    others = canvas.tissue[window] == canvas.tissues.index("muscle")
    unlabelled = canvas.anatomy[window] == canvas.anatomies.index("body")
    canvas.paint(window, (distance < 3.2) & others & unlabelled, "fascia", None)
    canvas.paint(window, distance < 0, part.tissue, part.anatomies[0])


def paint_stomach(canvas: Canvas, part: Part) -> None:
    """A wall around contents, gas in front."""
    found = _found(canvas, part)
    if found is None:
        return
    window, distance = found
    canvas.paint(window, distance < 0, part.tissue, "stomach")
    canvas.paint(window, distance < -6, "content", None)
    draw = canvas.person.generator("stomach-gas")
    level = np.float32(draw.uniform(-75, -20))
    canvas.paint(window, (distance < -6) & (canvas.at(window)[1] < level), "gas", None)


def paint_kidney(canvas: Canvas, part: Part) -> None:
    """Parenchyma around the fat of the sinus, open to the middle, with a cyst at times."""
    found = _found(canvas, part)
    if found is None:
        return
    window, distance = found
    x, y, z = canvas.at(window)
    shape = canvas.person.shapes(part)[0]
    centre = shape.centre()
    sign = 1 if part.id.endswith("left") else -1
    canvas.paint(window, distance < 0, part.tissue, part.anatomies[0])
    sinus = ((sign * (x - centre[0]) + 12) / 13) ** 2 + ((y - centre[1] + 5) / 9) ** 2
    sinus = sinus + ((z - centre[2]) / 22) ** 2
    canvas.paint(window, (distance < 0) & (sinus < 1), "renal_sinus", None)
    draw = canvas.person.generator(f"{part.id}-cyst")
    if draw.uniform() < 0.4:
        at = centre + draw.uniform(-1, 1, 3) * np.array([10, 10, 35])
        near = (x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2
        canvas.paint(window, (distance < 0) & (near < draw.uniform(6, 13) ** 2), "cyst", None)


def paint_bladder(canvas: Canvas, part: Part) -> None:
    """Urine within a thin unlabelled wall."""
    found = _found(canvas, part)
    if found is not None:
        canvas.paint(found[0], found[1] < 0, "muscle", part.anatomies[0])
        canvas.paint(found[0], found[1] < -3, "urine", None)


def paint_hollow(canvas: Canvas, part: Part) -> None:
    """Esophagus (a bubble of gas at times) and trachea (gas within a thin wall)."""
    found = _found(canvas, part)
    if found is None:
        return
    window, distance = found
    if part.id == "trachea":
        canvas.paint(window, (distance < 2.5) & canvas.body[window], "soft", None)
        canvas.paint(window, distance < 0, part.tissue, part.anatomies[0])
        return
    canvas.paint(window, distance < 0, part.tissue, part.anatomies[0])
    draw = canvas.person.generator("esophagus-gas")
    level = draw.uniform(450, 680)
    near = np.abs(canvas.at(window)[2] - level) < 14
    canvas.paint(window, (distance < -6) & near, "gas", None)


PROCEDURES: dict[str, Callable[[Canvas, Part], None]] = {
    "muscle": paint_muscle,
    "stomach": paint_stomach,
    "kidney": paint_kidney,
    "bladder": paint_bladder,
    "esophagus": paint_hollow,
    "trachea": paint_hollow,
}
