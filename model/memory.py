"""The memory that may be taken, and what networks take of it whatever the scan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from clnet.errors import InputError
from clnet.model.encoder import Encoder
from clnet.model.inference import LoadedDecoder, SlidingWindow, closure
from clnet.model.workload import workload

__all__ = ["Needs", "asked_budget", "default_budget", "free_memory", "needs", "parse_bytes"]

SHARE = 0.5  # of what is free, taken by default
READING = 48 << 20  # bytes for the blocks in work, whatever the scan, decoders and budget
UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Needs:
    """What the networks of a segmentation take.

    Attributes:
        encoder_cost: floating-point operations of the encoder on one window.
        cost: the same by decoder's hash, with all that it leans on.
        fixed: bytes beside the sums.
    """

    encoder_cost: float
    cost: Mapping[str, float]
    fixed: int


def needs(
    encoder: Encoder,
    decoders: Mapping[str, LoadedDecoder],
    patch: tuple[int, int, int],
    window: SlidingWindow,
) -> Needs:
    """What encoder and decoders take on a window of `patch` voxels.

    Args:
        encoder: of all decoders.
        decoders: by hash, supporters first.
        patch: voxels of a window (z, y, x).
        window: how often windows are seen, and how many are pending.
    """
    seen = len(window.flips)
    voxels = patch[0] * patch[1] * patch[2]
    image = torch.empty((1, 1, *patch), device="meta")
    encoding = workload(encoder, patch, image)
    features = _bytes(encoding.outputs)
    leaned_on = {s.sha256 for d in decoders.values() for s in d.info.config.supporters}
    logits: dict[str, list[torch.Tensor]] = {}
    flops: dict[str, float] = {}
    most, kept, pending = 0, 0, 0
    for sha, decoder in decoders.items():
        flops[sha] = 0.0
        if decoder.decoder is None:
            pending = max(pending, 0) + window.in_flight * 4 * voxels * decoder.channels
            continue
        support = [logits[s.sha256] for s in decoder.info.config.supporters if s.sha256 in logits]
        if len(support) < len(decoder.info.config.supporters):
            continue  # leans on one that is elsewhere; what that gives is counted there
        outputs = list(encoding.outputs)
        found = workload(decoder.decoder, patch, outputs, support, method="trunk")
        flops[sha] = found.flops * seen
        most = max(most, found.memory)
        if sha in leaned_on:
            logits[sha] = list(
                workload(decoder.decoder, (patch, "logits"), outputs, support).outputs
            )
            kept += _bytes(tuple(logits[sha]))
    cost = {
        sha: sum(flops[d.sha256] for d in closure([decoder], decoders))
        for sha, decoder in decoders.items()
    }
    working = max(encoding.memory, features + most + kept + pending)
    fixed = 4 * voxels + working + READING
    return Needs(encoding.flops * seen, cost, fixed)


def _bytes(tensors: tuple[torch.Tensor, ...]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def parse_bytes(text: str) -> int:
    """Bytes written as ``4GiB``, ``4G``, ``500 MB`` or ``1000000``.

    Raises:
        InputError: it is not such a text, or not more than 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if match is None or match[2] not in UNITS | BINARY or float(match[1]) <= 0:
        raise InputError(f"memory {text!r}: write it like 4GiB, 800MiB or 2000000000")
    return int(float(match[1]) * (UNITS | BINARY)[match[2]])


def asked_budget(asked: int | str | None) -> int | None:
    """A memory budget in bytes; None where none is asked for.

    Raises:
        InputError: it is not a size, or not more than 0.
    """
    budget = parse_bytes(asked) if isinstance(asked, str) else asked
    if budget is not None and budget <= 0:
        raise InputError(
            f"memory budget {asked!r}: more than 0 bytes expected; "
            "leave it out to use half of what is free"
        )
    return budget


def default_budget(device: torch.device) -> int:
    """Half of what is free on `device`."""
    return int(SHARE * free_memory(device))


def free_memory(device: torch.device) -> int:
    """Bytes free on `device`; on the CPU what this machine and this container still allow."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + held)
    return min(_machine(), _container())


def _machine() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 8 << 30  # a machine that does not say: as much as a small one has


def _container() -> int:
    """What the control group leaves; endless where there is no limit."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        cache = dict(
            line.split() for line in (CGROUP / "memory.stat").read_text().splitlines()
        ).get("inactive_file", "0")
    except (OSError, ValueError):
        return 1 << 62
    return 1 << 62 if limit == "max" else max(0, int(limit) - used + int(cache))
