"""The job queue: rows that runners claim, keep alive by a heartbeat, and finish."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clnet.decoders_registry.records import Moment, Plain, Record, now, plain
from clnet.decoders_registry.tables import JobRow
from clnet.errors import Incompatible, InputError, NotFound

__all__ = [
    "JobRecord",
    "JobStatus",
    "all_jobs",
    "beat",
    "change_job",
    "claim",
    "find_job",
    "insert_job",
    "job_record",
    "requeue",
]

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]

_NEXT: dict[str, set[str]] = {
    "queued": {"running", "failed", "cancelled"},
    "running": {"queued", "succeeded", "failed", "cancelled"},
    "succeeded": set(),
    "failed": set(),
    "cancelled": set(),
}
_ENDED = {"succeeded", "failed", "cancelled"}


class JobRecord(Record):
    """One piece of work.

    Attributes:
        id: sorts by time of creation.
        events: where its event stream is written.
        results: refs of what it made.
        owner: the runner that claimed it; `heartbeat` is its last sign of life.
        attempts: how often it was claimed.
    """

    id: str
    kind: str
    status: JobStatus
    spec: Plain
    events: str | None
    results: tuple[str, ...]
    error: str | None
    owner: str | None
    heartbeat: Moment | None
    attempts: int
    created: Moment
    started: Moment | None
    ended: Moment | None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in _ENDED


def job_record(row: JobRow) -> JobRecord:
    """The row as a record."""
    return JobRecord(
        id=row.id,
        kind=row.kind,
        status=row.status,
        spec=row.spec,
        events=row.events,
        results=tuple(row.results),
        error=row.error,
        owner=row.owner,
        heartbeat=row.heartbeat,
        attempts=row.attempts,
        created=row.created,
        started=row.started,
        ended=row.ended,
    )


def insert_job(session: Session, kind: str, spec: dict[str, Any]) -> JobRow:
    """Queue a job."""
    created = now()
    row = JobRow(
        id=f"{created:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        kind=kind,
        status="queued",
        spec=plain(spec),
        results=[],
        attempts=0,
        created=created,
    )
    session.add(row)
    session.flush()
    return row


def find_job(session: Session, job_id: str, *, lock: bool = False) -> JobRow:
    """The job with this id; `lock` keeps other writers off until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    row = session.get(JobRow, job_id, with_for_update=lock or None)
    if row is None:
        raise NotFound(f"job {job_id!r} is not in the registry")
    return row


def all_jobs(session: Session, status: JobStatus | None) -> list[JobRow]:
    """Jobs in the order of creation, of one status or of all."""
    query = sa.select(JobRow).order_by(JobRow.created, JobRow.id)
    if status is not None:
        query = query.where(JobRow.status == status)
    return list(session.scalars(query))


def change_job(
    session: Session,
    job_id: str,
    *,
    status: JobStatus | None,
    owner: str | None,
    events: str | None,
    error: str | None,
    results: Sequence[str] | None,
) -> JobRow:
    """Change what is given; see `Registry.update_job`."""
    row = find_job(session, job_id, lock=True)
    if owner is not None and row.status == "queued" and status == "running":
        row.owner = owner
    if owner is not None and row.owner != owner:
        raise Incompatible(f"job {job_id} belongs to {row.owner}, not to {owner}; leave it")
    if status is not None and status != row.status:
        _move(row, status)
    if events is not None:
        row.events = events
    if error is not None:
        row.error = error
    if results is not None:
        row.results = list(results)
    return row


def _move(row: JobRow, status: JobStatus) -> None:
    if status not in get_args(JobStatus):
        raise InputError(f"job status {status!r}: one of {', '.join(get_args(JobStatus))}")
    if status not in _NEXT[row.status]:
        raise Incompatible(f"job {row.id} is {row.status} and cannot become {status}")
    row.status = status
    if status == "running":
        row.started = row.heartbeat = now()
        row.attempts += 1
    elif status == "queued":
        row.owner = row.heartbeat = None
    else:
        row.ended = now()


def claim(session: Session, owner: str, kinds: Sequence[str] | None) -> JobRow | None:
    """Take the oldest queued job for `owner`; None if nothing waits."""
    query = (
        sa.select(JobRow)
        .where(JobRow.status == "queued")
        .order_by(JobRow.created, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if kinds is not None:
        query = query.where(JobRow.kind.in_(kinds))
    row = session.scalar(query)
    if row is not None:
        _move(row, "running")
        row.owner = owner
    return row


def beat(session: Session, job_id: str, owner: str) -> bool:
    """Sign of life from the job's owner; False tells it to stop, the job is no longer its own."""
    row = find_job(session, job_id, lock=True)
    if row.status != "running" or row.owner != owner:
        return False
    row.heartbeat = now()
    return True


def requeue(session: Session, silent_for: timedelta) -> list[JobRow]:
    """Put running jobs whose owner fell silent back into the queue."""
    stale = (
        sa.select(JobRow)
        .where(JobRow.status == "running", JobRow.heartbeat < now() - silent_for)
        .with_for_update(skip_locked=True)
    )
    rows = list(session.scalars(stale))
    for row in rows:
        _move(row, "queued")
    return rows
