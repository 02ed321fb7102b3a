"""Rendering: from a seed to Hounsfield units and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from clnet.anatomy.phantom import organs, skeleton, trunk
from clnet.anatomy.phantom.canvas import Canvas
from clnet.anatomy.phantom.person import PHASES, Person, field_of_view_extent
from clnet.anatomy.phantom.plan import body_plan
from clnet.anatomy.phantom.shapes import Vector
from clnet.anatomy.phantom.texture import smooth_field, white_noise
from clnet.errors import InputError

__all__ = ["Phantom", "render"]

_PROCEDURES = trunk.PROCEDURES | organs.PROCEDURES | skeleton.PROCEDURES


@dataclass(frozen=True, eq=False)
class Phantom:
    """A rendered scan in canonical orientation: axes (Z, Y, X), +z Superior, +y Posterior, +x Left.

    Attributes:
        ct: int16 Hounsfield units (Z, Y, X).
        labels: per layer, uint8 (Z, Y, X); 0 is background.
        names: per layer, the canonical anatomy of each number; the same for every seed.
        affine: 4 x 4, voxel indices (x, y, z) to RAS mm.
        spacing: mm along z, y, x.
        height: (Z,) true body height of every slice, 0 at the pelvis' bottom, 1 at the vertex.
        phase: contrast phase, `none`, `arterial` or `venous`.
        seed: what it was rendered from.
    """

    ct: NDArray[np.int16]
    labels: dict[str, NDArray[np.uint8]]
    names: dict[str, dict[int, str]]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    height: NDArray[np.float64]
    phase: str
    seed: int

    def mask(self, anatomy: str) -> NDArray[np.bool_]:
        """Where one anatomy is, (Z, Y, X).

        Raises:
            InputError: the phantom has no such anatomy.
        """
        for layer, names in self.names.items():
            for number, name in names.items():
                if name == anatomy:
                    return np.asarray(self.labels[layer] == number, dtype=np.bool_)
        raise InputError(f"{anatomy!r} is no anatomy of the phantom: see PHANTOM_ANATOMIES")


def _heights(person: Person, z: Vector) -> Vector:
    """True body height of the positions `z` in mm: linear from pelvis to vertex."""
    probe = np.arange(-100.0, person.plan.height * person.scale[2] + 101.0, 2.0)
    along = person.coordinates((probe, person.shift[1:], person.shift[:1]))[2][:, 0, 0]
    bottom, top = np.interp([0.0, person.plan.height], along, probe)
    return np.asarray((z - bottom) / (top - bottom), dtype=np.float64)


def _grid(
    person: Person, spacing: tuple[float, float, float], extent: tuple[float, float]
) -> tuple[Vector, Vector, Vector]:
    """Positions in mm of the voxels along z, y and x."""
    probe = np.arange(-200.0, person.plan.height * person.scale[2] + 201.0)
    low, high = np.interp(extent, _heights(person, probe), probe)
    z = np.arange(max(1, round((high - low) / spacing[0]))) * spacing[0] + low
    in_plane: list[Vector] = [
        (np.arange(round(size / step), dtype=np.float64) + 0.5) * step - size / 2
        for size, step in zip(person.plan.field, spacing[1:], strict=True)
    ]
    return np.asarray(z, dtype=np.float64), in_plane[0], in_plane[1]


def _hounsfield(canvas: Canvas) -> NDArray[np.int16]:
    person = canvas.person
    means, textures = np.array([person.hounsfield(t) for t in canvas.tissues], dtype="f4").T
    draw = person.generator("noise")
    texture = smooth_field(person.generator("texture"), canvas.axes, person.extents(), 14.0)
    hu = means[canvas.tissue] + textures[canvas.tissue] * texture
    hu = gaussian_filter(hu, person.blur, truncate=3)
    hu += np.float32(person.noise) * white_noise(draw, hu.shape, 0.45)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def _table(canvas: Canvas) -> None:
    """The patient's table below the back."""
    y = canvas.axes[1] - canvas.person.shift[1]
    rows = np.flatnonzero(
        (y > 132 * canvas.person.scale[1]) & (y < 132 * canvas.person.scale[1] + 12)
    )
    if len(rows):
        window = (slice(None), slice(int(rows[0]), int(rows[-1]) + 1), slice(8, -8))
        canvas.paint(window, ~canvas.body[window], "table")


def render(
    seed: int,
    *,
    spacing: tuple[float, float, float] = (6.0, 6.0, 6.0),
    field_of_view: str | tuple[float, float] | None = None,
) -> Phantom:
    """Render the phantom of a seed; the same seed is the same body at every spacing.

    Args:
        seed: not negative.
        spacing: mm along z, y, x.
        field_of_view: a name from the body plan (`whole`, `chest`, `abdomen`, ...), the body
            heights (low, high) between which to scan, or None to draw one.

    Raises:
        InputError: an unknown field of view, a negative seed or a spacing that is not positive.
    """
    if seed < 0 or min(spacing) <= 0:
        raise InputError(f"render({seed}, spacing={spacing}): seed >= 0 and spacing > 0, in mm")
    plan = body_plan()
    person = Person.from_seed(seed, plan)
    axes = _grid(person, spacing, field_of_view_extent(person, field_of_view))
    canvas = Canvas(person, axes)
    for part in plan.parts:
        _PROCEDURES.get(part.procedure or "", organs.paint_solid)(canvas, part)
    _table(canvas)
    names = plan.labels()
    labels = {}
    for layer, numbers in names.items():
        table = np.zeros(len(canvas.anatomies), dtype=np.uint8)
        for number, name in numbers.items():
            table[canvas.anatomies.index(name)] = number
        labels[layer] = table[canvas.anatomy]
    labels["body"] = canvas.body.astype(np.uint8)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = -axes[2][0], -axes[1][0], axes[0][0]
    return Phantom(
        ct=_hounsfield(canvas),
        labels=labels,
        names=names,
        affine=affine,
        spacing=spacing,
        height=_heights(person, axes[0]),
        phase=PHASES[person.phase],
        seed=seed,
    )
