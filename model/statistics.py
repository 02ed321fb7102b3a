"""What a result says of each anatomy: its state, its size, its density."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.model.body_part_curve import BodyPartCurve, Range

__all__ = [
    "AnatomyResult",
    "Measure",
    "State",
    "combined_state",
    "measure",
    "shared_state",
    "state_of",
]

BLOCK_VOXELS = 1 << 18


class State(StrEnum):
    """What is known of one anatomy in one scan."""

    PRESENT = "present"
    ABSENT = "absent"
    PARTLY_IN_VIEW = "partly_in_view"
    OUT_OF_FIELD = "out_of_field"
    NOT_LOOKED_FOR = "not_looked_for"


@dataclass(frozen=True, slots=True)
class Measure:
    """Voxels of something, and what they add up to.

    Attributes:
        voxels: how many.
        hu: sum of their HU.
        x: sum of their indices towards the patient's left.
        slices: how many show it; of a sum, as many as its tallest part has.
    """

    voxels: int = 0
    hu: float = 0.0
    x: float = 0.0
    slices: int = 0

    def __add__(self, other: Measure) -> Measure:
        return Measure(
            self.voxels + other.voxels,
            self.hu + other.hu,
            self.x + other.x,
            max(self.slices, other.slices),
        )


@dataclass(frozen=True, slots=True)
class AnatomyResult:
    """One anatomy in one scan.

    Attributes:
        state: what is known of it.
        layer: the layer it is written in.
        group: its decoder's anatomy group, or None if no decoder looks for it.
        decoders: refs of the decoders that report it, the one that gave most of it first, then
            by tier.
        size: voxels labelled as it or, in its layer, as a part of it.
        voxel_ml: millilitres of a voxel.
        suppressed: voxels that lay outside its body range and were dropped.
        won: by decoder, voxels labelled as it on that decoder's word, before any clean-up of
            components.
        denied: by decoder, voxels that it claimed and a more certain one denied.
    """

    state: State
    layer: str
    group: str | None
    decoders: tuple[str, ...]
    size: Measure
    voxel_ml: float
    suppressed: int
    won: Mapping[str, int] = field(default_factory=dict)
    denied: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-able values; ``mean_hu`` is None where there is no voxel."""
        return {
            "state": str(self.state),
            "voxels": self.size.voxels,
            "volume_ml": round(self.size.voxels * self.voxel_ml, 3),
            "mean_hu": round(self.size.hu / self.size.voxels, 1) if self.size.voxels else None,
            "layer": self.layer,
            "group": self.group,
            "decoder": self.decoders[0] if self.decoders else None,
            "decoders": list(self.decoders),
            "suppressed_voxels": self.suppressed,
            "voxels_by_decoder": dict(self.won),
            "denied_voxels": dict(self.denied),
        }


def state_of(voxels: int, where: Range | None, curve: BodyPartCurve | None) -> State:
    """State of an anatomy that a decoder reports.

    Nothing found is *absent* only where the whole range p0.5 to p99.5 is known to be in view.
    Without a range or a trustworthy curve that is not known, and the state is *partly in view*.
    A scan that shows no patient has everything *out of field*.
    """
    if voxels:
        return State.PRESENT
    if curve is not None and not curve.patient.any():
        return State.OUT_OF_FIELD
    if where is None or curve is None or not curve.trusted:
        return State.PARTLY_IN_VIEW
    low, high = curve.view
    if low <= where.p005 and where.p995 <= high:
        return State.ABSENT
    if high < where.p005 or where.p995 < low:
        return State.OUT_OF_FIELD
    return State.PARTLY_IN_VIEW


def shared_state(voxels: int, ranges: Iterable[Range | None], curve: BodyPartCurve | None) -> State:
    """State of an anatomy that several decoders report, from the range of each.

    It is absent if the whole range of any is in view, out of field only if those of all are.
    Decoders without a range do not count where another has one.
    """
    known = [where for where in ranges if where is not None]
    states = {state_of(voxels, where, curve) for where in known or (None,)}
    for state in (State.PRESENT, State.ABSENT, State.PARTLY_IN_VIEW):
        if state in states:
            return state
    return State.OUT_OF_FIELD


def combined_state(parts: Mapping[str, State]) -> State:
    """State of a composite from the states of its parts.

    It is present if any part is, absent or out of field only if every part is, and not looked
    for where whatever of it the scan may show was not looked for. Else it is partly in view.
    """
    found = set(parts.values())
    if State.PRESENT in found:
        return State.PRESENT
    if len(found) == 1:
        return found.pop()
    if found <= {State.OUT_OF_FIELD, State.NOT_LOOKED_FOR}:
        return State.NOT_LOOKED_FOR
    return State.PARTLY_IN_VIEW


def measure(
    labels: Mapping[str, NDArray[Any]],
    names: Mapping[str, Mapping[int, str]],
    ct: NDArray[Any],
    check: Callable[[], None] = lambda: None,
) -> dict[str, Measure]:
    """Voxels, HU and place of every named label; canonical arrays ``(Z, Y, X)`` on one grid.

    Args:
        labels: label map per layer.
        names: per layer, label value to anatomy.
        ct: HU.
        check: called before each stretch of slices; what it raises ends the work.
    """
    sizes: dict[str, Measure] = {}
    step = max(1, BLOCK_VOXELS // (ct.shape[1] * ct.shape[2]))
    for layer, values in names.items():
        count = max(values) + 1
        voxels, slices = np.zeros(count, np.int64), np.zeros(count, np.int64)
        hu, x = np.zeros(count), np.zeros(count)
        for start in range(0, len(ct), step):
            check()
            part = labels[layer][start : start + step]
            where = part > 0
            found = part[where]
            voxels += np.bincount(found, minlength=len(voxels))
            hu += np.bincount(found, ct[start : start + step][where], minlength=len(hu))
            left = np.broadcast_to(np.arange(part.shape[2]), part.shape)[where]
            x += np.bincount(found, left, minlength=len(x))
            for plane in part:
                slices[np.unique(plane)] += 1
        sizes |= {
            name: Measure(int(voxels[v]), float(hu[v]), float(x[v]), int(slices[v]))
            for v, name in values.items()
        }
    return sizes
