"""What a probe shows a decoder: a patch of a phantom around the decoder's anatomies."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.anatomy.phantom import Phantom, render
from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import IntegrityError
from clnet.model.artefact import DecoderInfo
from clnet.model.encoder import EncoderConfig
from clnet.model.plan import Plan

__all__ = ["PhantomPatch", "choose_patch"]

SMALLEST_SIDE = 32
LARGEST_SIDE = 128
FINEST_SPACING = 3.0
"""mm; what a decoder computes is the point, not how fine its input is, and rendering is slow."""
SURVEY_SPACING = (10.0, 10.0, 10.0)
SHORTEST_BODY = 750.0
"""mm from pelvis to vertex, less than any phantom's."""
AIR = -1000

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class PhantomPatch:
    """A patch of a phantom that anyone can render again: nothing of a patient is in it.

    Attributes:
        seed: of the phantom.
        spacing: mm, ``(z, y, x)``.
        heights: body heights between which it is rendered, 0 at the pelvis, 1 at the vertex.
        corner: first voxel of the patch ``(z, y, x)``; outside of the phantom is air.
        size: voxels, ``(z, y, x)``.
    """

    seed: int
    spacing: tuple[float, float, float]
    heights: tuple[float, float]
    corner: Triple
    size: Triple

    def __post_init__(self) -> None:
        fits = (
            0 <= self.seed < 2**31
            and all(1 <= side <= 2 * LARGEST_SIDE for side in self.size)
            and all(FINEST_SPACING <= step <= 100 for step in self.spacing)
            and -1 <= self.heights[0] < self.heights[1] <= 2
            and all(abs(start) < 10_000 for start in self.corner)
        )
        if not fits:  # read from a file: an absurd one must not fill the memory
            raise IntegrityError(f"probe: {self} is no patch of a phantom")

    def render(self) -> NDArray[np.int16]:
        """The patch in HU, ``(Z, Y, X)``."""
        return self.cut(self.phantom())

    def phantom(self) -> Phantom:
        """The part of the phantom that the patch is cut from."""
        return render(self.seed, spacing=self.spacing, field_of_view=self.heights)

    def cut(self, phantom: Phantom) -> NDArray[np.int16]:
        """The patch of an already rendered phantom."""
        patch = np.full(self.size, AIR, np.int16)
        inside, there = self._overlap(phantom.ct.shape)
        patch[there] = phantom.ct[inside]
        return patch

    def mask(self, phantom: Phantom, anatomy: str) -> NDArray[np.bool_]:
        """Where the patch shows an anatomy of the phantom."""
        patch = np.zeros(self.size, np.bool_)
        inside, there = self._overlap(phantom.ct.shape)
        patch[there] = phantom.mask(anatomy)[inside]
        return patch

    def _overlap(self, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        inside, there = [], []
        for start, side, length in zip(self.corner, self.size, shape, strict=True):
            first = min(max(start, 0), length)
            last = max(min(start + side, length), first)
            inside.append(slice(first, last))
            there.append(slice(first - start, last - start))
        return tuple(inside), tuple(there)

    def to_dict(self) -> dict[str, Any]:
        """The patch as JSON-able values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PhantomPatch:
        """Inverse of :meth:`to_dict`."""
        sz, sy, sx = (float(v) for v in values["spacing"])
        low, high = (float(v) for v in values["heights"])
        cz, cy, cx = (int(v) for v in values["corner"])
        z, y, x = (int(v) for v in values["size"])
        return cls(int(values["seed"]), (sz, sy, sx), (low, high), (cz, cy, cx), (z, y, x))


def choose_patch(
    info: DecoderInfo,
    encoder: EncoderConfig,
    plan: Plan,
    seed: int,
    axes: Triple = (0, 1, 2),
) -> PhantomPatch:
    """The patch that shows most of what a decoder segments, as small as its networks allow.

    It lies around the decoder's anatomies where the phantom has any, else in the middle of its
    body range, else of the body.

    Args:
        axes: for z, y and x, the axis of the network.
    """
    own = _size(encoder, plan)
    size = (own[axes[0]], own[axes[1]], own[axes[2]])
    spacing = _triple([max(FINEST_SPACING, plan.spacing[axis]) for axis in axes])
    leaves = {m for channel in info.config.channels for m in channel.members}
    height, middle = _centre(seed, leaves, info)
    half = (size[0] / 2 + 2) * spacing[0] / SHORTEST_BODY
    heights = (round(height - half, 6), round(height + half, 6))
    low, high = max(-0.5, heights[0]), min(1.5, heights[1])
    patch = PhantomPatch(seed, spacing, (low, high), (0, 0, 0), size)
    phantom = patch.phantom()
    z = int(np.argmin(np.abs(phantom.height - height)))
    inverse = np.linalg.inv(phantom.affine)
    x, y = (inverse @ [middle[0], middle[1], 0.0, 1.0])[:2]
    centre = (z, round(y), round(x))
    corner = tuple(c - side // 2 for c, side in zip(centre, size, strict=True))
    return PhantomPatch(seed, spacing, (low, high), (corner[0], corner[1], corner[2]), size)


def _size(encoder: EncoderConfig, plan: Plan) -> Triple:
    """Sides that the encoder can halve all the way down to more than one voxel."""
    sides = []
    for axis, patch in enumerate(plan.patch_size):
        stride = math.prod(stride[axis] for stride in encoder.strides)
        side = stride * max(2, math.ceil(SMALLEST_SIDE / stride))
        sides.append(min(patch, side, max(LARGEST_SIDE, 2 * stride)))
    return sides[0], sides[1], sides[2]


def _centre(seed: int, leaves: set[str], info: DecoderInfo) -> tuple[float, tuple[float, float]]:
    """Body height, and RAS x and y in mm, of the middle of the decoder's anatomies."""
    survey = _survey(seed)
    shown = [
        name
        for names in survey.names.values()
        for name in names.values()
        if leaves & set(vocabulary().leaves(name))
    ]
    masks = [survey.mask(name) for name in shown]
    held = np.logical_or.reduce(masks) if masks else np.zeros(survey.ct.shape, np.bool_)
    if held.any():
        z, y, x = (float(np.median(index)) for index in np.nonzero(held))
        height = float(survey.height[round(z)])
    else:
        ranges = [(r.p005 + r.p995) / 2 for r in info.ranges.values()]
        height = min(1.0, max(0.0, float(np.mean(ranges)))) if ranges else 0.5
        body = survey.labels["body"][int(np.argmin(np.abs(survey.height - height)))] > 0
        y, x = (float(np.median(index)) for index in np.nonzero(body))
    world = survey.affine @ [x, y, 0.0, 1.0]
    return height, (float(world[0]), float(world[1]))


@lru_cache(maxsize=2)
def _survey(seed: int) -> Phantom:
    return render(seed, spacing=SURVEY_SPACING, field_of_view="whole")


def _triple(values: list[float]) -> tuple[float, float, float]:
    z, y, x = values
    return float(z), float(y), float(x)
