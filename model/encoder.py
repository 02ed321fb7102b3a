"""The general encoder: trained once on whole-body data, then frozen for ever."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from clnet.errors import InputError
from clnet.model.numerics import Precision, seeded

__all__ = ["Encoder", "EncoderConfig", "build_encoder", "conv_block", "freeze", "triple"]

Kernel = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Shape of a 3D U-Net encoder, one value per stage, finest first.

    The paper's encoder has six stages of 32, 64, ... 320 features, first kernel (1, 3, 3) and
    first stride (1, 2, 2); the defaults here are a small one for CPUs.

    Attributes:
        features: channels a stage gives.
        strides: down-sampling on entering a stage; the first is (1, 1, 1).
        kernels: kernel of a stage's convolutions.
        convs: convolutions of a stage.
    """

    features: tuple[int, ...] = (16, 32, 64, 96, 128)
    strides: tuple[Kernel, ...] = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    kernels: tuple[Kernel, ...] = ((3, 3, 3),) * 5
    convs: tuple[int, ...] = (2, 2, 2, 2, 2)

    def __post_init__(self) -> None:
        lengths = {len(self.features), len(self.strides), len(self.kernels), len(self.convs)}
        if len(lengths) != 1 or len(self.features) < 2:
            raise InputError(f"encoder: every setting needs one value per stage, got {lengths}")
        if self.strides[0] != (1, 1, 1):
            raise InputError("encoder: the first stage must keep the resolution, stride (1, 1, 1)")

    @property
    def reduction(self) -> Kernel:
        """Voxels along each axis that become one voxel of the coarsest features."""
        z, y, x = (math.prod(strides) for strides in zip(*self.strides, strict=True))
        return z, y, x

    def check_patch(self, size: Sequence[int]) -> None:
        """Look that patches of this size can be learned from.

        Going up again, features must meet those on their way down, so every stride must divide
        what it is applied to; and one voxel alone has no variance to normalise by.

        Args:
            size: voxels, ``(z, y, x)``.

        Raises:
            InputError: names the next larger size that fits.
        """
        parts = self.reduction
        fits = [max(1, -(-n // part)) * part for n, part in zip(size, parts, strict=True)]
        if fits == list(parts):
            fits[-1] *= 2
        if tuple(size) != tuple(fits):
            raise InputError(
                f"patch_size {tuple(size)}: the encoder takes one voxel in {parts}, so sizes must "
                f"be multiples of these, and not all equal to them: {tuple(fits)} is the next"
            )

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EncoderConfig:
        """Inverse of :meth:`to_dict`, of an imported network's configuration too."""
        if values.get("kind") == "nnunet":
            from clnet.model.nnunet.network import NnunetEncoderConfig

            return NnunetEncoderConfig.of(values["architecture"], values["kwargs"])
        if values.get("kind") == "monai-segresnet":
            from clnet.model.monai_encoder import SegResNetConfig

            return SegResNetConfig.from_own(values)
        return EncoderConfig(
            features=tuple(values["features"]),
            strides=tuple(triple(s) for s in values["strides"]),
            kernels=tuple(triple(k) for k in values["kernels"]),
            convs=tuple(values["convs"]),
        )

    def precision(self, device: torch.device) -> Precision:
        """What to compute its features and its decoders in, where nobody asks for another."""
        return "auto"

    def make(self) -> Encoder:
        """An encoder of this shape; its weights are still to be loaded or initialised."""
        return Encoder(self)


def triple(values: Sequence[int]) -> Kernel:
    """Three sizes, ``(z, y, x)``."""
    z, y, x = values
    return int(z), int(y), int(x)


def conv_block(channels_in: int, channels_out: int, kernel: Kernel, stride: Kernel) -> nn.Module:
    """Convolution, instance norm, leaky ReLU: nnU-Net's block, from MONAI."""
    return Convolution(
        spatial_dims=3,
        in_channels=channels_in,
        out_channels=channels_out,
        kernel_size=kernel,
        strides=stride,
        act=("LEAKYRELU", {"negative_slope": 0.01, "inplace": True}),
        norm=("INSTANCE", {"affine": True}),
        adn_ordering="NA",
    )


class Encoder(nn.Module):
    """Features of a CT patch at every scale.

    ``forward`` takes normalised intensities ``(B, 1, Z, Y, X)`` and gives a list of features,
    finest first; stage ``s`` has ``config.features[s]`` channels.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(self._stages())

    def _stages(self) -> list[nn.Module]:
        """What turns one scale into the next, finest first."""
        config = self.config
        stages: list[nn.Module] = []
        channels = 1
        for features, stride, kernel, convs in zip(
            config.features, config.strides, config.kernels, config.convs, strict=True
        ):
            blocks = [conv_block(channels, features, kernel, stride)]
            blocks += [conv_block(features, features, kernel, (1, 1, 1)) for _ in range(convs - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = features
        return stages

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of `image`, finest first."""
        features = []
        x = image
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def build_encoder(config: EncoderConfig, seed: int) -> Encoder:
    """A freshly initialised encoder; equal seeds give equal weights."""
    with seeded(seed):
        encoder = Encoder(config)
        initialise(encoder)
    return encoder


def initialise(module: nn.Module) -> None:
    """He initialisation for leaky ReLU, as nnU-Net does."""
    for part in module.modules():
        if isinstance(part, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(part.weight, a=0.01)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def freeze(encoder: Encoder) -> Encoder:
    """The same encoder, in evaluation mode and without gradients."""
    encoder.requires_grad_(False)
    return encoder.eval()
