"""Where the middle of the body is, left to right, at the height of an organ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.validation.subject import Subject

__all__ = ["Midline", "midline", "midlines"]

SKIN_HU = -300
"""Denser than a mattress, and than most of what covers a patient."""

LARGE = 0.25
"""Parts of a slice smaller than this share of its largest one are arms, or the table."""

CUT = 0.4
"""A body is round: where its first column is so high, as a share of the highest, it was cut."""

MOST_SLICES = 0.5
"""Share of an organ's slices in which the body must be whole."""

NARROW_MM = 60.0


@dataclass(frozen=True, slots=True)
class Midline:
    """The middle of the body.

    Attributes:
        x: mm from voxel 0 of the canonical grid.
        width: mm, skin to skin.
    """

    x: float
    width: float


def midlines(subject: Subject) -> list[Midline | None]:
    """The middle of the body in every slice of the sample, None where its sides are cut off."""
    step = (subject.steps[2].step or 1) * subject.content.spacing[2]
    return [_of_slice(plane, step) for plane in subject.sample]


def midline(subject: Subject, name: str, middles: Sequence[Midline | None]) -> Midline | None:
    """The middle of the body in the slices of a label; None where most of them are cut."""
    grid = subject.content.labels[subject.regions[name].layer][subject.steps]
    value = next(e.value for e in subject.content.contract.entries if e.name == name)
    heights = np.flatnonzero((grid == value).any(axis=(1, 2))).tolist()
    found = [one for z in heights if (one := middles[z]) is not None]
    if len(found) <= MOST_SLICES * len(heights):
        return None
    x = float(np.median([one.x for one in found]))
    return Midline(x, float(np.median([one.width for one in found])))


def _of_slice(hu: NDArray[np.int16], step: float) -> Midline | None:
    """Half of what a slice holds of the body is on either side, which an arm hardly moves."""
    from scipy.ndimage import binary_fill_holes, label

    parts, count = label(binary_fill_holes(hu > SKIN_HU))
    if not count:
        return None
    sizes = np.bincount(parts.reshape(-1))[1:]
    trunk = np.isin(parts, 1 + np.flatnonzero(sizes >= LARGE * sizes.max()))
    columns = trunk.sum(axis=0)
    filled = np.flatnonzero(columns)
    first, last = int(filled[0]), int(filled[-1])
    width = (last - first + 1) * step
    if width < NARROW_MM or max(columns[first], columns[last]) > CUT * columns.max():
        return None
    middle = np.searchsorted(np.cumsum(columns), columns.sum() / 2)
    return Midline(float(middle) * step, width)
