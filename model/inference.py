"""Decoders ready to run, and how they are run on one window.

How a decoder is computed (batch of one window, windows of one global grid, order of sums)
depends on encoder and decoder alone, so that its logits are bit-identical whatever runs beside
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Protocol, get_args

import numpy as np
import torch
from torch import Tensor, nn

from clnet.errors import Incompatible, InputError
from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Decoder
from clnet.model.geometry import Orientation, Shape
from clnet.model.numerics import Precision, convolving

__all__ = [
    "DecoderRunner",
    "LoadedDecoder",
    "LocalRunner",
    "Pending",
    "SlidingWindow",
    "closure",
    "finest_head",
    "finest_logits",
    "mirror_axes",
    "resolved",
    "with_supporters",
]


OVERLAP = 0.25
AXES = "zyx"


@dataclass(frozen=True, slots=True)
class LoadedDecoder:
    """A decoder version, ready to run.

    Attributes:
        ref: such as ``abdomen/liver@3``.
        decoder: the network in evaluation mode, or None where a runner computes it elsewhere.
        head: its finest head, where the network is elsewhere and gives features.
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
    head: nn.Conv3d | None = None

    @property
    def channels(self) -> int:
        """Channels that its windows are summed in: logits, or the last features if fewer."""
        config = self.info.config
        return config.widths[0] if config.deferred else len(config.channels) + 1


class Pending(Protocol):
    """Outputs that are still being computed, such as a Ray Serve response."""

    def result(self) -> Sequence[Tensor]:
        """Wait for the outputs, finest first."""


class DecoderRunner(Protocol):
    """Computes one decoder on the features of one window.

    ``features`` are the encoder's, finest first; ``support`` holds the logits of each supporter.
    Gives what :meth:`clnet.model.decoder.Decoder.trunk` gives, or a promise of it.
    """

    def __call__(
        self,
        decoder: LoadedDecoder,
        features: Sequence[Tensor],
        support: Sequence[Sequence[Tensor]],
    ) -> Sequence[Tensor] | Pending:
        """What the trunk of `decoder` gives, finest first."""


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
        """What the trunk of `decoder` gives, finest first."""
        if decoder.decoder is None:
            raise Incompatible(f"decoder {decoder.ref}: its weights are not loaded here")
        with torch.inference_mode(), convolving(self.precision, features[0].device):
            return decoder.decoder.trunk(features, support)


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """How a volume is covered by windows of the plan's patch size.

    Attributes:
        overlap: fraction of a window that its neighbour shares, at least; 0 to below 1. By
            default a quarter, and half for an imported nnU-Net, as there.
        in_flight: windows whose logits may be pending at once.
        precision: of encoder and decoders.
        frame: how the axes of an imported network lie to the canonical ones; its windows are
            placed as nnU-Net places them, seen from its side. None for networks of our own.
        mirror: axes (0, 1, 2 for z, y, x) along which each window is also seen mirrored, in
            all combinations, as nnU-Net's test-time augmentation does. Off by default: a
            mirrored body has its sides swapped.
    """

    overlap: float | None = None
    in_flight: int = 2
    precision: Precision = "auto"
    mirror: tuple[int, ...] = ()
    frame: Orientation | None = None

    def __post_init__(self) -> None:
        if not set(self.mirror) <= {0, 1, 2} or len(set(self.mirror)) != len(self.mirror):
            raise InputError(f"sliding window: mirror {self.mirror}: axes among 0, 1, 2 expected")
        if not 0 <= self.share < 1:
            raise InputError(f"sliding window: overlap {self.overlap}: 0 to below 1 expected")
        if self.precision not in get_args(Precision):
            raise InputError(
                f"sliding window: precision {self.precision!r}: one of "
                f"{', '.join(get_args(Precision))} expected"
            )
        if self.in_flight < 1:
            raise InputError("sliding window: in_flight must be 1 at least")

    @property
    def share(self) -> float:
        """The overlap, or what it is by default."""
        return OVERLAP if self.overlap is None else self.overlap

    @property
    def flips(self) -> list[tuple[int, ...]]:
        """Axes to mirror, one entry per time that a window is seen."""
        axes = sorted(self.mirror)
        return list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))

    def starts(self, size: int, patch: int) -> list[int]:
        """Evenly spread first indices of the windows along an axis of `size` >= `patch`."""
        count = int(np.ceil((size - patch) / max(1.0, patch * (1 - self.share)))) + 1
        return [round(i) for i in np.linspace(0, size - patch, count)]

    def canonical(self, sizes: Shape) -> Shape:
        """Sizes along the network's axes, as ``(z, y, x)``."""
        z, y, x = (0, 1, 2) if self.frame is None else self.frame.axes
        return sizes[z], sizes[y], sizes[x]

    def turned(self, axis: int) -> bool:
        """Whether the network sees canonical axis `axis` the other way round."""
        return self.frame is not None and self.frame.flips[axis]

    def centre(self, axis: int, patch: int) -> float:
        """Where a window's weights peak; nnU-Net's do half a voxel off the middle."""
        if self.frame is None:
            return (patch - 1) / 2
        return patch - 1 - patch // 2 if self.turned(axis) else patch // 2

    def seen(self, patch: Tensor) -> Tensor:
        """A canonical patch ``(B, C, Z, Y, X)`` as the network sees it."""
        if self.frame is None:
            return patch
        axes = [self.frame.axes.index(axis) + 2 for axis in range(3)]
        flipped = patch.flip([a + 2 for a in range(3) if self.frame.flips[a]])
        return flipped.permute(0, 1, *axes).contiguous()

    def unseen(self, logits: Tensor) -> Tensor:
        """Inverse of :meth:`seen`, for logits."""
        if self.frame is None:
            return logits
        canonical = logits.permute(0, 1, *(axis + 2 for axis in self.frame.axes))
        return canonical.flip([a + 2 for a in range(3) if self.frame.flips[a]])


