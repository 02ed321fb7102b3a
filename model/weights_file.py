"""A file of weights that another program wrote, read without running anything that is in it."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from clnet.errors import IntegrityError, NotFound

__all__ = ["Allowed", "read_weights_file"]

Allowed = Sequence[Callable[..., Any] | tuple[Callable[..., Any], str]]

SLACK = 1 << 20
"""Bytes by which a file may be larger unpacked than on disk: torch does not compress."""


def read_weights_file(path: Path, missing: str, again: str, allowed: Allowed = ()) -> Any:
    """Read `path` with torch's restricted unpickler: tensors, numbers, text, and nothing else.

    Args:
        path: what ``torch.save`` wrote.
        missing: said of a file that is not there: where it should be.
        again: said of a file that asks for code to be run: how to get one that does not.
        allowed: names that may be unpickled besides, harmless ones.

    Raises:
        NotFound: there is no such file.
        IntegrityError: it is not a file of torch's, or holds more than weights.
    """
    if not path.is_file():
        raise NotFound(f"{path}: no such checkpoint; {missing}")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise IntegrityError(f"{path}: is no checkpoint that torch writes ({error})") from error
    if unpacked > path.stat().st_size + SLACK:
        raise IntegrityError(f"{path}: unpacks to {unpacked} bytes, far more than its size")
    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("GLOBAL ")[-1].split(" was not")[0].splitlines()[0][:120]
        raise IntegrityError(
            f"{path}: holds more than weights and numbers ({reason}), which is not loaded: it "
            f"could run code. {again}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}: is damaged ({str(error)[:200]})") from error
