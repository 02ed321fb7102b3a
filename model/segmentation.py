"""Segmentation of one CT: a frozen encoder, its decoders, body parts and merge, together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import Incompatible, InputError, NotFound
from clnet.model.blocks import Blocks, Cut
from clnet.model.body_part import BodyPartModel
from clnet.model.body_part_curve import BodyPartCurve
from clnet.model.components import keep_largest
from clnet.model.contest import held_of
from clnet.model.encoder import Encoder
from clnet.model.fold import Claimant, Merger
from clnet.model.geometry import in_scan_order, linear_matrix
from clnet.model.grid import Grid, Interval
from clnet.model.inference import (
    DecoderRunner,
    LoadedDecoder,
    LocalRunner,
    SlidingWindow,
    finest_head,
    with_supporters,
)
from clnet.model.memory import asked_budget, default_budget, needs
from clnet.model.merge import Codebook, Contest, contests
from clnet.model.nnunet.inference import imported_window
from clnet.model.nnunet.plan import NnunetPlan
from clnet.model.outputs import Output, ignored_channels, outputs_of
from clnet.model.plan import Plan
from clnet.model.policy import MergePolicy
from clnet.model.preparation import Prepared, prepare
from clnet.model.readout import Block, Readout
from clnet.model.result import Effort, Segmentation, summarise
from clnet.model.schedule import Demand, Schedule, schedule
from clnet.model.scratch import Scratch
from clnet.model.stream import Stream
from clnet.model.watch import Progress, Watch

__all__ = ["SegmentationModel", "decoder_logits", "logits_sha256"]

PATIENT_MARGIN_MM = 20.0
"""Past slices that show a patient, where thin ends such as the vertex or toes may still lie."""


@dataclass(frozen=True, slots=True)
class SegmentationModel:
    """Everything of a release that segmenting takes.

    Attributes:
        encoder: the frozen encoder, on the device to compute on.
        plan: the encoder's preprocessing plan.
        bpr: the body-part model, or None: then nothing is gated.
        decoders: decoder versions of that encoder, and all they lean on.
        policy: how logits become labels.
        window: how a volume is covered by windows.
    """

    encoder: Encoder
    plan: Plan
    bpr: BodyPartModel | None
    decoders: Sequence[LoadedDecoder]
    policy: MergePolicy = field(default_factory=MergePolicy)
    window: SlidingWindow = field(default_factory=SlidingWindow)

    def __post_init__(self) -> None:
        refs = [decoder.ref for decoder in self.decoders]
        if len(set(refs)) != len(refs):
            raise Incompatible(f"segmentation model: a decoder is listed twice in {refs}")
        for decoder in self.decoders:
            if decoder.info.encoder_config != self.encoder.config:
                raise Incompatible(f"decoder {decoder.ref}: made for an encoder of another shape")
        with_supporters(self.decoders, self.decoders)

    def segment(
        self,
        ct: NDArray[Any],
        affine: NDArray[Any],
        anatomies: Sequence[str] | None = None,
        progress: Progress | None = None,
        run: DecoderRunner | None = None,
        *,
        memory_budget: int | None = None,
        cancelled: Callable[[], bool] | None = None,
        scratch: Scratch | None = None,
    ) -> Segmentation:
        """Segment a CT in bounded memory.

        Args:
            ct: HU, in nibabel's axis order, any orientation; it may lie in a file.
            affine: 4x4, voxel indices to RAS+ mm.
            anatomies: names of what to look for, composites included; everything if None.
                Only the decoders that these need are run.
            progress: told the fraction done.
            run: computes one decoder on one window; in this process by default.
            memory_budget: bytes that may be taken beside the networks, on the device that
                computes; half of what is free by default. The result does not depend on it.
            cancelled: asked often whether to stop, such as ``threading.Event().is_set``.
            scratch: takes temporary files; what it took before, for the scan, counts too.

        Raises:
            InputError: the image is not a volume of finite HU, a name cannot be looked for, or
                the memory budget is too small or not more than 0.
            Cancelled: `cancelled` said so.
        """
        budget = asked_budget(memory_budget)
        watch = Watch(progress, cancelled)
        watch.tell(0.0, "preparing the scan")
        asked = None if anatomies is None else _leaves(anatomies)
        scratch = scratch if scratch is not None else Scratch()
        scan = prepare(ct, affine, self.plan, self.bpr, scratch, watch)
        served = [decoder for decoder in self.decoders if decoder.served]
        outputs = {decoder.ref: outputs_of(decoder.info) for decoder in served}
        reported = frozenset(
            output.anatomy
            for found in outputs.values()
            for output in found
            if asked is None or any(set(output.members) <= leaves for leaves in asked)
        )
        wanted = [d for d in served if any(o.anatomy in reported for o in outputs[d.ref])]
        curve = scan.curve
        gate = curve if self.policy.gating and curve is not None and curve.trusted else None
        shown = _shown(curve, scan.shape[0])
        admitted = {d.ref: _admitted(outputs[d.ref], gate, shown) for d in wanted}
        running = [d for d in wanted if admitted[d.ref].any()]
        watch.tell(0.05, f"running {len(running)} of {len(wanted)} decoders")
        contested = (
            contests({d.ref: (self.policy.turn(d.tier), outputs[d.ref]) for d in running})
            if self.policy.anomaly_aware
            else {}
        )
        slices = {d.ref: _hull(admitted[d.ref], scan.back[0]) for d in running}
        stream = self._stream(scan, scan.back, slices, run)
        plan = self._schedule(stream, contested, budget)
        watch.tell(0.06, plan.describe())
        merger = Merger(
            {
                d.ref: Claimant(
                    self._readout(d, outputs[d.ref]),
                    self.policy.turn(d.tier),
                    admitted[d.ref],
                    contested[d.ref].outputs if d.ref in contested else (),
                )
                for d in running
            },
            plan.passes,
            Codebook((d.tier, d.ref, output) for d in wanted for output in outputs[d.ref]),
            reported,
            scan.shape,
            scratch,
        )
        stream.flow(plan, merger, watch.part(0.06, 0.95))
        merged = merger.merged()
        watch.tell(0.95, "cleaning up")
        leaves = self.policy.largest_component
        keep_largest(merged.labels, merged.names, leaves, scratch, watch.check)
        watch.tell(0.97, "measuring")
        results = summarise(
            served,
            reported,
            None if asked is None else frozenset().union(*asked),
            merged,
            scan.ct,
            scan.spacing,
            curve,
            watch.check,
        )
        watch.tell(1.0, "done")
        return Segmentation(
            labels={k: in_scan_order(v, scan.orientation) for k, v in merged.labels.items()},
            names=merged.names,
            results=results,
            affine=np.array(affine, dtype=np.float64),
            spacing=scan.spacing,
            curve=curve,
            gated=gate is not None,
            patient_slices=_patient_slices(curve, scan),
            effort=Effort(plan, scratch.bytes, stream.seconds),
            window=stream.window,
            device=self.encoder.device,
        )

    def logits(
        self,
        ct: NDArray[Any],
        affine: NDArray[Any],
        refs: Sequence[str] | None = None,
        run: DecoderRunner | None = None,
        *,
        memory_budget: int | None = None,
    ) -> dict[str, Tensor]:
        """Ungated logits ``(K + 1, Z, Y, X)`` on the plan grid, float32, by decoder ref.

        Raises:
            NotFound: a ref that is not loaded.
            InputError: as :meth:`segment`.
        """
        budget = asked_budget(memory_budget)
        wanted = [d.ref for d in self.decoders] if refs is None else list(refs)
        missing = set(wanted) - {d.ref for d in self.decoders}
        if missing:
            raise NotFound(f"decoders {sorted(missing)}: not in this model")
        scan = prepare(ct, affine, self.plan, None, Scratch(), Watch())
        d, h, w = scan.plan_shape
        same = linear_matrix(d, d), linear_matrix(h, h), linear_matrix(w, w)
        stream = self._stream(scan, same, dict.fromkeys(wanted, (0, d)), run)
        chosen = [decoder for decoder in self.decoders if decoder.ref in wanted]
        readouts = {decoder.ref: self._readout(decoder, ()) for decoder in chosen}
        found = {
            decoder.ref: torch.empty((len(decoder.info.config.channels) + 1, d, h, w))
            for decoder in chosen
        }

        def keep(index: int, where: tuple[Cut, Cut, Cut], blocks: Mapping[str, Block]) -> None:
            z, y, x = (slice(*cut.rows) for cut in where)
            for ref, block in blocks.items():
                found[ref][:, z, y, x] = readouts[ref].logits(block).cpu()

        stream.flow(self._schedule(stream, {}, budget), keep, Watch())
        return found

    def _stream(
        self,
        scan: Prepared,
        back: tuple[csr_array, csr_array, csr_array],
        slices: Mapping[str, Interval],
        run: DecoderRunner | None,
    ) -> Stream:
        """The scan with the decoders that are wanted, by ref on plan slices, and their support."""
        running = [decoder for decoder in self.decoders if decoder.ref in slices]
        window = self.window
        if scan.frame is not None and isinstance(self.plan, NnunetPlan):
            window = imported_window(window, scan.frame, self.plan, self.encoder)
        return Stream(
            scan.image,
            self.plan.air,
            Grid.of(scan.plan_shape, window.canonical(self.plan.patch_size), window),
            Blocks.of(back),
            self.encoder,
            {d.sha256: d for d in with_supporters(running, self.decoders)},
            slices,
            window,
            run if run is not None else LocalRunner(window.precision),
        )

    def _schedule(
        self,
        stream: Stream,
        contested: Mapping[str, Contest],
        budget: int | None,
    ) -> Schedule:
        need = needs(self.encoder, stream.decoders, self.plan.patch_size, stream.window)
        demands = [
            Demand(
                d.ref,
                self.policy.turn(d.tier),
                d.channels,
                stream.slices[d.ref],
                need.cost[sha],
                contested[d.ref].bond if d.ref in contested else "",
                held_of(d, stream.blocks) if d.ref in contested else 0,
            )
            for sha, d in stream.decoders.items()
            if d.ref in stream.slices
        ]
        if budget is None:
            budget = default_budget(self.encoder.device)
        return schedule(stream.grid, stream.blocks, demands, need.encoder_cost, need.fixed, budget)

    def _readout(self, decoder: LoadedDecoder, outputs: tuple[Output, ...]) -> Readout:
        temperature = decoder.info.temperature if self.policy.calibration else 1.0
        head = finest_head(decoder) if decoder.info.config.deferred else None
        config = decoder.info.config
        return Readout(outputs, temperature, head, ignored_channels(config), config.regions)


def decoder_logits(
    model: SegmentationModel, ct: NDArray[Any], affine: NDArray[Any], ref: str
) -> Tensor:
    """Ungated logits of one decoder ``(K + 1, Z, Y, X)`` on the plan grid, float32."""
    return model.logits(ct, affine, [ref])[ref]


def logits_sha256(logits: Tensor) -> str:
    """Hash of shape and bits of `logits`: equal hashes, bit-identical logits."""
    array = np.ascontiguousarray(logits.detach().cpu().numpy())
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.data).hexdigest()


def _leaves(anatomies: Sequence[str]) -> list[frozenset[str]]:
    """Leaf ids of every name asked for."""
    known = vocabulary()
    for name in anatomies:
        anatomy = known[known.resolve(name)]
        if anatomy.coarse:
            parts = ", ".join(anatomy.parts)
            raise InputError(f"{name}: not an anatomy of its own; ask for its parts: {parts}")
    return [frozenset(known.leaves(name)) for name in anatomies]


def _shown(curve: BodyPartCurve | None, depth: int) -> NDArray[np.bool_]:
    """Slices of the scan that may hold a patient, ``(Z,)``: all if nothing looked for one."""
    if curve is None:
        return np.ones(depth, bool)
    return curve.patient_on_grid(depth, PATIENT_MARGIN_MM)


def _patient_slices(curve: BodyPartCurve | None, scan: Prepared) -> tuple[int, int] | None:
    """First and last slice with a patient, counted along the scan's own axis."""
    if curve is None or not curve.patient.any():
        return None
    depth = scan.shape[0]
    first, last = (int(z) for z in np.flatnonzero(curve.patient_on_grid(depth))[[0, -1]])
    backwards = scan.orientation.flips[0]
    return (depth - 1 - last, depth - 1 - first) if backwards else (first, last)


def _admitted(
    outputs: Sequence[Output], curve: BodyPartCurve | None, shown: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Slices of the scan that admit each output, ``(outputs, Z)``.

    Those that may hold a patient, and of them those in its widened range, and past that by as
    much as the scores may be off.

    Args:
        outputs: of one decoder.
        curve: to gate by, or None.
        shown: slices that may hold a patient, whatever the scores, ``(Z,)``.
    """
    admitted = np.tile(shown, (len(outputs), 1))
    if curve is not None:
        scores = curve.on_grid(len(shown))
        for row, output in zip(admitted, outputs, strict=True):
            if output.range is not None:
                low, high = output.range.low - curve.error, output.range.high + curve.error
                row &= (low <= scores) & (scores <= high)
    return admitted


def _hull(admitted: NDArray[np.bool_], back: csr_array) -> Interval:
    """Plan slices that the admitted slices of the scan are interpolated from, without gaps."""
    needed = back[np.flatnonzero(admitted.any(axis=0))].indices
    return (int(needed.min()), int(needed.max()) + 1) if len(needed) else (0, 0)
