"""The job queue's methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from clnet.decoders_registry.audit import note
from clnet.decoders_registry.core import Core
from clnet.decoders_registry.jobs import (
    JobRecord,
    JobStatus,
    all_jobs,
    beat,
    change_job,
    claim,
    find_job,
    insert_job,
    job_record,
    requeue,
)

__all__ = ["Queueing"]


class Queueing(Core):
    """The methods about jobs."""

    def create_job(self, kind: str, spec: Mapping[str, Any]) -> JobRecord:
        """Queue a job; `spec` is what the runner of this kind needs, as JSON."""

        def work(session: Session) -> JobRecord:
            row = insert_job(session, kind, dict(spec))
            note(session, self.actor, "job.create", row.id, kind=kind)
            return job_record(row)

        return self.database.write(work)

    def job(self, job_id: str) -> JobRecord:
        """The job with this id."""
        with self.database.read() as session:
            return job_record(find_job(session, job_id))

    def jobs(self, status: JobStatus | None = None) -> list[JobRecord]:
        """Jobs, oldest first, of one status or of all."""
        with self.database.read() as session:
            return [job_record(row) for row in all_jobs(session, status)]

    def update_job(
        self,
        job_id: str,
        status: JobStatus | None = None,
        *,
        owner: str | None = None,
        events: str | None = None,
        error: str | None = None,
        results: Sequence[str] | None = None,
    ) -> JobRecord:
        """Change what is given; a finished job keeps its status.

        Args:
            owner: if given, refuse when the job belongs to another runner by now.

        Raises:
            Incompatible: not a possible next status (a cancelled job cannot succeed), or the
                job belongs to somebody else.
        """

        def work(session: Session) -> JobRecord:
            before = find_job(session, job_id).status
            row = change_job(
                session,
                job_id,
                status=status,
                owner=owner,
                events=events,
                error=error,
                results=results,
            )
            if row.status != before:
                note(session, self.actor, f"job.{row.status}", row.id)
            return job_record(row)

        return self.database.write(work)

    def claim_job(self, owner: str, kinds: Sequence[str] | None = None) -> JobRecord | None:
        """Take the oldest queued job, so that no other runner gets it; None if nothing waits."""

        def work(session: Session) -> JobRecord | None:
            row = claim(session, owner, kinds)
            if row is None:
                return None
            note(session, self.actor, "job.running", row.id, owner=owner)
            return job_record(row)

        return self.database.write(work)

    def heartbeat(self, job_id: str, owner: str) -> bool:
        """Say that `owner` still works on the job; False: it was cancelled or taken away, stop."""
        return self.database.write(lambda session: beat(session, job_id, owner))

    def requeue_lost(self, silent_for: timedelta) -> list[JobRecord]:
        """Put running jobs without a heartbeat for that long back into the queue."""

        def work(session: Session) -> list[JobRecord]:
            rows = requeue(session, silent_for)
            for row in rows:
                note(session, self.actor, "job.requeued", row.id, attempts=row.attempts)
            return [job_record(row) for row in rows]

        return self.database.write(work)
