"""The result of segmenting one CT, and what it says per anatomy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import NotFound
from clnet.model.body_part_curve import BodyPartCurve
from clnet.model.composite import derived_composites
from clnet.model.geometry import Spacing
from clnet.model.inference import LoadedDecoder, SlidingWindow
from clnet.model.merge import Merged, is_ancestor
from clnet.model.numerics import numerics_class
from clnet.model.outputs import Output, outputs_of, unlearned
from clnet.model.schedule import Schedule
from clnet.model.sides import misplaced, swapped_sides
from clnet.model.statistics import (
    AnatomyResult,
    Measure,
    State,
    measure,
    shared_state,
)

__all__ = ["Effort", "Segmentation", "summarise"]

UPSIDE_DOWN = (
    "the scan seems to be upside down: body-part scores fall towards the end that its header "
    "calls superior; check the header, unless the scan shows legs, which body-part models do not "
    "know. Body ranges were not applied"
)
NO_PATIENT = "no slice shows a patient, so nothing was looked for in any; check the intensities"
UNRECOGNISED = "body parts were not recognised (quality {:.2f}), so body ranges were not applied"

SWAPPED = "{} found to the right of the counterpart: the scan may be mirrored; check the header"
MISPLACED = "{} found on the wrong side of the body: the scan may be mirrored; check the header"


@dataclass(frozen=True, slots=True)
class Effort:
    """What a segmentation took.

    Attributes:
        schedule: passes, tiles and memory.
        disk: bytes of temporary files, of the scan's voxels and of label maps among them.
        seconds: spent on ``network`` and ``fold``.
    """

    schedule: Schedule
    disk: int
    seconds: Mapping[str, float]

    def describe(self) -> str:
        """The effort in one sentence."""
        return f"{self.schedule.describe()}; {self.disk / 2**20:.0f} MiB of temporary files"

    def to_dict(self) -> dict[str, int]:
        """The effort as JSON-able values: what was planned, and what may be taken."""
        plan = self.schedule
        return {
            "passes": len(plan.passes),
            "tiles": len(plan.tiles),
            "windows": plan.encodings,
            "memory_bytes": plan.memory,
            "budget_bytes": plan.budget,
            "disk_bytes": self.disk,
        }


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A segmented CT.

    Attributes:
        labels: layer to label map on the scan's own grid, uint8 (uint16 above 255 labels).
        names: layer to label value to canonical id.
        results: what is known per anatomy.
        affine: the scan's, voxel indices to RAS+ mm.
        spacing: of the canonical grid (z, y, x), mm.
        curve: body-part scores of the scan, or None without a body-part model.
        gated: whether anatomies were confined to their body ranges.
        patient_slices: first and last slice with a patient, counted along the scan's own axis
            from head to feet or back; None if there is none or no body-part model.
        effort: what it took.
        window: how the scan was covered: mirroring, overlap, precision.
        device: that computed.
    """

    labels: dict[str, NDArray[Any]]
    names: dict[str, dict[int, str]]
    results: dict[str, AnatomyResult]
    affine: NDArray[np.float64]
    spacing: Spacing
    curve: BodyPartCurve | None
    gated: bool
    patient_slices: tuple[int, int] | None
    effort: Effort
    window: SlidingWindow
    device: torch.device

    @property
    def states(self) -> dict[str, State]:
        """Anatomy to its state."""
        return {anatomy: result.state for anatomy, result in self.results.items()}

    @property
    def suppressed(self) -> dict[str, int]:
        """Anatomy to the voxels that gating took from it, where it took any."""
        return {a: r.suppressed for a, r in self.results.items() if r.suppressed}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the result must know about the scan."""
        return (*self._doubts_of_height(), *self._doubts_of_sides())

    def _doubts_of_height(self) -> tuple[str, ...]:
        if self.curve is None:
            return ()
        if not self.curve.patient.any():
            return (NO_PATIENT,)
        if self.curve.upside_down:
            return (UPSIDE_DOWN,)
        if not self.curve.trusted:
            return (UNRECOGNISED.format(self.curve.quality),)
        return ()

    def _doubts_of_sides(self) -> tuple[str, ...]:
        sizes = {anatomy: result.size for anatomy, result in self.results.items()}
        voxel_ml = float(np.prod(self.spacing)) / 1000
        told = (
            (SWAPPED, swapped_sides(sizes, self.spacing[2], voxel_ml)),
            (MISPLACED, misplaced(sizes, self.spacing[2], voxel_ml)),
        )
        return tuple(text.format(", ".join(names)) for text, names in told if names)

    def mask(self, anatomy: str) -> NDArray[np.bool_]:
        """Voxels labelled as `anatomy`, or in its layer as a part of it, on the scan's grid.

        Args:
            anatomy: any name that the vocabulary knows, or one in :attr:`names`: a union of
                anatomies without a name of its own is written as theirs, joined by ``+``.

        Raises:
            UnknownAnatomy: neither the vocabulary nor this result knows the name.
            NotFound: no label of this result is that anatomy or a part of it.
        """
        known = vocabulary()
        written = (layer for layer, v in self.names.items() if anatomy in v.values())
        home = next(written, None)
        name = anatomy if home is not None else known.resolve(anatomy)
        layer = home if home is not None else known[name].layer
        parts = [v for v, label in self.names.get(layer, {}).items() if known.lies_in(label, name)]
        if parts:
            return np.isin(self.labels[layer], parts)
        raise NotFound(f"{anatomy}: was not looked for in this scan")

    def statistics(self) -> dict[str, Any]:
        """Per anatomy, per composite and for the scan, JSON-able; volumes in ml."""
        low, high = self.curve.span if self.curve is not None else (None, None)
        return {
            "anatomies": {a: r.to_dict() for a, r in self.results.items()},
            "derived": {c: r.to_dict() for c, r in derived_composites(self.results).items()},
            "scan": {
                "spacing_zyx_mm": list(self.spacing),
                "body_part_low": low,
                "body_part_high": high,
                "body_part_quality": self.curve.quality if self.curve is not None else None,
                "upside_down": self.curve.upside_down if self.curve is not None else None,
                "gated": self.gated,
                "patient_slices": list(self.patient_slices) if self.patient_slices else None,
            },
            "inference": {
                "mirror": "".join("zyx"[axis] for axis in sorted(self.window.mirror)),
                "overlap": self.window.share,
                **numerics_class(self.device, self.window.precision),
                **self.effort.to_dict(),
            },
            "warnings": list(self.warnings),
        }


def summarise(
    decoders: Sequence[LoadedDecoder],
    reported: Collection[str],
    asked: Collection[str] | None,
    merged: Merged,
    ct: NDArray[Any],
    spacing: Spacing,
    curve: BodyPartCurve | None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, AnatomyResult]:
    """What is known of every anatomy that was asked for, by id.

    Args:
        decoders: of the model, whether they ran or not.
        reported: anatomies that decoders report and that were asked for.
        asked: leaves that were asked for, or None for whatever the decoders have channels for.
        merged: label maps on the canonical grid.
        ct: HU on the canonical grid.
        spacing: of the canonical grid (z, y, x), mm.
        curve: body-part scores of the scan.
        check: called before each stretch of slices; what it raises ends the work.
    """
    sizes = measure(merged.labels, merged.names, ct, check)
    voxel_ml = float(np.prod(spacing)) / 1000
    owners: dict[str, list[tuple[LoadedDecoder, Output]]] = {}
    idle: dict[str, str | None] = dict.fromkeys(asked) if asked is not None else {}
    for decoder in sorted(decoders, key=lambda d: (d.tier, d.ref)):
        for output in outputs_of(decoder.info):
            if output.anatomy in reported:
                owners.setdefault(output.anatomy, []).append((decoder, output))
        for leaf in unlearned(decoder.info):
            if asked is None or idle.get(leaf, "") is None:
                idle[leaf] = decoder.info.config.group
    for anatomy, found in owners.items():
        _lead_by_share(found, merged.won.get(anatomy, {}))
    first = {anatomy: found[0] for anatomy, found in owners.items()}
    results = {}
    for anatomy, (decoder, output) in sorted(first.items()):
        parts = [a for a, (_, o) in first.items() if a == anatomy or _within(o, output)]
        size = sum((sizes[part] for part in parts), Measure())
        results[anatomy] = AnatomyResult(
            shared_state(size.voxels, (o.range for _, o in owners[anatomy]), curve),
            output.layer,
            decoder.info.config.group,
            tuple(d.ref for d, _ in owners[anatomy]),
            size,
            voxel_ml,
            merged.suppressed.get(anatomy, 0),
            merged.won.get(anatomy, {}),
            merged.denied.get(anatomy, {}),
        )
    for leaf, group in sorted(idle.items()):
        if leaf not in results:
            layer = vocabulary()[leaf].layer
            results[leaf] = AnatomyResult(
                State.NOT_LOOKED_FOR, layer, group, (), Measure(), voxel_ml, 0
            )
    return results


def _lead_by_share(owners: list[tuple[LoadedDecoder, Output]], won: Mapping[str, int]) -> None:
    """Put whoever gave most of an anatomy first; the others stay in their order."""
    owners.sort(key=lambda owner: -won.get(owner[0].ref, 0))


def _within(part: Output, whole: Output) -> bool:
    return part.layer == whole.layer and is_ancestor(whole, part)
