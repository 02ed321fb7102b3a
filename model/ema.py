"""Exponential moving average of weights: how a decoder takes in new data without old data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """Weights averaged over training steps.

    ``average = momentum * average + (1 - momentum) * weights`` with the momentum warmed up as
    ``min(momentum, (1 + t) / (10 + t))``, so that the first steps are not held back by the
    initialisation. `t` counts batches of the stream, skipped ones included. What counts, as a
    batch norm does, has no average and is taken as it is.
    """

    def __init__(self, module: nn.Module, momentum: float, *, warm_up: bool = True) -> None:
        self.momentum = momentum
        self.warm_up = warm_up
        self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, t: int) -> None:
        """Take in the weights after batch `t`."""
        momentum = min(self.momentum, (1 + t) / (10 + t)) if self.warm_up else self.momentum
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - momentum)
            else:
                self.weights[name].copy_(value)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Continue from saved averages."""
        for name, value in weights.items():
            self.weights[name].copy_(value)

    def copy_to(self, module: nn.Module) -> None:
        """Give the averages to `module`."""
        module.load_state_dict(self.weights)
