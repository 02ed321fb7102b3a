"""3D convolutions on CPUs, kept off the slow path that torch leaves narrow ones to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["NarrowConvolutions"]

SMALL = 20480
"""Channels x planes x rows of one sample up to which torch computes a convolution itself
(``ConvParams::use_mkldnn`` in its ``aten/src/ATen/native/Convolution.cpp``)."""


class NarrowConvolutions(TorchFunctionMode):
    """Gives float32 convolutions of one small sample to oneDNN, as torch does with larger ones.

    torch judges by the size of the input alone. What it keeps for itself takes up to 25 times
    as long as in oneDNN (8 to 8 channels on 48³: 42 ms against 1.8 on two cores), and these are
    the layers that narrow and pruned decoders consist of. Convolutions that torch gives to
    oneDNN anyway, and those of one voxel, keep their bits.
    """

    @staticmethod
    def serves(device: torch.device, dtype: torch.dtype) -> bool:
        """Whether convolutions of `dtype` on `device` fall into the slow path at all."""
        onednn = torch.backends.mkldnn
        return (
            device.type == "cpu"
            and dtype is torch.float32
            and onednn.is_available()
            and bool(onednn.enabled)
        )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """`func`, or for a convolution that falls into the slow path the same in oneDNN."""
        if func is torch.conv3d and len(args) == 7 and not kwargs and _slow(*args):
            return _in_onednn(*args)
        return func(*args, **(kwargs or {}))


def _slow(
    image: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, *_: Any
) -> bool:
    return (
        image.ndim == 5
        and len(image) == 1
        and image.dtype is weight.dtype is torch.float32
        and image.device.type == "cpu"
        and 0 < math.prod(image.shape[1:4]) <= SMALL
        and math.prod(weight.shape[2:]) > 1
        and not isinstance(padding, str)
    )


def _in_onednn(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    if torch.is_grad_enabled() and (image.requires_grad or weight.requires_grad):
        # how torch computes gradients cannot be chosen but by the size of the batch; those of
        # the second sample are zero
        pair = torch.cat((image, torch.zeros_like(image)))
        return torch.conv3d(pair, weight, bias, stride, padding, dilation, groups)[:1]
    return torch.mkldnn_convolution(image, weight, bias, padding, stride, dilation, groups)
