"""Segmentation of one CT: a frozen encoder, its decoders, body parts and merge, together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import Incompatible, InputError, NotFound
from clnet.model.body_part import BodyPartModel
from clnet.model.body_part_curve import BodyPartCurve
from clnet.model.components import keep_largest
from clnet.model.encoder import Encoder
from clnet.model.geometry import (
    Orientation,
    Shape,
    Spacing,
    from_canonical,
    linear_matrix,
    plan_shape,
    resample,
    to_canonical,
)
from clnet.model.inference import (
    DecoderRunner,
    LoadedDecoder,
    Slab,
    SlidingWindow,
    decode_volume,
    with_supporters,
)
from clnet.model.merge import Claimant, Codebook, Fold, MergePolicy, merge
from clnet.model.outputs import Output, fold_logits, outputs_of
from clnet.model.plan import Plan
from clnet.model.result import Segmentation, summarise

__all__ = ["SegmentationModel", "decoder_logits", "logits_sha256"]

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class _Scan:
    """A CT on its canonical grid and on the plan's."""

    ct: NDArray[Any]
    spacing: Spacing
    orientation: Orientation
    hu: NDArray[np.float32]
    plan_spacing: Spacing

    @property
    def shape(self) -> Shape:
        z, y, x = self.ct.shape
        return z, y, x


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
        fold: Fold = merge,
    ) -> Segmentation:
        """Segment a CT.

        Args:
            ct: HU, in nibabel's axis order, any orientation.
            affine: 4x4, voxel indices to RAS+ mm.
            anatomies: names of what to look for, composites included; everything if None.
                Only the decoders that these need are run.
            progress: told the fraction done.
            run: computes one decoder on one window; in this process by default.
            fold: merges the decoders' logits; in this process by default.

        Raises:
            InputError: the image is not a volume of finite HU, or a name cannot be looked for.
        """
        told = progress if progress is not None else _silent
        told(0.0, "preparing the scan")
        scan = self._prepare(ct, affine)
        curve = self._curve(scan)
        served = [decoder for decoder in self.decoders if decoder.served]
        outputs = {decoder.ref: outputs_of(decoder.info) for decoder in served}
        asked = None if anatomies is None else _leaves(anatomies)
        reported = frozenset(
            output.anatomy
            for found in outputs.values()
            for output in found
            if asked is None or any(set(output.members) <= leaves for leaves in asked)
        )
        wanted = [d for d in served if any(o.anatomy in reported for o in outputs[d.ref])]
        gate = curve if self.policy.gating and curve is not None and curve.trusted else None
        admitted = {d.ref: _admitted(outputs[d.ref], gate, scan.shape[0]) for d in wanted}
        running = [d for d in wanted if admitted[d.ref].any()]
        told(0.05, f"running {len(running)} of {len(wanted)} decoders")
        slabs = self._decode(
            scan,
            {d.ref: _hull(admitted[d.ref], scan.hu.shape[0]) for d in running},
            run,
            lambda done, text: told(0.05 + 0.7 * done, text),
        )
        claimants = [
            Claimant(
                outputs[d.ref],
                d.tier,
                self._folded(slabs.pop(d.ref), outputs[d.ref], d),
                admitted[d.ref],
            )
            for d in running
        ]
        book = Codebook((d.tier, output) for d in wanted for output in outputs[d.ref])
        merged = fold(
            claimants,
            book,
            reported,
            scan.hu.shape[0],
            scan.shape,
            lambda done, text: told(0.75 + 0.2 * done, text),
        )
        keep_largest(merged.labels, merged.names, self.policy.largest_component)
        results = summarise(
            served,
            reported,
            None if asked is None else frozenset().union(*asked),
            merged,
            scan.ct,
            scan.spacing,
            curve,
        )
        told(1.0, "done")
        return Segmentation(
            labels={k: from_canonical(v, scan.orientation) for k, v in merged.labels.items()},
            names=merged.names,
            results=results,
            affine=np.array(affine, dtype=np.float64),
            spacing=scan.spacing,
            curve=curve,
            gated=gate is not None,
        )

    def logits(
        self,
        ct: NDArray[Any],
        affine: NDArray[Any],
        refs: Sequence[str] | None = None,
        run: DecoderRunner | None = None,
    ) -> dict[str, Tensor]:
        """Ungated logits ``(K + 1, Z, Y, X)`` on the plan grid, float32, by decoder ref.

        Raises:
            NotFound: a ref that is not loaded.
        """
        wanted = [d.ref for d in self.decoders] if refs is None else list(refs)
        missing = set(wanted) - {d.ref for d in self.decoders}
        if missing:
            raise NotFound(f"decoders {sorted(missing)}: not in this model")
        scan = self._prepare(ct, affine)
        whole = slice(0, scan.hu.shape[0])
        slabs = self._decode(scan, dict.fromkeys(wanted, whole), run, _silent)
        return {ref: slab.logits for ref, slab in slabs.items()}

    def _prepare(self, ct: NDArray[Any], affine: NDArray[Any]) -> _Scan:
        canonical, spacing, orientation = to_canonical(ct, affine)
        z, y, x = canonical.shape
        hu = resample(canonical, plan_shape((z, y, x), spacing, self.plan.spacing))
        if not np.isfinite(hu).all():
            raise InputError("image: holds NaN or infinite voxels; repair or replace them first")
        actual = tuple(
            size * old / new
            for size, old, new in zip(canonical.shape, spacing, hu.shape, strict=True)
        )
        return _Scan(canonical, spacing, orientation, hu, (actual[0], actual[1], actual[2]))

    def _curve(self, scan: _Scan) -> BodyPartCurve | None:
        if self.bpr is None:
            return None
        return self.bpr.curve(self.bpr.normalise(scan.hu), scan.plan_spacing)

    def _decode(
        self,
        scan: _Scan,
        slices: Mapping[str, slice],
        run: DecoderRunner | None,
        progress: Progress,
    ) -> dict[str, Slab]:
        """Logits by ref, on the plan slices asked for."""
        wanted = [decoder for decoder in self.decoders if decoder.ref in slices]
        slabs = decode_volume(
            torch.from_numpy(self.plan.normalise(scan.hu)),
            self.encoder,
            self.plan,
            with_supporters(wanted, self.decoders),
            {decoder.sha256: slices[decoder.ref] for decoder in wanted},
            self.window,
            run,
            progress,
        )
        return {decoder.ref: slabs[decoder.sha256] for decoder in wanted}

    def _folded(self, slab: Slab, outputs: Sequence[Output], decoder: LoadedDecoder) -> Slab:
        temperature = decoder.info.temperature if self.policy.calibration else 1.0
        return Slab(slab.first, fold_logits(slab.logits, outputs, temperature))


