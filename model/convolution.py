"""3D convolutions on CPUs, kept off the slow path that torch leaves small ones to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

__all__ = ["SmallConvolutions"]

SMALL = 20480
"""Channels x planes x rows of one sample up to which torch computes a convolution itself
(``ConvParams::use_mkldnn`` in its ``aten/src/ATen/native/Convolution.cpp``)."""

LEARNING = range(3, 128)  # input channels of which torch's own gradients take longer

Sizes = Sequence[int]


class SmallConvolutions(TorchFunctionMode):
    """Gives float32 convolutions of one small sample to oneDNN, as torch does with larger ones.

    torch judges by the size of the input alone. What it keeps for itself takes up to 25 times
    as long as in oneDNN (8 to 8 channels on 48³: 42 ms against 1.8 on two cores; 128 to 128 on 8³:
    9.3 against 2.0 on one): all of a narrow or pruned decoder, and the deep layers of wide ones.
    Convolutions that torch gives to oneDNN anyway, and those of one voxel, keep their bits.
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
            image, weight = args[:2]
            learns = torch.is_grad_enabled() and (image.requires_grad or weight.requires_grad)
            if learns and image.shape[1] in LEARNING:
                return _Learning.apply(*args)  # type: ignore[no-untyped-call]
            return _forward(*args)
        return func(*args, **(kwargs or {}))


def _slow(
    image: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, *rest: Any
) -> bool:
    _, groups = rest
    return (
        image.ndim == 5
        and len(image) == 1
        and image.dtype is weight.dtype is torch.float32
        and image.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and 0 < math.prod(image.shape[1:4]) <= SMALL
        and math.prod(weight.shape[2:]) > 1
        and min(weight.shape[3:]) <= 3
        and groups == 1
        and not isinstance(stride, int)
        and not isinstance(padding, (int, str))
    )


def _forward(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    return torch.mkldnn_convolution(image, weight, bias, padding, stride, dilation, groups)


class _Learning(torch.autograd.Function):
    """The convolution with gradients from oneDNN too.

    Which kernel computes gradients can be chosen by nothing but the size of the batch, so a
    second sample of zeros stands beside the first one meanwhile.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.how, ctx.biased = how, bias is not None
        return _forward(image, weight, bias, *how)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.how
        wanted = [*ctx.needs_input_grad[:2], ctx.biased and ctx.needs_input_grad[2]]
        of_image, of_weight, of_bias = torch.ops.aten.convolution_backward(
            *(torch.cat((one, torch.zeros_like(one))) for one in (gradient, image)),
            weight,
            [len(weight)] if ctx.biased else None,
            stride,
            padding,
            dilation,
            False,
            [0, 0, 0],
            groups,
            wanted,
        )
        return (None if of_image is None else of_image[:1]), of_weight, of_bias, *(None,) * 4
