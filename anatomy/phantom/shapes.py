"""Implicit shapes of the phantom: functions that are negative inside, in millimetres.

Points are (x, y, z) in the body's frame: x to the Left, y to the back, z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

__all__ = ["Ellipsoid", "Section", "Shape", "Tube", "Variation", "mirrored", "rotation"]

Floats = NDArray[np.float32]
Vector = NDArray[np.float64]
Coordinates = tuple[Floats, Floats, Floats]


def rotation(degrees: Vector) -> Vector:
    """3 x 3 rotation about x, then y, then z."""
    a, b, c = np.deg2rad(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, dtype=np.float64)


@dataclass(frozen=True)
class Variation:
    """How one anatomy of one person differs from the nominal one: grown, turned, shifted."""

    pivot: Vector
    scale: Vector
    turn: Vector
    shift: Vector

    def point(self, point: Vector) -> Vector:
        """Where a nominal point lies in this person."""
        moved = rotation(self.turn) @ (self.scale * (point - self.pivot))
        return np.asarray(moved + self.pivot + self.shift, dtype=np.float64)


@dataclass(frozen=True)
class Ellipsoid:
    """A turned superellipsoid; `power` 2 is an ellipsoid, more is boxier."""

    at: Vector
    radii: Vector
    axes: Vector
    power: float = 2.0

    def centre(self) -> Vector:
        """The middle of the shape."""
        return self.at

    def varied(self, by: Variation) -> Ellipsoid:
        """This shape in a person who differs by `by`."""
        return Ellipsoid(
            by.point(self.at), self.radii * by.scale, rotation(by.turn) @ self.axes, self.power
        )

    def bounds(self) -> tuple[Vector, Vector]:
        """Lowest and highest (x, y, z)."""
        reach = np.abs(self.axes) @ self.radii
        return self.at - reach, self.at + reach

    def distance(self, points: Coordinates) -> Floats:
        """Roughly the distance to the surface, negative inside."""
        total = np.zeros(points[0].shape, dtype=np.float32)
        moved = [p - np.float32(c) for p, c in zip(points, self.at, strict=True)]
        for axis, radius in zip(self.axes.T, self.radii, strict=True):
            along = sum(m * np.float32(a / radius) for m, a in zip(moved, axis, strict=True))
            total += np.abs(along) ** np.float32(self.power)
        norm = total ** np.float32(1 / self.power)
        return np.asarray((norm - 1) * np.float32(self.radii.min()), dtype=np.float32)


@dataclass(frozen=True)
class Tube:
    """A tube of changing radius along a smooth curve; `stretch` flattens its cross-section."""

    through: Vector
    """(n, 4): x, y, z, radius."""
    stretch: Vector

    def centre(self) -> Vector:
        """Mean of the points of the curve."""
        return np.asarray(self.through[:, :3].mean(axis=0), dtype=np.float64)

    def varied(self, by: Variation) -> Tube:
        """This shape in a person who differs by `by`."""
        moved = np.array([[*by.point(row[:3]), row[3] * by.scale.mean()] for row in self.through])
        return Tube(moved, self.stretch)

    def _curve(self) -> Vector:
        if len(self.through) == 2:
            return self.through
        steps = np.linalg.norm(np.diff(self.through[:, :3], axis=0), axis=1)
        knots = np.concatenate([[0.0], np.cumsum(steps)])
        count = max(2, round(float(knots[-1]) / 28.0)) + 1
        at = np.linspace(0, knots[-1], count)
        return np.asarray(PchipInterpolator(knots, self.through)(at), dtype=np.float64)

    def segments(self) -> list[Tube]:
        """The straight pieces that approximate the curve."""
        curve = self._curve()
        return [Tube(curve[i : i + 2], self.stretch) for i in range(len(curve) - 1)]

    def bounds(self) -> tuple[Vector, Vector]:
        """Lowest and highest (x, y, z)."""
        reach = self.through[:, 3:] * self.stretch
        points = self.through[:, :3]
        return (points - reach).min(axis=0), (points + reach).max(axis=0)

    def distance(self, points: Coordinates) -> Floats:
        """Distance to the surface of a straight piece, negative inside."""
        start, end = self.through[0, :3] / self.stretch, self.through[1, :3] / self.stretch
        way = end - start
        length = float(way @ way) + 1e-6
        moved = [
            p / np.float32(s) - np.float32(c)
            for p, s, c in zip(points, self.stretch, start, strict=True)
        ]
        along = sum(m * np.float32(w / length) for m, w in zip(moved, way, strict=True))
        t = np.clip(np.asarray(along, dtype=np.float32), 0, 1)
        squared = sum((m - t * np.float32(w)) ** 2 for m, w in zip(moved, way, strict=True))
        r0, r1 = np.float32(self.through[0, 3]), np.float32(self.through[1, 3])
        out = np.sqrt(np.asarray(squared, dtype=np.float32)) - (r0 + t * (r1 - r0))
        return np.asarray(out, dtype=np.float32)


Shape = Ellipsoid | Tube


def mirrored(shape: Shape) -> Shape:
    """The same shape on the other side of the body."""
    flip = np.array([-1.0, 1.0, 1.0])
    if isinstance(shape, Tube):
        return Tube(shape.through * np.array([-1.0, 1.0, 1.0, 1.0]), shape.stretch)
    return Ellipsoid(shape.at * flip, shape.radii, flip[:, None] * shape.axes, shape.power)


class Section:
    """A cross-section that changes with height: the envelope of the body, the rib cage."""

    def __init__(self, rows: Vector, power: float = 2.0) -> None:
        self.lowest, self.highest = float(rows[0, 0]), float(rows[-1, 0])
        heights = np.arange(self.lowest, self.highest + 1.0)
        smooth = PchipInterpolator(rows[:, 0], rows[:, 1:])(heights)
        self._table = np.asarray(smooth, dtype=np.float32)
        self._power = np.float32(power)

    def at(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        """Half width, half depth and centre y at heights `z`."""
        index = np.clip(z - self.lowest, 0, len(self._table) - 1).astype(np.int16)
        return self._table[:, 0][index], self._table[:, 1][index], self._table[:, 2][index]

    def depth(self, points: Coordinates) -> Floats:
        """Radial depth below the surface in mm; negative outside and above the top."""
        x, y, z = points
        width, depth, centre = self.at(z)
        off = y - centre
        if self._power == 2:
            norm = np.sqrt((x / width) ** 2 + (off / depth) ** 2)
        else:
            norm = (np.abs(x / width) ** self._power + np.abs(off / depth) ** self._power) ** (
                1 / self._power
            )
        radius = np.sqrt(x**2 + off**2)
        out = np.where(norm > 0.05, radius * (1 / np.maximum(norm, 0.05) - 1), depth)
        out[z > self.highest] = -99
        return np.asarray(out, dtype=np.float32)
