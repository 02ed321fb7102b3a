"""A checkpoint of nnU-Net v2, read without running anything that is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clnet.errors import InputError
from clnet.model.weights_file import Allowed, read_weights_file

__all__ = ["Checkpoint", "read_checkpoint"]

WRAPPERS = ("module.", "_orig_mod.")
"""What distributed training and compilation put before the names of weights."""


class Checkpoint:
    """The network's weights, and what nnU-Net wrote beside them.

    Attributes:
        weights: by name, float32 or as stored.
        configuration: such as ``3d_fullres``, or None if the checkpoint does not say.
        trainer: name of the trainer class, or None.
        mirror: the network's axes that windows may be mirrored along at inference; none where
            the checkpoint does not say, as nnU-Net takes it.
    """

    def __init__(self, content: dict[str, Any], path: Path) -> None:
        weights = content.get("network_weights")
        if not isinstance(weights, dict) or not all(
            isinstance(v, Tensor) for v in weights.values()
        ):
            raise InputError(f"{path}: holds no network_weights; nnU-Net v2 did not write it")
        self.weights: dict[str, Tensor] = {_bare(str(k)): v for k, v in weights.items()}
        arguments = content.get("init_args")
        named = arguments.get("configuration") if isinstance(arguments, dict) else None
        self.configuration = named if isinstance(named, str) else None
        trainer = content.get("trainer_name")
        self.trainer = trainer if isinstance(trainer, str) else None
        self.mirror = _axes(content.get("inference_allowed_mirroring_axes"), path)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The weights below `prefix`, without it."""
        start = prefix + "."
        return {k.removeprefix(start): v for k, v in self.weights.items() if k.startswith(start)}


def _axes(value: Any, path: Path) -> tuple[int, ...]:
    axes = () if value is None else value
    if not isinstance(axes, list | tuple) or not all(
        isinstance(axis, int) and 0 <= axis <= 2 for axis in axes
    ):
        raise InputError(
            f"{path}: inference_allowed_mirroring_axes {value!r}: axes among 0, 1, 2 expected"
        )
    return tuple(sorted({int(axis) for axis in axes}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read `path` with torch's restricted unpickler: tensors, numbers, text, and nothing else.

    Raises:
        NotFound: there is no such file.
        IntegrityError: it is not a checkpoint, or asks for code to be run.
        InputError: it is a checkpoint of something else.
    """
    content = read_weights_file(
        path,
        "nnU-Net keeps one in each fold's folder",
        "Save it again with nnU-Net, or take it from where you trust it",
        _numbers(),
    )
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no network_weights; nnU-Net v2 did not write it")
    return Checkpoint(content, path)


def _numbers() -> Allowed:
    """NumPy's numbers, which nnU-Net's log of losses is made of; they carry no code."""
    from numpy._core.multiarray import scalar

    kinds = (np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_)
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
    ]


def _bare(name: str) -> str:
    while True:
        for wrapper in WRAPPERS:
            if name.startswith(wrapper):
                name = name.removeprefix(wrapper)
                break
        else:
            return name
