"""Three orthogonal planes through a segmented scan, as colour images of a chosen size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clnet.anatomy.vocabulary import vocabulary

__all__ = [
    "AXIAL",
    "CORONAL",
    "SAGITTAL",
    "Plane",
    "Volume",
    "colour_of",
    "draw_plane",
    "telling_point",
]

SOFT_TISSUE_HU = (-185.0, 245.0)
FILL = {"body": 0.0, "container": 0.22}  # these lie around others: a thin veil, or an outline only
USUAL_FILL = 0.40
OVERSAMPLING = 2
OUTLINE = 5  # oversampled pixels
COUNTED_VOXELS = 1 << 20  # at once
LOOK_VOXELS = 96  # per axis, enough to choose slices by

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plane:
    """How one plane is seen; canonical axes x, y, z are 0, 1, 2 and point to left, back, head.

    Attributes:
        name: ``axial``, ``coronal`` or ``sagittal``.
        normal: axis across the plane.
        right, down: axes that run to the right and down the picture.
        edges: what lies at the left, right, top and bottom edge.
    """

    name: str
    normal: int
    right: int
    down: int
    edges: tuple[str, str, str, str]


AXIAL = Plane("axial", 2, 0, 1, ("R", "L", "A", "P"))
CORONAL = Plane("coronal", 1, 0, 2, ("R", "L", "S", "I"))
SAGITTAL = Plane("sagittal", 0, 1, 2, ("A", "P", "S", "I"))


@dataclass(frozen=True, slots=True)
class Volume:
    """A scan and its label maps with axes (x, y, z) towards the patient's left, back and head.

    Attributes:
        ct: HU.
        layers: label maps, what lies underneath first.
        names: per layer, label value to canonical id.
        spacing: mm per voxel, (x, y, z).
    """

    ct: NDArray[Any]
    layers: dict[str, NDArray[Any]]
    names: dict[str, dict[int, str]]
    spacing: tuple[float, float, float]

    @classmethod
    def of(
        cls,
        ct: NDArray[Any],
        affine: NDArray[Any],
        layers: Mapping[str, NDArray[Any]],
        names: Mapping[str, Mapping[int, str]],
        order: Sequence[str],
    ) -> Volume:
        """Turn arrays of any orientation; nothing is copied. Layers are drawn in `order`."""
        turn = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(("L", "P", "S"))
        )
        zooms = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
        axes = [int(np.argwhere(turn[:, 0] == axis)[0, 0]) for axis in range(3)]
        x, y, z = (float(zooms[axis]) for axis in axes)
        drawn = sorted(layers, key=lambda name: order.index(name) if name in order else len(order))
        return cls(
            nib.orientations.apply_orientation(ct, turn),
            {name: nib.orientations.apply_orientation(layers[name], turn) for name in drawn},
            {name: dict(names[name]) for name in drawn},
            (x, y, z),
        )

    def size_mm(self, axis: int) -> float:
        """Length of the field of view along an axis."""
        return float(self.ct.shape[axis] * self.spacing[axis])

    def millilitres(self) -> dict[str, float]:
        """Volume of every anatomy that has voxels, the largest first."""
        per_voxel = float(np.prod(self.spacing)) / 1000
        found: dict[str, float] = {}
        for layer, labels in self.layers.items():
            counts = np.zeros(int(np.iinfo(labels.dtype).max) + 1, np.int64)
            # counting takes eight bytes a voxel of what is counted at once
            for slab in np.array_split(labels, max(1, labels.size // COUNTED_VOXELS), axis=2):
                counts += np.bincount(slab.ravel(), minlength=len(counts))
            for value, name in self.names[layer].items():
                if counts[value]:
                    found[name] = float(counts[value]) * per_voxel
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def telling_point(volume: Volume) -> tuple[int, int, int]:
    """The voxel through which three planes show most of what was segmented.

    Per axis the slice, in the middle half of the segmented extent, that cuts the most anatomies
    near their widest; the centre of the scan where nothing was segmented.
    """
    point = [size // 2 for size in volume.ct.shape]
    step = [max(1, size // LOOK_VOXELS) for size in volume.ct.shape]
    areas: list[list[NDArray[Any]]] = [[], [], []]
    for layer, labels in volume.layers.items():
        if layer == "body":
            continue
        coarse = labels[:: step[0], :: step[1], :: step[2]]
        for value in volume.names[layer]:
            inside = coarse == value
            if inside.any():
                for axis in range(3):
                    others = tuple(a for a in range(3) if a != axis)
                    areas[axis].append(inside.sum(axis=others))
    for axis in range(3):
        if not areas[axis]:
            continue
        per_anatomy = np.array(areas[axis], dtype=np.float64)
        score = np.minimum(per_anatomy / per_anatomy.max(axis=1, keepdims=True), 0.7).sum(axis=0)
        cut = np.flatnonzero(score)
        margin = (cut[-1] - cut[0]) // 4
        middle = slice(cut[0] + margin, cut[-1] - margin + 1)
        best = middle.start + int(np.argmax(ndimage.gaussian_filter1d(score, 1.0)[middle]))
        point[axis] = min(best * step[axis], volume.ct.shape[axis] - 1)
    return point[0], point[1], point[2]


def draw_plane(volume: Volume, plane: Plane, index: int, size: tuple[int, int]) -> Image:
    """The plane at `index` as an RGB image ``(height, width, 3)`` of values 0..1.

    Args:
        volume: what is shown.
        plane: which way.
        index: voxel index along the plane's normal.
        size: width and height in pixels.
    """
    fine = (size[1] * OVERSAMPLING, size[0] * OVERSAMPLING)
    hu = _enlarge(_cut(volume.ct, plane, index).astype(np.float32), fine, order=3)
    low, high = SOFT_TISSUE_HU
    grey = np.clip((hu - low) / (high - low), 0, 1)
    image: Image = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for layer, labels in volume.layers.items():
        _overlay(
            image, _cut(labels, plane, index), volume.names[layer], FILL.get(layer, USUAL_FILL)
        )
    blocks = image.reshape(size[1], OVERSAMPLING, size[0], OVERSAMPLING, 3)
    averaged: Image = blocks.mean(axis=(1, 3))
    return averaged


def _cut(array: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    # a view: numpy.take copies all of an array whose rows do not come first, as those of files
    flat: NDArray[Any] = array[(slice(None),) * plane.normal + (index,)]
    rows_first = flat.T if plane.right < plane.down else flat
    return rows_first[::-1] if plane.down == 2 else rows_first  # +z points up


def _enlarge(flat: Image, size: tuple[int, int], order: Literal[1, 3]) -> Image:
    factors = (size[0] / flat.shape[0], size[1] / flat.shape[1])
    enlarged = ndimage.zoom(flat, factors, order=order, mode="nearest", grid_mode=True)
    return enlarged.astype(np.float32, copy=False)


def _overlay(image: Image, labels: NDArray[Any], names: Mapping[int, str], fill: float) -> None:
    """Tint each label's area and outline it; edges are smoothed, not blocks of voxels."""
    size = (image.shape[0], image.shape[1])
    strongest = np.full(size, 0.5, np.float32)
    winner = np.zeros(size, np.int32)
    for value in np.unique(labels):
        if int(value) in names:
            cover = _enlarge((labels == value).astype(np.float32), size, order=1)
            better = cover > strongest
            winner[better] = value
            strongest[better] = cover[better]
    palette = np.zeros((int(winner.max()) + 1, 3), np.float32)
    for value in np.unique(winner[winner > 0]):
        palette[value] = hex_to_rgb(colour_of(names[int(value)]))
    inside = winner > 0
    image[inside] += fill * (palette[winner[inside]] - image[inside])
    smallest = ndimage.minimum_filter(winner, OUTLINE)
    largest = ndimage.maximum_filter(winner, OUTLINE)
    edge = inside & (smallest != largest)
    image[edge] = palette[winner[edge]]


def colour_of(label: str) -> str:
    """``#rrggbb`` of a label: its own, or of a union without a name that of its first member."""
    known = vocabulary()
    return known[label if label in known else min(known.members(label))].colour


def hex_to_rgb(colour: str) -> tuple[float, float, float]:
    """``#rrggbb`` as three values 0..1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
