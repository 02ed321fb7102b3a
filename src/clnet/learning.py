"""Jobs run to their end within one process, with one progress for all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from clnet.decoders_registry import DecoderRecord
from clnet.errors import JobFailed
from clnet.hub import Hub
from clnet.platform.events import EventLog
from clnet.platform.jobs import DecoderJob, JobHandle, enqueue
from clnet.platform.runner import run_queued
from clnet.stages import Tell

__all__ = ["learn"]

LOOK_SECONDS = 1.0


def learn(hub: Hub, jobs: Sequence[DecoderJob], tell: Tell | None = None) -> list[DecoderRecord]:
    """Queue `jobs`, work them off on Ray, and give the decoder versions they made, in order.

    Jobs whose streams are equal share a pack; packs run side by side.

    Raises:
        JobFailed: one of them failed; the others are finished and registered all the same.
    """
    handles = enqueue(jobs, hub.workspace)
    with _told(handles, tell):
        if not run_queued(hub.workspace, hub.ray):  # another process works on this workspace
            for handle in handles:
                handle.wait()
    ended = [handle.record for handle in handles]
    for record in ended:
        if record.status != "succeeded":
            raise JobFailed(f"job {record.id} {record.status}: {record.error or 'no reason given'}")
    return [hub.decoders.get(record.results[0]) for record in ended]


@contextmanager
def _told(handles: Sequence[JobHandle], tell: Tell | None) -> Iterator[None]:
    """Tell the mean progress of the jobs while the block runs."""
    if tell is None:
        yield
        return
    done = threading.Event()
    logs = [EventLog(handle.workspace.job_folder(handle.id)) for handle in handles]

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            fractions, text = [], "waiting for Ray"
            for log in logs:
                told = [event for event in log if event.fraction is not None]
                fractions.append((told[-1].fraction or 0.0) if told else 0.0)
                if told and told[-1].loss is not None:
                    text = f"batch {told[-1].batch}, loss {told[-1].loss:.2f}"
            tell(sum(fractions) / len(fractions), f"{len(logs)} decoders, {text}")

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
