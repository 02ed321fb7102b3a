"""What a network costs on one window, found out without computing: it is run on shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

__all__ = ["Workload", "workload"]

ACTIVATIONS = frozenset({"leaky_relu", "relu"})


@dataclass(frozen=True, slots=True)
class Workload:
    """Cost of one forward pass.

    Attributes:
        flops: floating-point operations of its convolutions.
        memory: bytes held at its peak, outputs included, inputs and weights not.
        outputs: what it gives, on the device ``meta``: shapes without values.
    """

    flops: float
    memory: int
    outputs: tuple[Tensor, ...]


_known: WeakKeyDictionary[nn.Module, dict[object, Workload]] = WeakKeyDictionary()


def workload(module: nn.Module, key: object, *inputs: Any, method: str = "forward") -> Workload:
    """Cost of `module` on inputs of the device ``meta``.

    Args:
        module: a network.
        key: tells inputs of different shapes apart; what was found for it is remembered.
        inputs: tensors, or lists of them.
        method: of `module`.
    """
    found = _known.setdefault(module, {})
    if key not in found:
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        weights = {f"module.{name}": _meta(value.shape) for name, value in state.items()}
        with torch.no_grad(), _Counting([*weights.values(), *inputs]) as counting:
            outputs = functional_call(_Calling(module, method), weights, inputs)
        found[key] = Workload(counting.flops, counting.peak, tuple(tree_leaves(outputs)))
    return found[key]


def _meta(shape: Sequence[int]) -> Tensor:
    return torch.empty(tuple(shape), device="meta")


class _Calling(nn.Module):
    """Any method of a module as its forward pass."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module = module
        self.method = method

    def forward(self, *inputs: Any) -> Any:
        return getattr(self.module, self.method)(*inputs)


class _Counting(TorchFunctionMode):
    """Counts operations, and bytes of the tensors that are alive.

    torch knows shapes itself, but the first time it is asked it imports symbolic mathematics,
    70 MB that stay: so the layers of U-Nets are told here, and torch is asked for others.
    """

    def __init__(self, given: Sequence[Any]) -> None:
        super().__init__()
        self.flops = 0.0
        self.peak = 0
        self._given = {StorageWeakRef(t.untyped_storage()) for t in tree_leaves(given)}
        self._alive: dict[StorageWeakRef, int] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        told = _told(name, args, kwargs or {})
        result = func(*args, **(kwargs or {})) if told is None else told
        if name.startswith("conv"):
            image, weight = args[:2]
            positions = image if "transpose" in name else result
            # weights per channel of the side whose voxels are counted
            own = weight.shape[1] * math.prod(weight.shape[2:])
            self.flops += 2.0 * positions.numel() * own
        self._note(result)
        # convolutions lay out input and output anew for the kernels that vectorise
        extra = _size(args[0]) + _size(result) if name.startswith("conv") else 0
        self.peak = max(self.peak, sum(self._alive.values()) + extra)
        return result

    def _note(self, result: Any) -> None:
        self._alive = {ref: size for ref, size in self._alive.items() if not ref.expired()}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                reference = StorageWeakRef(tensor.untyped_storage())
                if reference not in self._given:
                    self._alive[reference] = _size(tensor)


def _size(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().nbytes())


def _told(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """What a layer gives, or None where torch is to be asked."""
    if name in {"conv3d", "conv_transpose3d"} and len(args) >= 7 and not isinstance(args[4], str):
        image, weight, _, stride, padding, fifth, sixth = args[:7]
        sizes = zip(image.shape[2:], weight.shape[2:], stride, padding, fifth, strict=True)
        if name == "conv3d":
            out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes]
            return _meta([image.shape[0], weight.shape[0], *out])
        out = [(n - 1) * s - 2 * p + k + extra for n, k, s, p, extra in sizes]
        return _meta([image.shape[0], weight.shape[1] * sixth, *out])
    if name in {"leaky_relu_", "relu_"} or (name in ACTIVATIONS and kwargs.get("inplace")):
        return args[0] if isinstance(args[0], Tensor) else None
    if name in ACTIVATIONS or name in {"instance_norm", "group_norm", "softmax"}:
        return _meta(args[0].shape)
    if name == "index_select":
        shape = list(args[0].shape)
        shape[args[1]] = len(args[2])
        return _meta(shape)
    if name == "cat":
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        shape = list(args[0][0].shape)
        shape[dim] = sum(part.shape[dim] for part in args[0])
        return _meta(shape)
    if name in {"add", "sub", "mul"}:
        shapes = [part.shape for part in args[:2] if isinstance(part, Tensor)]
        return _meta(torch.broadcast_shapes(*shapes))
    return None