def mirror_axes(names: str) -> tuple[int, ...]:
    """Axes by their letters: ``zyx`` for all, none for the empty string.

    Raises:
        InputError: another letter, or one twice.
    """
    if not set(names) <= set(AXES) or len(set(names)) != len(names):
        raise InputError(
            f"mirror {names!r}: letters among z (along the body), y (front to back) and x (right "
            "to left) expected, such as zyx for all three"
        )
    return tuple(AXES.index(name) for name in names)


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


def closure(
    wanted: Sequence[LoadedDecoder], by_sha: Mapping[str, LoadedDecoder]
) -> list[LoadedDecoder]:
    """`wanted` and all they lean on, in the order of `by_sha`."""
    needed: set[str] = set()
    stack = [decoder.sha256 for decoder in wanted]
    while stack:
        sha = stack.pop()
        if sha not in needed:
            needed.add(sha)
            stack += [s.sha256 for s in by_sha[sha].info.config.supporters]
    return [decoder for sha, decoder in by_sha.items() if sha in needed]


def finest_head(decoder: LoadedDecoder) -> nn.Conv3d:
    """The 1x1x1 convolution that makes logits of the last features.

    Raises:
        Incompatible: neither the decoder nor its head is loaded here.
    """
    head = decoder.head if decoder.decoder is None else decoder.decoder.heads[0]
    if not isinstance(head, nn.Conv3d):
        raise Incompatible(f"decoder {decoder.ref}: its finest head is not loaded here")
    return head


def finest_logits(
    decoder: LoadedDecoder, outputs: Sequence[Tensor], precision: Precision
) -> Sequence[Tensor]:
    """What a decoder's trunk gave as logits at all scales, for those that lean on it."""
    if not decoder.info.config.deferred:
        return outputs
    with torch.inference_mode(), convolving(precision, outputs[0].device):
        return [finest_head(decoder)(outputs[0]), *outputs[1:]]


def resolved(outputs: Sequence[Tensor] | Pending) -> Sequence[Tensor]:
    """The outputs, waited for if they are a promise."""
    return outputs if isinstance(outputs, Sequence) else outputs.result()
