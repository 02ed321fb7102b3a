"""One person drawn from a seed, and how that person lies in the scanner."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from clnet.anatomy.phantom.plan import BodyPlan, Part
from clnet.anatomy.phantom.shapes import Coordinates, Floats, Shape, Variation, Vector, rotation
from clnet.anatomy.phantom.texture import smooth_field
from clnet.errors import InputError

__all__ = ["PHASES", "Person", "field_of_view_extent"]

PHASES = ("none", "arterial", "venous")
_PAD = 140.0


@dataclass(frozen=True)
class Person:
    """Everything about one phantom that does not depend on the grid."""

    seed: int
    plan: BodyPlan
    scale: Vector
    """Width, depth and height against the nominal body."""
    turn: Vector
    bend: Vector
    shift: Vector
    """Where the body's axis lies in the field of view: x and y in mm."""
    fat: float
    phase: int
    enhancement: float
    oral_contrast: float
    """HU that a contrast drink adds to the contents of stomach and bowel; often 0."""
    noise: float
    blur: float

    @classmethod
    def from_seed(cls, seed: int, plan: BodyPlan) -> Person:
        """Draw a person."""
        draw = np.random.Generator(np.random.PCG64([seed, 1]))
        return cls(
            seed=seed,
            plan=plan,
            scale=np.array(
                [draw.uniform(0.88, 1.04), draw.uniform(0.86, 1.04), draw.uniform(0.94, 1.06)]
            ),
            turn=draw.uniform(-1, 1, 3) * np.array([4.0, 3.0, 15.0]),
            bend=draw.uniform(-1, 1, 4) * np.array([16.0, 9.0, np.pi, np.pi]),
            shift=draw.uniform(-1, 1, 2) * np.array([25.0, 8.0]),
            fat=float(draw.uniform(4, 28)),
            phase=int(draw.choice(3, p=[0.35, 0.25, 0.4])),
            enhancement=float(draw.uniform(0.7, 1.25)),
            oral_contrast=float(max(0.0, draw.uniform(-400, 300))),
            noise=float(draw.uniform(6, 20)),
            blur=float(draw.uniform(0.25, 0.45)),
        )

    def generator(self, name: str) -> np.random.Generator:
        """A generator of its own for everything called `name`: order does not matter."""
        return np.random.Generator(np.random.PCG64([self.seed, zlib.crc32(name.encode())]))

    def levels(self) -> dict[str, float]:
        """Upper end in mm of the sacrum and of each region of the spine."""
        draw = self.generator("levels")
        slack = {"sacrum": 0.0, "lumbar": 9.0, "thoracic": 9.0, "cervical": 4.0}
        return {
            name: z + float(draw.uniform(-slack[name], slack[name]))
            for name, z in self.plan.levels.items()
        }

    def shapes(self, part: Part) -> tuple[Shape, ...]:
        """The shapes of a part in this person."""
        size, shift, turn = self.plan.variation[part.vary]
        if not part.shapes or size == shift == turn == 0:
            return part.shapes
        draw = self.generator(part.id)
        pivot = np.mean([shape.centre() for shape in part.shapes], axis=0)
        common = draw.uniform(-size, size)
        by = Variation(
            pivot=pivot,
            scale=1 + common * 0.7 + draw.uniform(-size, size, 3) * 0.45,
            turn=draw.uniform(-turn, turn, 3),
            shift=draw.uniform(-shift, shift, 3) * 0.8,
        )
        return tuple(shape.varied(by) for shape in part.shapes)

    def hounsfield(self, tissue: str) -> tuple[float, float]:
        """Mean HU and its texture's standard deviation in this person's contrast phase."""
        row = self.plan.tissues[tissue]
        mean = row[0] + (row[self.phase] - row[0]) * self.enhancement
        return mean + (self.oral_contrast if tissue == "content" else 0.0), row[3]

    def coordinates(self, axes: tuple[Vector, Vector, Vector]) -> Coordinates:
        """Nominal body coordinates (x, y, z) of the grid with `axes` z, y, x in mm."""
        z, y, x = np.meshgrid(*(a.astype(np.float32) for a in axes), indexing="ij", sparse=True)
        middle = np.float32(self.plan.height * self.scale[2] / 2)
        turn = rotation(-self.turn).astype(np.float32) / self.scale[:, None].astype(np.float32)
        centred = (x - np.float32(self.shift[0]), y - np.float32(self.shift[1]), z - middle)
        out: list[Floats] = [
            np.float32(row[0]) * centred[0]
            + np.float32(row[1]) * centred[1]
            + np.float32(row[2]) * centred[2]
            for row in turn
        ]
        out[2] = out[2] + np.float32(self.plan.height / 2)
        wave = 2 * np.pi * axes[0] / 900.0
        out[0] = out[0] + (self.bend[0] * np.sin(wave + self.bend[2]))[:, None, None].astype("f4")
        out[1] = out[1] + (self.bend[1] * np.sin(wave + self.bend[3]))[:, None, None].astype("f4")
        extents = self.extents()
        for axis, name in enumerate("xyz"):
            draw = self.generator(f"warp-{name}")
            for step, amplitude in ((190.0, 15.0 if name != "z" else 21.0), (80.0, 3.0)):
                out[axis] = out[axis] + np.float32(amplitude) * smooth_field(
                    draw, axes, extents, step
                )
        return out[0], out[1], out[2]

    def extents(self) -> tuple[tuple[float, float], ...]:
        """Range in mm of z, y and x that random fields cover, whatever the grid."""
        high = self.plan.height * float(self.scale[2])
        half_y, half_x = (size / 2 for size in self.plan.field)
        return (
            (-_PAD, high + _PAD),
            (-half_y - _PAD, half_y + _PAD),
            (-half_x - _PAD, half_x + _PAD),
        )


def field_of_view_extent(
    person: Person, field_of_view: str | tuple[float, float] | None
) -> tuple[float, float]:
    """Body heights (0..1) between which the scan lies.

    Raises:
        InputError: the name is unknown, or the pair is not an interval.
    """
    known = person.plan.fields_of_view
    draw = person.generator("field-of-view")
    names = list(known)
    weights = np.array([known[name][0] for name in names])
    drawn = names[int(draw.choice(len(names), p=weights / weights.sum()))]
    if isinstance(field_of_view, tuple):
        low, high = field_of_view
        if not low < high:
            raise InputError(f"field_of_view: {field_of_view}: give (low, high), low < high")
        return float(low), float(high)
    name = field_of_view or drawn
    if name not in known:
        raise InputError(f"field_of_view: {name!r} is none of {', '.join(names)}")
    _, low, high = known[name]
    if name == "whole":
        return low, high
    slack = draw.uniform(-0.025, 0.025, 2)
    return max(-0.02, low + float(slack[0])), min(1.02, high + float(slack[1]))
