"""What a compacted decoder still has: features it reads, and channels where it is narrower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clnet.errors import Incompatible

__all__ = ["Reading", "Remains"]


@dataclass(frozen=True, slots=True)
class Remains:
    """What compaction left of a decoder, beyond its widths.

    Attributes:
        reads: per stage of the encoder, finest first, which of its features are read.
        ups: up-sampled features per scale, finest first.
        hidden: features inside each head's feature-level support; empty without supporters.
    """

    reads: tuple[tuple[int, ...], ...]
    ups: tuple[int, ...]
    hidden: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Remains:
        """Inverse of :func:`dataclasses.asdict`, also of what JSON makes of it."""
        return cls(
            reads=tuple(tuple(stage) for stage in values["reads"]),
            ups=tuple(values["ups"]),
            hidden=tuple(values["hidden"]),
        )

    def check(self, features: Sequence[int], heads: int) -> None:
        """See that they fit an encoder of these `features` and as many supported `heads`.

        Raises:
            Incompatible: they do not.
        """
        fits = (
            len(self.reads) == len(features)
            and len(self.ups) == len(features) - 1
            and len(self.hidden) == heads
            and min(*self.ups, *self.hidden, *map(len, self.reads), 1) >= 1
            and all(
                list(stage) == sorted(set(stage)) and stage[0] >= 0 and stage[-1] < count
                for stage, count in zip(self.reads, features, strict=True)
            )
        )
        if not fits:
            raise Incompatible(
                f"compacted decoder: what remains of it does not fit an encoder of "
                f"{len(features)} stages with {tuple(features)} features"
            )


class Reading(nn.Module):
    """Picks the features that a compacted decoder reads; all of them by default."""

    def __init__(self, features: Sequence[int], reads: Sequence[Sequence[int]] = ()) -> None:
        super().__init__()
        self.count = len(features)
        for stage, (every, read) in enumerate(zip(features, reads, strict=False)):
            picked = None if len(read) == every else torch.tensor(read)
            self.register_buffer(f"stage{stage}", picked, persistent=False)
        self.narrow = bool(reads)

    def forward(self, features: Sequence[Tensor]) -> Sequence[Tensor]:
        """Features ``(B, C, Z, Y, X)`` per stage, less those that are not read."""
        if not self.narrow:
            return features
        picks = [getattr(self, f"stage{stage}") for stage in range(self.count)]
        return [
            each if pick is None else each.index_select(1, pick)
            for each, pick in zip(features, picks, strict=True)
        ]
