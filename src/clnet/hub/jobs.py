"""Jobs: submitted to a runner that outlives the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from clnet.decoders_registry import JobRecord, JobStatus, Registry
from clnet.platform.events import EventLog, JobEvent
from clnet.platform.jobs import DecoderJob, JobHandle, submit
from clnet.platform.workspace import Workspace

__all__ = ["Jobs"]


class Jobs:
    """Jobs of one hub."""

    def __init__(self, workspace: Workspace, registry: Registry, ray: str | None) -> None:
        self._workspace = workspace
        self._registry = registry
        self._ray = ray

    @overload
    def submit(self, job: DecoderJob) -> JobHandle: ...

    @overload
    def submit(self, job: Sequence[DecoderJob]) -> list[JobHandle]: ...

    def submit(self, job: DecoderJob | Sequence[DecoderJob]) -> JobHandle | list[JobHandle]:
        """Queue a job, or several: those whose streams are equal share one pass of the encoder.

        Raises:
            NotFound: a dataset, encoder, body-part model, base or supporter that is not there.
            InputError: a job that contradicts itself or its data.
            Incompatible: parts that were not made for each other, data that was withdrawn, or
                earlier weights to rewind to that are not here.
        """
        if isinstance(job, DecoderJob):
            return submit([job], self._workspace, ray=self._ray)[0]
        return submit(job, self._workspace, ray=self._ray)

    def list(self, status: JobStatus | None = None) -> list[JobRecord]:
        """Jobs, oldest first, of one status or of all."""
        return self._registry.jobs(status)

    def logs(self, job_id: str) -> tuple[JobEvent, ...]:
        """What happened to a job so far; :meth:`JobHandle.events` waits for more.

        Raises:
            NotFound: there is no such job.
        """
        return tuple(EventLog(self._workspace.job_folder(self._registry.job(job_id).id)))

    def get(self, job_id: str) -> JobHandle:
        """A job, to follow, wait for or cancel.

        Raises:
            NotFound: there is none.
        """
        return JobHandle(self._registry.job(job_id).id, self._workspace, self._ray)
