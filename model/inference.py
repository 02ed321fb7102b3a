"""Sliding-window inference: one encoding of each window, then every decoder that is needed.

How a decoder is computed (batch of one window, windows of one global grid, order of sums)
depends on encoder and decoder alone, so that its logits are bit-identical whatever runs beside
it. Windows are skipped for a decoder where no slice admits it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from clnet.errors import Incompatible, InputError
from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Decoder
from clnet.model.encoder import Encoder
from clnet.model.numerics import Precision, autocast
from clnet.model.plan import Plan

__all__ = [
    "DecoderRunner",
    "LoadedDecoder",
    "LocalRunner",
    "Pending",
    "Slab",
    "SlidingWindow",
    "decode_volume",
    "with_supporters",
]

SIGMA = 0.125  # of the window's size, as nnU-Net weighs its windows

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class LoadedDecoder:
    """A decoder version, ready to run.

    Attributes:
        ref: such as ``abdomen/liver@3``.
        decoder: the network in evaluation mode, or None where a runner computes it elsewhere.
        info: what it learned and was trained on.
        tier: 0 for what a release took from its parent first, then 1, 2, ...
        sha256: hash of its artefact, by which others lean on it.
        served: whether its anatomies are reported; False for one that only supports others.
    """

    ref: str
    decoder: Decoder | None
    info: DecoderInfo
    tier: int
    sha256: str
    served: bool = True


class Pending(Protocol):
    """Logits that are still being computed, such as a Ray Serve response."""

    def result(self) -> Sequence[Tensor]:
        """Wait for the logits, finest first."""


class DecoderRunner(Protocol):
    """Computes one decoder on the features of one window.

    ``features`` are the encoder's, finest first; ``support`` holds the logits of each supporter.
    Gives the decoder's logits, finest first, or a promise of them.
    """

    def __call__(
        self,
        decoder: LoadedDecoder,
        features: Sequence[Tensor],
        support: Sequence[Sequence[Tensor]],
    ) -> Sequence[Tensor] | Pending:
        """Logits of `decoder`, finest first."""


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """Computes decoders in this process."""

    precision: Precision = "auto"

    def __call__(
        self,
        decoder: LoadedDecoder,
        features: Sequence[Tensor],
        support: Sequence[Sequence[Tensor]],
    ) -> Sequence[Tensor]:
        """Logits of `decoder`, finest first."""
        if decoder.decoder is None:
            raise Incompatible(f"decoder {decoder.ref}: its weights are not loaded here")
        with torch.inference_mode(), autocast(self.precision, features[0].device):
            logits: list[Tensor] = decoder.decoder(features, support)
        return logits


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """How a volume is covered by windows of the plan's patch size.

    Attributes:
        overlap: fraction of a window that its neighbour shares, at least; 0 to below 1.
        in_flight: windows whose logits may be pending at once.
        precision: of encoder and decoders.
    """

    overlap: float = 0.25
    in_flight: int = 2
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise InputError(f"sliding window: overlap {self.overlap}: 0 to below 1 expected")
        if self.in_flight < 1:
            raise InputError("sliding window: in_flight must be 1 at least")

    def starts(self, size: int, patch: int) -> list[int]:
        """Evenly spread first indices of the windows along an axis of `size` >= `patch`."""
        count = int(np.ceil((size - patch) / max(1.0, patch * (1 - self.overlap)))) + 1
        return [round(i) for i in np.linspace(0, size - patch, count)]


@dataclass(frozen=True, slots=True)
class Slab:
    """Averaged logits of one decoder on the slices that admit it.

    Attributes:
        first: plan slice of ``logits[:, 0]``.
        logits: float32 ``(K + 1, slices, Y, X)`` on the plan grid.
    """

    first: int
    logits: Tensor


def with_supporters(
    wanted: Sequence[LoadedDecoder], loaded: Sequence[LoadedDecoder]
) -> list[LoadedDecoder]:
    """`wanted` and all they lean on, each after its supporters, otherwise by ref.

    Raises:
        Incompatible: a supporter is not loaded.
    """
    by_sha = {decoder.sha256: decoder for decoder in loaded}
    ordered: dict[str, LoadedDecoder] = {}

    def add(decoder: LoadedDecoder) -> None:
        for supporter in decoder.info.config.supporters:
            if supporter.sha256 not in by_sha:
                raise Incompatible(
                    f"decoder {decoder.ref}: leans on {supporter.sha256[:12]}, "
                    "which is not loaded; add it to the release"
                )
            add(by_sha[supporter.sha256])
        ordered[decoder.sha256] = decoder

    for decoder in sorted(wanted, key=lambda d: (d.ref, d.sha256)):
        add(decoder)
    return list(ordered.values())


@torch.inference_mode()
def decode_volume(
    image: Tensor,
    encoder: Encoder,
    plan: Plan,
    decoders: Sequence[LoadedDecoder],
    slices: Mapping[str, slice],
    window: SlidingWindow,
    run: DecoderRunner | None = None,
    progress: Progress | None = None,
) -> dict[str, Slab]:
    """Logits of `decoders` on the slices that are asked for.

    Args:
        image: normalised ``(Z, Y, X)`` on the plan grid.
        encoder: the frozen encoder, on the device to compute on.
        plan: the encoder's; volumes smaller than its patch are padded with air.
        decoders: supporters before those that lean on them (:func:`with_supporters`).
        slices: hash of a decoder to the plan slices to give; decoders that are not here run
            only where another leans on them.
        window: how the volume is covered.
        run: computes one decoder on one window; in this process by default.
        progress: told the fraction of windows done.

    Returns:
        Hash of each decoder in `slices` to its logits.
    """
    runner = run if run is not None else LocalRunner(window.precision)
    cover = _Cover(tuple(image.shape), plan.patch_size, window)
    padded = cover.pad(image, plan.air)
    targets = {d.sha256: d for d in decoders if d.sha256 in slices}
    by_sha = {d.sha256: d for d in decoders}
    sums = {sha: cover.blank(slices[sha], _classes(d)) for sha, d in targets.items()}
    waiting: deque[tuple[_Corner, dict[str, Sequence[Tensor] | Pending]]] = deque()

    def settle() -> None:
        corner, outputs = waiting.popleft()
        for sha, output in outputs.items():
            cover.add(sums[sha], slices[sha], corner, _resolve(output)[0][0].float().cpu())

    corners = cover.corners
    for done, corner in enumerate(corners):
        wanted = [sha for sha in targets if cover.touches(slices[sha], corner[0])]
        if wanted:
            patch = padded[cover.box(corner)].to(encoder.device)[None, None]
            with autocast(window.precision, patch.device):
                features = encoder(patch)
            outputs: dict[str, Sequence[Tensor] | Pending] = {}
            for sha in _closure(wanted, by_sha):
                support = []
                for supporter in by_sha[sha].info.config.supporters:
                    outputs[supporter.sha256] = _resolve(outputs[supporter.sha256])
                    support.append(_resolve(outputs[supporter.sha256]))
                outputs[sha] = runner(by_sha[sha], features, support)
            waiting.append((corner, {sha: outputs[sha] for sha in wanted}))
            if len(waiting) >= window.in_flight:
                settle()
        if progress is not None:
            progress((done + 1) / len(corners), f"window {done + 1} of {len(corners)}")
    while waiting:
        settle()
    return {sha: Slab(slices[sha].start, cover.crop(total)) for sha, total in sums.items()}


_Corner = tuple[int, int, int]


class _Cover:
    """The global grid of windows over one padded volume, and their weights, which sum to 1."""

    def __init__(
        self, shape: tuple[int, ...], patch: tuple[int, int, int], window: SlidingWindow
    ) -> None:
        self.shape, self.patch = shape, patch
        self.padded = [max(s, p) for s, p in zip(shape, patch, strict=True)]
        self.before = [(q - s) // 2 for s, q in zip(shape, self.padded, strict=True)]
        starts = [window.starts(q, p) for q, p in zip(self.padded, patch, strict=True)]
        self.corners: list[_Corner] = [
            (z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]
        ]
        self.weights = [_weights(starts[axis], patch[axis], self.padded[axis]) for axis in range(3)]

    def pad(self, image: Tensor, air: float) -> Tensor:
        out = torch.full(tuple(self.padded), air)
        out[tuple(slice(b, b + s) for b, s in zip(self.before, self.shape, strict=True))] = image
        return out

    def box(self, corner: _Corner) -> tuple[slice, ...]:
        return tuple(slice(c, c + p) for c, p in zip(corner, self.patch, strict=True))

    def blank(self, slices: slice, classes: int) -> Tensor:
        return torch.zeros((classes, slices.stop - slices.start, *self.padded[1:]))

    def _overlap(self, slices: slice, z: int) -> tuple[int, int]:
        first = max(slices.start + self.before[0], z)
        return first, min(slices.stop + self.before[0], z + self.patch[0])

    def touches(self, slices: slice, z: int) -> bool:
        first, last = self._overlap(slices, z)
        return first < last

    def add(self, total: Tensor, slices: slice, corner: _Corner, logits: Tensor) -> None:
        first, last = self._overlap(slices, corner[0])
        wz, wy, wx = (self.weights[axis][corner[axis]] for axis in range(3))
        z = slice(first - corner[0], last - corner[0])
        weight = wz[z, None, None] * (wy[:, None] * wx)
        start = first - slices.start - self.before[0]
        _, y, x = self.box(corner)
        total[:, start : start + last - first, y, x].addcmul_(logits[:, z], weight)

    def crop(self, total: Tensor) -> Tensor:
        (y, x), (sy, sx) = self.before[1:], self.shape[1:]
        return total[:, :, y : y + sy, x : x + sx].contiguous()


def _weights(starts: list[int], patch: int, size: int) -> dict[int, Tensor]:
    """Per window along one axis its Gaussian weights, so that all windows sum to 1 everywhere.

    The grid is a product of axes, so the weights of the volume are products of these.
    """
    offsets = np.arange(patch) - (patch - 1) / 2
    bell = np.exp(-0.5 * (offsets / (SIGMA * patch)) ** 2)
    total = np.zeros(size)
    for start in starts:
        total[start : start + patch] += bell
    return {s: torch.from_numpy((bell / total[s : s + patch]).astype(np.float32)) for s in starts}


def _classes(decoder: LoadedDecoder) -> int:
    return len(decoder.info.config.channels) + 1


def _resolve(output: Sequence[Tensor] | Pending) -> Sequence[Tensor]:
    return output if isinstance(output, Sequence) else output.result()


def _closure(wanted: Sequence[str], by_sha: Mapping[str, LoadedDecoder]) -> list[str]:
    """`wanted` and all they lean on, in the order of `by_sha`."""
    needed: set[str] = set()
    stack = list(wanted)
    while stack:
        sha = stack.pop()
        if sha not in needed:
            needed.add(sha)
            stack += [s.sha256 for s in by_sha[sha].info.config.supporters]
    return [sha for sha in by_sha if sha in needed]
