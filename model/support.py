"""Feature-level support: a decoder that leans on what finished decoders see."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

__all__ = ["HIDDEN", "FeatureLevelSupport"]

HIDDEN = 16  # fewer take as long: kernels work in blocks of 16 channels
INITIAL_GATE = 0.5


class FeatureLevelSupport(nn.Module):
    """Corrects a decoder's logits at one scale by its supporters' outputs.

    The contract of the authors' code: supporters' segmentation outputs are concatenated to the
    decoder's own, pass a 3x3x3 then a 1x1x1 convolution, are multiplied by a learnable gate that
    starts at 0.5, and are added to the decoder's output.

    Args:
        own, supporters: channels of the decoder and of all its supporters together.
        hidden: features between the two convolutions.
    """

    def __init__(self, own: int, supporters: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.mix = Convolution(
            spatial_dims=3,
            in_channels=own + supporters,
            out_channels=hidden,
            kernel_size=3,
            act=("LEAKYRELU", {"negative_slope": 0.01, "inplace": True}),
            norm=("INSTANCE", {"affine": True}),
            adn_ordering="NA",
        )
        self.project = nn.Conv3d(hidden, own, kernel_size=1)
        self.gate = nn.Parameter(torch.tensor(INITIAL_GATE))

    def forward(self, logits: Tensor, supporters: Sequence[Tensor]) -> Tensor:
        """Logits ``(B, K + 1, Z, Y, X)`` after the supporters' logits of the same scale."""
        seen = [logits.softmax(dim=1), *(s.softmax(dim=1) for s in supporters)]
        mixed: Tensor = self.project(self.mix(torch.cat(seen, dim=1)))
        return logits + self.gate * mixed
