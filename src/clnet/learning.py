"""Jobs run to their end within one process, with one progress for all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from clnet.decoders_registry import DecoderRecord
from clnet.errors import JobFailed
from clnet.hub import Hub
from clnet.platform.events import EventLog
from clnet.platform.jobs import DECODER_JOB, DecoderJob, JobHandle, enqueue
from clnet.platform.runner import run_queued
from clnet.stages import Tell

__all__ = ["learn", "made_by"]

LOOK_SECONDS = 1.0


def learn(hub: Hub, jobs: Sequence[DecoderJob], tell: Tell | None = None) -> list[DecoderRecord]:
    """Queue `jobs`, work them off on Ray, and give the decoder versions they made, in order.

    Jobs whose streams are equal share a pack; packs run side by side. Equal jobs that an
    interrupted process left behind are gone on with instead of queued again.

    Raises:
        JobFailed: one of them failed; the others are finished and registered all the same.
    """
    if not jobs:
        return []
    begun = _begun(hub, jobs)
    fresh = iter(enqueue([job for i, job in enumerate(jobs) if i not in begun], hub.workspace))
    handles = [begun[i] if i in begun else next(fresh) for i in range(len(jobs))]
    with _told(handles, tell):
        if not run_queued(hub.workspace, hub.ray):  # another process works on this workspace
            for handle in handles:
                handle.wait()
    ended = [handle.record for handle in handles]
    for record in ended:
        if record.status != "succeeded":
            raise JobFailed(f"job {record.id} {record.status}: {record.error or 'no reason given'}")
    return [hub.decoders.get(record.results[0]) for record in ended]


def made_by(hub: Hub, job: DecoderJob) -> DecoderRecord | None:
    """The newest version that a job equal to `job` made, whatever its command; None if none did."""
    for record in reversed(hub.decoders.list(job.decoder)):
        if _spec(record.lineage.config.get("job") or {}) == _spec(job.model_dump(mode="json")):
            return record
    return None


def _begun(hub: Hub, jobs: Sequence[DecoderJob]) -> dict[int, JobHandle]:
    """Handles of unfinished jobs by the index of the equal one among `jobs`."""
    left = {
        record.id: _spec(record.spec)
        for record in hub.registry.jobs()
        if record.kind == DECODER_JOB and record.status in {"queued", "running"}
    }
    found = {}
    for index, job in enumerate(jobs):
        spec = _spec(job.model_dump(mode="json"))
        same = next((job_id for job_id, other in left.items() if other == spec), None)
        if same is not None:
            del left[same]
            found[index] = JobHandle(same, hub.workspace)
    return found


def _spec(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a job asks for, whoever typed it."""
    return {key: value for key, value in job.items() if key != "command"}


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