def decoder_logits(
    model: SegmentationModel, ct: NDArray[Any], affine: NDArray[Any], ref: str
) -> Tensor:
    """Ungated logits of one decoder ``(K + 1, Z, Y, X)`` on the plan grid, float32."""
    return model.logits(ct, affine, [ref])[ref]


def logits_sha256(logits: Tensor) -> str:
    """Hash of shape and bits of `logits`: equal hashes, bit-identical logits."""
    array = np.ascontiguousarray(logits.detach().cpu().numpy())
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.data).hexdigest()


def _silent(done: float, text: str) -> None:
    pass


def _leaves(anatomies: Sequence[str]) -> list[frozenset[str]]:
    """Leaf ids of every name asked for."""
    known = vocabulary()
    for name in anatomies:
        anatomy = known[known.resolve(name)]
        if anatomy.coarse:
            parts = ", ".join(anatomy.parts)
            raise InputError(f"{name}: not an anatomy of its own; ask for its parts: {parts}")
    return [frozenset(known.leaves(name)) for name in anatomies]


def _admitted(
    outputs: Sequence[Output], curve: BodyPartCurve | None, depth: int
) -> NDArray[np.bool_]:
    """Slices of the scan that admit each output, ``(outputs, Z)``.

    By its widened range, and past that by as much as the scores may be off.
    """
    admitted = np.ones((len(outputs), depth), bool)
    if curve is not None:
        scores = curve.on_grid(depth)
        for row, output in zip(admitted, outputs, strict=True):
            if output.range is not None:
                low, high = output.range.low - curve.error, output.range.high + curve.error
                row[:] = (low <= scores) & (scores <= high)
    return admitted


def _hull(admitted: NDArray[np.bool_], depth: int) -> slice:
    """Plan slices that the admitted slices of the scan are interpolated from, without gaps."""
    rows = linear_matrix(depth, admitted.shape[1]).numpy()[admitted.any(axis=0)]
    needed = np.flatnonzero((rows > 0).any(axis=0))
    return slice(int(needed[0]), int(needed[-1]) + 1)
