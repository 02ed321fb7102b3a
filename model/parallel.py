"""Training with several workers: each takes its share of a batch, gradients are averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.nn import Parameter

__all__ = ["SOLO", "Workers", "all_workers"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers that train one network together.

    Attributes:
        rank: which one this process is, from 0.
        size: how many there are.
    """

    rank: int
    size: int

    def share(self, batch: Sequence[T]) -> Sequence[T]:
        """What this worker takes of a batch: every `size`-th patch."""
        return batch[self.rank :: self.size]

    def average(self, parameters: Iterable[Parameter], present: bool, device: torch.device) -> bool:
        """Replace gradients by their mean over those workers that have some.

        Every worker calls this at the same points. A network may have nothing to learn from
        one worker's patches and something from another's.

        Args:
            parameters: of one network, in the same order everywhere.
            present: whether this worker has gradients of it.
            device: where the parameters are.

        Returns:
            Whether any worker has gradients, so that a step is due.
        """
        if self.size == 1:
            return present
        count = torch.tensor(float(present), device=device)
        dist.all_reduce(count)
        if not count:
            return False
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= count
        return True

    def any(self, wish: bool, device: torch.device) -> bool:
        """Whether any worker wishes so; all get the same answer."""
        if self.size == 1:
            return wish
        wishes = torch.tensor(float(wish), device=device)
        dist.all_reduce(wishes)
        return bool(wishes)


SOLO = Workers(0, 1)


def all_workers() -> Workers:
    """The process group that this process belongs to, or this process alone."""
    if dist.is_available() and dist.is_initialized():
        return Workers(dist.get_rank(), dist.get_world_size())
    return SOLO
