"""What a phantom is painted on: tissue and anatomy of every voxel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.phantom.person import Person
from clnet.anatomy.phantom.shapes import Coordinates, Floats, Shape, Tube, Vector

__all__ = ["Canvas", "Mask", "Window"]

Mask = NDArray[np.bool_]
Window = tuple[slice, slice, slice]
_FAR = np.float32(99)


class Canvas:
    """Tissue and anatomy maps, painted shape by shape; what comes later lies on top."""

    def __init__(self, person: Person, axes: tuple[Vector, Vector, Vector]) -> None:
        self.person = person
        self.plan = person.plan
        self.axes = axes
        self.points = person.coordinates(axes)
        self.tissues = tuple(self.plan.tissues)
        self.anatomies = ("", *self.plan.layer_of)
        shape = self.points[0].shape
        self.tissue = np.full(shape, self.tissues.index("air"), dtype=np.uint8)
        self.anatomy = np.zeros(shape, dtype=np.uint8)
        self.body = np.zeros(shape, dtype=np.bool_)
        self.cavity: dict[str, Mask] = {}
        self._lows, self._highs = self._axis_bounds()

    def _axis_bounds(self) -> tuple[list[Floats], list[Floats]]:
        """Per grid axis (z, y, x), the extremes of its body coordinate in every plane."""
        lows, highs = [], []
        for axis in range(3):
            others = tuple(i for i in range(3) if i != axis)
            values = self.points[2 - axis]
            lows.append(values.min(axis=others))
            highs.append(values.max(axis=others))
        return lows, highs

    def window(self, low: Vector, high: Vector) -> Window | None:
        """The part of the grid that can hold body points from `low` to `high` (x, y, z)."""
        out = []
        for axis in range(3):
            hit = np.flatnonzero(
                (self._highs[axis] >= low[2 - axis]) & (self._lows[axis] <= high[2 - axis])
            )
            if not len(hit):
                return None
            out.append(slice(int(hit[0]), int(hit[-1]) + 1))
        return out[0], out[1], out[2]

    def at(self, window: Window) -> Coordinates:
        """Body coordinates in a window."""
        return self.points[0][window], self.points[1][window], self.points[2][window]

    def distance(self, shapes: tuple[Shape, ...]) -> tuple[Window, Floats] | None:
        """Window and distance (negative inside) of the union of shapes."""
        pieces = [
            piece
            for shape in shapes
            for piece in (shape.segments() if isinstance(shape, Tube) else [shape])
        ]
        windows = [self.window(*piece.bounds()) for piece in pieces]
        seen = [(p, w) for p, w in zip(pieces, windows, strict=True) if w is not None]
        if not seen:
            return None
        whole = tuple(
            slice(min(w[i].start for _, w in seen), max(w[i].stop for _, w in seen))
            for i in range(3)
        )
        out = np.full([s.stop - s.start for s in whole], _FAR, dtype=np.float32)
        for piece, w in seen:
            inner = tuple(
                slice(a.start - b.start, a.stop - b.start) for a, b in zip(w, whole, strict=True)
            )
            out[inner] = np.minimum(out[inner], piece.distance(self.at(w)))
        return (whole[0], whole[1], whole[2]), out

    def paint(
        self, window: Window, where: Mask, tissue: str | None, anatomy: str | None = ""
    ) -> None:
        """Set tissue and anatomy; `None` keeps what is there, "" is no anatomy."""
        if tissue is not None:
            self.tissue[window][where] = self.tissues.index(tissue)
        if anatomy is not None:
            self.anatomy[window][where] = self.anatomies.index(anatomy)

    def everything(self) -> Window:
        """The window that is the whole grid."""
        return slice(None), slice(None), slice(None)

    def slab(self, low: float, high: float) -> Window | None:
        """The planes that can hold body heights from `low` to `high` mm."""
        wide = 1e4
        return self.window(np.array([-wide, -wide, low]), np.array([wide, wide, high]))
