"""The nominal body as data: anatomies, tissues, cross-sections, fields of view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from clnet.anatomy.phantom.shapes import Ellipsoid, Section, Shape, Tube, mirrored, rotation

__all__ = ["BodyPlan", "Part", "body_plan"]

_LAYERS = ("body", "container", "organ", "vessel", "muscle", "bone")


@dataclass(frozen=True)
class Part:
    """One thing to paint: an anatomy, or several that one procedure paints."""

    id: str
    layer: str | None
    tissue: str
    procedure: str | None
    within: str | None
    vary: str
    shapes: tuple[Shape, ...]
    anatomies: tuple[str, ...]


@dataclass(frozen=True)
class BodyPlan:
    """The nominal body (millimetres)."""

    height: float
    field: tuple[float, float]
    tissues: dict[str, tuple[float, float, float, float]]
    fields_of_view: dict[str, tuple[float, float, float]]
    variation: dict[str, tuple[float, float, float]]
    sections: dict[str, Section]
    spine: Section
    levels: dict[str, float]
    discs: dict[str, int]
    parts: tuple[Part, ...]
    layer_of: dict[str, str]
    same_hu_pairs: tuple[tuple[str, str], ...]
    same_hu_pairs_unenhanced: tuple[tuple[str, str], ...]

    def labels(self) -> dict[str, dict[int, str]]:
        """Per layer, the fixed number of every anatomy, from 1."""
        return {
            layer: dict(enumerate((a for a, of in self.layer_of.items() if of == layer), 1))
            for layer in _LAYERS
        }


def _shape(entry: dict[str, Any]) -> Shape:
    if "through" in entry:
        stretch = np.array(entry.get("stretch", (1, 1, 1)), dtype=np.float64)
        return Tube(np.array(entry["through"], dtype=np.float64), stretch)
    axes = rotation(np.array(entry.get("turn", (0, 0, 0)), dtype=np.float64))
    at, radii = (np.array(entry[key], dtype=np.float64) for key in ("at", "radii"))
    return Ellipsoid(at, radii, axes, float(entry.get("power", 2.0)))


def _parts(entry: dict[str, Any]) -> list[Part]:
    shapes = tuple(_shape(shape) for shape in entry.get("shapes", ()))
    layer = entry.get("layer")

    def part(id: str, shapes: tuple[Shape, ...], anatomies: tuple[str, ...]) -> Part:
        return Part(
            id,
            layer,
            entry["tissue"],
            entry.get("procedure"),
            entry.get("within"),
            entry.get("vary", "none"),
            shapes,
            anatomies,
        )

    if entry.get("mirror"):
        name, anatomy = entry["id"], entry.get("paints", entry["id"])
        flipped = tuple(mirrored(shape) for shape in shapes)
        return [
            part(f"{name}_left", shapes, (f"{anatomy}_left",)),
            part(f"{name}_right", flipped, (f"{anatomy}_right",)),
        ]
    names = entry.get("parts", [entry["id"]] if layer else [])
    return [part(entry["id"], shapes, tuple(names))]


@cache
def body_plan() -> BodyPlan:
    """The nominal body that ships with the package."""
    text = (Path(__file__).parent / "body_plan.yaml").read_text(encoding="utf-8")
    raw = yaml.safe_load(text)
    parts = tuple(part for entry in raw["anatomies"] for part in _parts(entry))
    layer_of = {a: str(part.layer) for part in parts for a in part.anatomies}
    layer_of["spinal_cord"] = "organ"
    powers = {"frame": 2.4, "cage": 2.0, "peritoneum": 2.2}
    return BodyPlan(
        height=float(raw["height"]),
        field=(float(raw["field"][0]), float(raw["field"][1])),
        tissues={
            name: (float(none), float(arterial), float(venous), float(texture))
            for name, (none, arterial, venous, texture) in raw["tissues"].items()
        },
        fields_of_view={
            name: (float(row["weight"]), float(row["extent"][0]), float(row["extent"][1]))
            for name, row in raw["fields_of_view"].items()
        },
        variation={
            name: (float(row["size"]), float(row["shift"]), float(row["turn"]))
            for name, row in raw["variation"].items()
        },
        sections={
            name: Section(np.array(rows, dtype=np.float64), powers[name])
            for name, rows in raw["sections"].items()
        },
        spine=Section(np.array(raw["spine"], dtype=np.float64)[:, [0, 2, 3, 1]]),
        levels={name: float(z) for name, z in raw["levels"].items()},
        discs={name: int(n) for name, n in raw["discs"].items()},
        parts=parts,
        layer_of=layer_of,
        same_hu_pairs=tuple((str(a), str(b)) for a, b in raw["same_hu_pairs"]),
        same_hu_pairs_unenhanced=tuple(
            (str(a), str(b)) for a, b in raw["same_hu_pairs_unenhanced"]
        ),
    )
