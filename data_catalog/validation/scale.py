"""Do the values lie where Hounsfield units lie? Every body tells: it is made of the same tissues.

Only what no tissue and no contrast explains is called an error. A slope that is wrong in a crop
without air shows nowhere, and is not found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clnet.data_catalog.validation.facts import facts, lineage_of
from clnet.data_catalog.validation.findings import Finding
from clnet.data_catalog.validation.subject import Subject

__all__ = ["check_scale"]

LOWEST = int(np.iinfo(np.int16).min)

LEAST_AIR = -1200
"""Air is -1000, and its noise seldom reaches further down."""
MOST_BELOW = 0.05

NEAR, AROUND = 30, 120
"""Half widths in HU of a peak and of its surroundings: air and muscle fill the one, lungs and
bones, whose voxels differ, the other."""

MOST_PEAK = 0.08
"""Share of the voxels that a peak holds which can be no accident."""

NO_PEAK = (-640.0, -320.0)
"""Denser than lungs, lighter than fat: at a wrong slope, the air around the body is there."""
SHARP = 0.5

FAINT_AIR = (-880.0, NO_PEAK[0])
"""Where the air of cone-beam scanners lies, and that of a slope slightly wrong."""
VERY_SHARP = 0.75

SOFT = 600.0
"""Above it only bone and metal are, whose values are spread far: no peak."""
BROAD = 0.3

TAIL = 0.001
"""Share of voxels at either end that may be noise, metal, or a stray value."""

PADDING_GAP = 50
"""HU above a padding within which next to nothing is; the air has noise."""
BELOW_AIR = -1100

PILE = 0.01
"""Share of the voxels at the lower end of a window, at least; bones at its upper end are fewer."""
PILE_ABOVE = 0.001
HUGE_PILE = 0.05
TIMES_AROUND = 20.0
"""How many times as often an end of a window is there as the values beside it."""
CLIPPED_AIR = -900
CLIPPED_METAL = 2000
"""Below the one and above the other, scanners themselves cut off."""

PICTURE = 256
ENOUGH = 4096
"""Fewer voxels may well lie within so few values."""

FAR_HU = 300.0
FAR_BONE_HU = 100.0
"""Beyond what a tissue has at any contrast, and at any age."""
AIR_HU = -900.0
MOST_LABELS = 2 / 3
MIN_VOXELS = 20


def check_scale(subject: Subject) -> Iterator[Finding]:
    """Slope and intercept of another scale, a window, an 8-bit picture; one of them, if any."""
    values = _Values.of(subject.sample)
    if values.total == 0:
        return
    wrong = _wrong_scale(values)
    windowed = None if wrong else _windowed(values)
    if windowed is not None:
        sure, seen = windowed
        yield subject.about_image("hu.windowed" if sure else "hu.clipped", seen)
        if sure:
            return
    wrong = wrong or _nothing_light(subject.sample) or _wrong_tissue(subject)
    if wrong is not None:
        yield subject.about_image("hu.scale", wrong)
    elif (peak := values.peak(FAINT_AIR, VERY_SHARP)) is not None:
        yield subject.about_image("hu.unusual", f"{peak}, too alike for lungs; air is -1000 HU")


@dataclass(frozen=True, slots=True)
class _Peak:
    hu: int
    share: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the voxels lie around {self.hu}"


@dataclass(frozen=True, slots=True)
class _Values:
    """How often each value occurs, from -32768 on; paddings left out.

    A padding is one value at either end, apart from all others.
    """

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, sample: NDArray[np.int16]) -> _Values:
        counts = np.bincount(sample.reshape(-1).astype(np.int64) - LOWEST, minlength=2**16)
        downwards, air, metal = counts[::-1], CLIPPED_AIR - LOWEST, CLIPPED_METAL - LOWEST
        _drop_paddings(counts[:air])
        _drop_paddings(downwards[: len(counts) - metal])
        return cls(counts)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def share(self, low: float, high: float) -> float:
        """Of the voxels from `low` up to, not including, `high`."""
        return float(self.counts[int(low) - LOWEST : int(high) - LOWEST].sum()) / self.total

    def ends(self) -> tuple[int, int]:
        """Lowest and highest value, but for tails."""
        up_to = np.cumsum(self.counts) / self.total
        low, high = np.searchsorted(up_to, [TAIL, 1 - TAIL / 2], side="right")
        return int(low) + LOWEST, int(high) + LOWEST

    def pile(self, value: int, inwards: int) -> float:
        """Share of the voxels at `value`, if it is by far the most frequent of those beside it."""
        at = value - LOWEST
        beside = self.counts[[at + inwards * n for n in range(1, 21)]].mean()
        here = int(self.counts[at])
        return here / self.total if here > TIMES_AROUND * beside else 0.0

    def peak(self, between: tuple[float, float], sharp: float) -> _Peak | None:
        """The highest peak between two values, if it is one: no single value, and no slope.

        Args:
            sharp: least share of its surroundings that must lie near it.
        """
        low, high = (int(end) - LOWEST for end in between)
        near, around = (self._within(width)[low:high] for width in (NEAR, AROUND))
        best = int(near.argmax())
        if near[best] < MOST_PEAK * self.total or near[best] < sharp * around[best]:
            return None
        at = low + best
        if self.counts[at - NEAR : at + NEAR + 1].max() > near[best] / 2:
            return None
        return _Peak(at + LOWEST, float(near[best]) / self.total)

    def _within(self, width: int) -> NDArray[np.int64]:
        """Voxels within `width` of each value."""
        up_to = np.concatenate([[0], np.cumsum(np.pad(self.counts, width))])
        found: NDArray[np.int64] = up_to[2 * width + 1 :] - up_to[: -2 * width - 1]
        return found


def _drop_paddings(counts: NDArray[np.int64]) -> None:
    """Set the counts of values to 0 that stand before all others, apart."""
    for first in np.flatnonzero(counts):
        after = counts[first + 1 : first + 1 + PADDING_GAP].sum()
        if after > PILE * counts[first]:
            break
        counts[first] = 0


def _wrong_scale(values: _Values) -> str | None:
    """Why slope or intercept are wrong, by the values alone."""
    below = values.share(LOWEST, LEAST_AIR)
    if below > MOST_BELOW:
        return f"{below:.0%} of the voxels, paddings aside, are below {LEAST_AIR}: air is -1000 HU"
    dense = values.peak((SOFT, 2**15 - AROUND), BROAD)
    if dense is not None:
        return f"{dense}: that is bone in HU, of which no scan has so much of one density"
    light = values.peak(NO_PEAK, SHARP)
    if light is not None:
        return f"{light}: nothing in or around a body is of that density; air is -1000 HU"
    return None


def _nothing_light(sample: NDArray[np.int16]) -> str | None:
    """Whether but for stray voxels and paddings nothing is below 0; without these it is told
    when an image is read."""
    if np.count_nonzero((sample > BELOW_AIR) & (sample < 0)) < TAIL * sample.size:
        return f"less than {TAIL:.1%} of the voxels are below 0, where fat and air are in HU"
    return None


def _wrong_tissue(subject: Subject) -> str | None:
    """Why slope or intercept are wrong, by most of the labelled tissues."""
    judged, dense, bones, light = 0, [], 0, []
    for name, region in subject.regions.items():
        lineage = lineage_of(name)
        band = next((facts().density[n] for n in lineage if n in facts().density), None)
        band = band or facts().density.get(region.layer)
        if band is None or region.voxels < MIN_VOXELS or facts().airy & set(lineage):
            continue
        said = f"{name} {region.hu:.0f}"
        if region.layer == "bone":
            bones += 1
            if AIR_HU < region.hu < band[0] - FAR_BONE_HU:
                light.append(said)
        elif band[1] <= SOFT:  # no contrast makes it as dense as bone
            judged += 1
            if region.hu > band[1] + FAR_HU:
                dense.append(said)
    if dense and len(dense) >= MOST_LABELS * judged:
        return f"soft tissue far denser than it can be: {', '.join(dense[:5])} HU on average"
    # one bone alone may reach into a padding
    if len(light) > 1 and len(light) >= MOST_LABELS * bones:
        return f"bones far lighter than they can be: {', '.join(light[:5])} HU on average"
    return None


def _windowed(values: _Values) -> tuple[bool, str] | None:
    """Whether values were cut off, whether that is sure, and what tells."""
    low, high = values.ends()
    if low == high:
        return None
    cut = values.pile(low, +1) if low > CLIPPED_AIR else 0.0
    cut = cut if cut >= PILE else 0.0
    above = values.pile(high, -1) if high < CLIPPED_METAL else 0.0
    above = above if above >= PILE_ABOVE else 0.0
    if not cut and not above:
        if high - low < PICTURE and values.total >= ENOUGH and np.count_nonzero(values.counts) > 2:
            # a crop of soft tissue may be so, too
            return False, f"all voxels lie from {low} to {high}, as many values as a picture has"
        return None
    ends = [f"{cut:.1%} are {low}"] * bool(cut) + [f"{above:.1%} are {high}"] * bool(above)
    sure = bool(cut and above) or max(cut, above) >= HUGE_PILE
    return (
        sure,
        f"of the voxels {' and '.join(ends)}, and next to none beyond: a window was applied",
    )
