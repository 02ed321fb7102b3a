"""What must be equal for results to be bit-equal, and the precision that a machine is fast in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Literal

import torch

from clnet.errors import InputError
from clnet.model.convolution import SmallConvolutions

__all__ = [
    "Precision",
    "convolving",
    "device_named",
    "numerics_class",
    "resolve_precision",
    "seeded",
    "threads",
]

Precision = Literal["auto", "float32", "bfloat16"]


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype that `precision` means on `device`.

    ``auto`` takes bfloat16 where the device multiplies it natively: on CUDA from compute
    capability 8.0 on, on x86 with AVX512-BF16 or AMX; elsewhere float32, as emulated bfloat16
    is slower than float32.
    """
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def device_named(name: str | None = None) -> torch.device:
    """The device of that name; without one the GPU where there is any, else the CPU.

    Raises:
        InputError: no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    here = ["cpu", "cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if not torch.cuda.is_available():
        here = ["cpu"]
    if str(device) not in here:
        raise InputError(f"device {name!r}: not on this machine; it has {', '.join(here)}")
    return device


def convolving(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision, or float32 on the fast path, for the convolutions of one forward pass."""
    dtype = resolve_precision(precision, device)
    if SmallConvolutions.serves(device, dtype):
        return SmallConvolutions()
    if dtype is torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def numerics_class(device: torch.device, precision: Precision = "auto") -> dict[str, str]:
    """Torch version, device and instruction set, threads and dtype, for an artefact's lineage."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{device.type} {_processor()}"
    dtype = resolve_precision(precision, device)
    found = {
        "torch": torch.__version__,
        "device": name,
        "threads": str(torch.get_num_threads()),
        "dtype": str(dtype).removeprefix("torch."),
    }
    if SmallConvolutions.serves(device, dtype):
        found["convolutions"] = "onednn"  # classes from before it differ
    return found


def _processor() -> str:
    """Instruction sets and what else decides which kernels run, and how they cut up their work."""
    known = torch.cpu.get_capabilities()
    kernels = [name for name in ("avx512_bf16", "avx512_fp16", "amx_bf16") if known.get(name)]
    caches = f"L2 {known.get('l2_cache_size', 0) // 1024} KiB"
    name = str(known.get("cpu_name", known.get("architecture", "")))
    return " ".join((torch.backends.cpu.get_cpu_capability(), *kernels, name, caches))


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute the block with this many threads; sums are cut up by threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's CPU generator seeded with `seed`; its old state comes back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
