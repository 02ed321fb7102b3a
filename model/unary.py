"""Small whole numbers as bits: as many zeros as the number says, then a one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["from_unary", "to_unary"]


def to_unary(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    """Whole numbers from 0 on as bytes; the last byte is filled up with zeros."""
    bits = np.zeros(int(numbers.sum()) + len(numbers), np.uint8)
    bits[np.cumsum(numbers, dtype=np.int64) + np.arange(len(numbers))] = 1
    return np.packbits(bits)


def from_unary(code: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Inverse of :func:`to_unary`."""
    numbers: NDArray[np.int64] = np.diff(np.flatnonzero(np.unpackbits(code)), prepend=-1) - 1
    return numbers
