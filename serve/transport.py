"""Tensors and label maps on their way between processes, back to the bit as they were."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "PackedLabels",
    "PackedTensor",
    "pack_labels",
    "pack_tensors",
    "unpack_labels",
    "unpack_tensors",
]


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """A tensor as a contiguous array, which Ray shares between processes without a copy.

    Attributes:
        array: the values with axes in the order they lie in memory.
        axes: where each axis of `array` belongs. Layout decides which convolution kernel runs,
            and so the last bits of its result.
        dtype: torch's name of the type; numpy has no bfloat16, its bits travel as int16.
    """

    array: NDArray[Any]
    axes: tuple[int, ...]
    dtype: str


def pack_tensors(tensors: Sequence[Tensor]) -> list[PackedTensor]:
    """Tensors of any device, ready to travel."""
    return [_pack(tensor) for tensor in tensors]


def unpack_tensors(packed: Sequence[PackedTensor], device: str = "cpu") -> list[Tensor]:
    """Inverse of :func:`pack_tensors`, on `device`."""
    return [_unpack(item).to(device) for item in packed]


def _pack(tensor: Tensor) -> PackedTensor:
    import torch

    local = tensor.detach().cpu()
    strides = local.stride()
    axes = tuple(sorted(range(local.dim()), key=lambda axis: (-strides[axis], axis)))
    laid_out = local.permute(axes).contiguous()
    if laid_out.dtype is torch.bfloat16:
        laid_out = laid_out.view(torch.int16)
    return PackedTensor(laid_out.numpy(), axes, str(local.dtype).removeprefix("torch."))


def _unpack(packed: PackedTensor) -> Tensor:
    import torch

    # a copy in torch's own memory: the array is read-only and shared with other processes
    copy = torch.from_numpy(np.empty_like(packed.array))
    copy.numpy()[...] = packed.array
    tensor = copy.view(getattr(torch, packed.dtype))
    return tensor.permute(tuple(packed.axes.index(axis) for axis in range(tensor.dim())))


@dataclass(frozen=True, slots=True)
class PackedLabels:
    """A label map, deflated: a hundredth of its size, so that large scans fit shared memory."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str


def pack_labels(labels: NDArray[Any]) -> PackedLabels:
    """A label map, ready to travel."""
    data = zlib.compress(np.ascontiguousarray(labels).data, level=1)
    return PackedLabels(data, labels.shape, labels.dtype.str)


def unpack_labels(packed: PackedLabels) -> NDArray[Any]:
    """Inverse of :func:`pack_labels`."""
    flat = np.frombuffer(zlib.decompress(packed.data), dtype=np.dtype(packed.dtype))
    return flat.reshape(packed.shape).copy()  # writable, unlike the bytes
