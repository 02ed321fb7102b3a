"""Sparse weights in little space: which ones survive as Rice-coded gaps, then their values.

At 5 % survivors a bit mask costs 1 bit a weight, gaps cost 0.29 (the entropy is 0.286). Values
are float32, or float16 where every one of them is a float16 number: nothing is ever rounded.
They are coded (:mod:`clnet.model.float_code`) unless that takes more than they do.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clnet.errors import IntegrityError
from clnet.model.float_code import decode_floats, encode_floats
from clnet.model.unary import from_unary, to_unary

__all__ = ["POSITIONS", "decode_survivors", "encode_survivors", "float16_exact", "round_to_float16"]

POSITIONS, VALUES = "survivors", "values"
LARGEST_SHIFT = 24


def encode_survivors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The non-zero values of float32 tensors and where they are, as two tensors.

    The tensors are taken flat, by name, one after the other. A zero comes back as +0.
    """
    flat = torch.cat([state[name].detach().cpu().flatten() for name in sorted(state)])
    survives = flat != 0
    values = flat[survives]
    plain = values.half() if float16_exact(values) else values
    coded = torch.from_numpy(encode_floats(plain.numpy()))
    return {
        POSITIONS: torch.from_numpy(_encode(np.flatnonzero(survives.numpy()))),
        VALUES: min(coded, plain, key=lambda tensor: tensor.nbytes),
    }


def decode_survivors(packed: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of :func:`encode_survivors`; `like` has the names and shapes.

    Raises:
        IntegrityError: the two tensors are missing, damaged, or do not fit the shapes.
    """
    if packed.keys() != {POSITIONS, VALUES}:
        raise IntegrityError(f"artefact: expected survivors and values, found {sorted(packed)}")
    values = packed[VALUES].flatten()
    if values.dtype == torch.uint8:
        values = torch.from_numpy(decode_floats(values.numpy()))
    values = values.float()
    total = sum(tensor.numel() for tensor in like.values())
    flat = torch.zeros(total)
    where = _decode(packed[POSITIONS].flatten().numpy(), len(values))
    if len(where) and where[-1] >= total:
        raise IntegrityError("artefact: its weights do not fit their configuration: too many")
    flat[torch.from_numpy(where)] = values
    names = sorted(like)
    pieces = flat.split([like[name].numel() for name in names])
    return {name: piece.view_as(like[name]) for name, piece in zip(names, pieces, strict=True)}


def float16_exact(values: Tensor) -> bool:
    """Whether every value is a float16 number."""
    return bool(torch.equal(values.half().to(values.dtype), values))


@torch.no_grad()
def round_to_float16(module: torch.nn.Module) -> None:
    """Round all parameters to float16 numbers, in place; their dtype stays."""
    for parameter in module.parameters():
        parameter.copy_(parameter.half())


def _encode(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """One byte with the shift, the gaps' quotients in unary, their low bits."""
    gaps = np.diff(positions, prepend=-1) - 1
    shift = min(range(LARGEST_SHIFT + 1), key=lambda k: int((gaps >> k).sum()) + k * len(gaps))
    low = np.empty((len(gaps), shift), np.uint8)
    for bit in range(shift):
        low[:, bit] = (gaps >> bit) & 1
    head = np.array([shift], np.uint8)
    return np.concatenate((head, to_unary(gaps >> shift), np.packbits(low)))


def _decode(code: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Positions of `count` survivors; work and memory grow with the code, not with what it says."""
    if not len(code) or code.dtype != np.uint8 or code[0] > LARGEST_SHIFT:
        raise IntegrityError("artefact: its list of survivors is damaged")
    shift = int(code[0])
    tail = len(code) - (count * shift + 7) // 8
    quotients = from_unary(code[1 : max(1, tail)])
    if tail < 1 or len(quotients) != count:
        raise IntegrityError("artefact: its list of survivors is damaged")
    low = np.unpackbits(code[tail:], count=count * shift).reshape(count, shift)
    gaps = quotients << shift
    for bit in range(shift):
        gaps += low[:, bit].astype(np.int64) << bit
    positions: NDArray[np.int64] = np.cumsum(gaps + 1) - 1
    return positions
