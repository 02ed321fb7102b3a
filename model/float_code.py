"""Weights in fewer bytes without loss: their exponents are few, so these take few bits.

Exponents are written by rank, the most frequent first, in unary: about 2.5 bits where float32 has
8 and float16 has 5. Signs and mantissas look like noise and stay as they are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.errors import IntegrityError
from clnet.model.unary import from_unary, to_unary

__all__ = ["decode_floats", "encode_floats"]

HEAD = struct.Struct("<IBH")
"""How many numbers, bits of a mantissa, how many exponents."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a kind of float numbers is laid out.

    Attributes:
        floats, words: the numbers, and whole numbers of the same bits, little-endian.
        mantissa, exponent: bits of each; the sign comes first.
    """

    floats: str
    words: str
    mantissa: int
    exponent: int


LAYOUTS = {layout.mantissa: layout for layout in (Layout("<f4", "<u4", 23, 8),
                                                  Layout("<f2", "<u2", 10, 5))}  # fmt: skip


def encode_floats(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Float32 or float16 numbers ``(N,)`` as bytes, every bit kept."""
    layout = LAYOUTS[10 if values.dtype == np.float16 else 23]
    words = values.astype(layout.floats).view(layout.words)
    exponents = (words >> layout.mantissa) & (2**layout.exponent - 1)
    counts = np.bincount(exponents, minlength=2**layout.exponent)
    used = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    ranks = np.zeros(len(counts), np.int64)
    ranks[used] = np.arange(len(used))
    # the sign moves next to the mantissa: 24 bits, or 11
    rest = words & (2**layout.mantissa - 1) | words >> layout.exponent & 2**layout.mantissa
    whole, odd = divmod(layout.mantissa + 1, 8)
    low = rest.astype(layout.words).view(np.uint8).reshape(len(values), words.itemsize)
    bits = [(rest >> (8 * whole + n) & 1).astype(np.uint8) for n in range(odd)]
    return np.concatenate(
        (
            np.frombuffer(HEAD.pack(len(values), layout.mantissa, len(used)), np.uint8),
            used.astype(np.uint8),
            low[:, :whole].ravel(),
            np.packbits(np.array(bits, np.uint8)),
            to_unary(ranks[exponents]),
        )
    )


def decode_floats(code: NDArray[np.uint8]) -> NDArray[Any]:
    """Inverse of :func:`encode_floats`; work and memory grow with the code.

    Raises:
        IntegrityError: `code` is not such bytes.
    """
    try:
        count, mantissa, exponents = HEAD.unpack(code[: HEAD.size].tobytes())
        layout = LAYOUTS[mantissa]
    except (struct.error, KeyError):
        raise _damaged() from None
    whole, odd = divmod(layout.mantissa + 1, 8)
    sizes = (HEAD.size, exponents, count * whole, (count * odd + 7) // 8)
    if sum(sizes) > len(code):
        raise _damaged()
    _, used, low, high, unary = np.split(code, np.cumsum(sizes))
    ranks = from_unary(unary)
    if len(ranks) != count or (count and ranks.max() >= exponents):
        raise _damaged()
    parts = np.zeros((count, np.dtype(layout.words).itemsize), np.uint8)
    parts[:, :whole] = low.reshape(count, whole)
    rest = parts.view(layout.words).ravel()
    for n, plane in enumerate(np.unpackbits(high, count=count * odd).reshape(odd, count)):
        rest |= plane.astype(layout.words) << (8 * whole + n)
    words = (
        rest & (2**layout.mantissa - 1)
        | (rest & 2**layout.mantissa) << layout.exponent
        | used[ranks].astype(layout.words) << layout.mantissa
    )
    values: NDArray[Any] = words.astype(layout.words).view(layout.floats)
    return values


def _damaged() -> IntegrityError:
    return IntegrityError("artefact: its list of weights is damaged")
