"""Which jobs train together: those that read the same stream through the same encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from clnet.platform.assignment import Assignment
from clnet.platform.train_worker import Pack, Share

__all__ = ["form_packs", "share_out"]


def form_packs(assignments: Iterable[Assignment]) -> list[Pack]:
    """Packs of equal ``pack_key``, each in the order of submission, named by their jobs."""
    together: dict[str, list[Assignment]] = {}
    for assignment in assignments:
        together.setdefault(assignment.pack_key, []).append(assignment)
    return [Pack(_name(members), tuple(members)) for members in together.values()]


def share_out(waiting: int, cpus: float, gpus: float, *, busy: bool) -> Share | None:
    """What the next of `waiting` packs gets of free CPUs and GPUs; None if it has to wait.

    A pack gets a CPU at least, as two workers on one core only get in each other's way; the
    only one there is (not `busy`) takes what others leave.
    """
    if cpus < (1 if busy else 0.1):
        return None
    started = max(1, min(waiting, int(cpus)))
    return Share(cpus / started, gpus / started)


def _name(members: Sequence[Assignment]) -> str:
    jobs = "\n".join(member.job_id for member in members)
    return f"pack-{members[0].job_id}-{hashlib.sha256(jobs.encode()).hexdigest()[:8]}"
