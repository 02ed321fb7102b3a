"""The desk: takes scans in, passes a bounded number at a time to the model, keeps the results."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clnet.errors import ClnetError, NotFound, ServiceError
from clnet.serve.intake import ScanHeader
from clnet.serve.metrics import Meters
from clnet.serve.outcome import Outcome, Progress
from clnet.serve.segmentation_job import JobState, SegmentationJob
from clnet.serve.spool import Spool

__all__ = ["Desk", "DeskLimits", "Pipeline", "explained"]

logger = logging.getLogger(__name__)


class Pipeline(Protocol):
    """The two computations between a scan and its result; Ray is behind it, or nothing."""

    def segment(
        self, hu: NDArray[np.int16], affine: NDArray[np.float64], anatomies: tuple[str, ...] | None
    ) -> AsyncIterator[Progress | Outcome]:
        """Progress, then the outcome as the last item."""

    async def publish(
        self, hu: NDArray[np.int16], affine: NDArray[np.float64], header: bytes, outcome: Outcome
    ) -> dict[str, bytes]:
        """The result's files by name."""


@dataclass(frozen=True, slots=True)
class DeskLimits:
    """How much is taken on at once.

    Attributes:
        running: scans computed at the same time.
        waiting: scans in the queue; more are refused.
        results: finished jobs remembered; the oldest are forgotten.
    """

    running: int = 1
    waiting: int = 16
    results: int = 256


class Desk:
    """Jobs by id, and the queue in front of the model.

    Args:
        pipeline: what computes.
        spool: where scans wait and results lie.
        meters: what is counted.
        limits: bounds of the queue.
    """

    def __init__(
        self, pipeline: Pipeline, spool: Spool, meters: Meters, limits: DeskLimits
    ) -> None:
        self._pipeline = pipeline
        self._spool = spool
        self._meters = meters
        self._limits = limits
        self._jobs: dict[str, SegmentationJob] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(limits.running)

    async def submit(
        self, header: ScanHeader, hu: NDArray[np.int16], anatomies: tuple[str, ...] | None
    ) -> SegmentationJob:
        """Queue a scan.

        Raises:
            ServiceError: the queue is full.
        """
        queued = sum(job.state is JobState.QUEUED for job in self._jobs.values())
        if queued >= self._limits.waiting:
            raise ServiceError(f"{queued} scans are waiting already; try again in a while")
        job = SegmentationJob(
            affine=header.affine,
            header=header.nifti.binaryblock,
            anatomies=anatomies,
            warnings=header.warnings,
        )
        self._jobs[job.id] = job
        self._meters.waiting.inc()
        try:
            await asyncio.to_thread(self._spool.keep_scan, job.id, hu)
        except BaseException:
            del self._jobs[job.id]
            self._meters.waiting.dec()
            raise
        # An empty context: Ray Serve cancels what a request started when its client hangs up,
        # and finds it by a context variable; a job outlives the request that brought it.
        self._tasks[job.id] = asyncio.get_running_loop().create_task(
            self._run(job), context=contextvars.Context()
        )
        return job

    def job(self, key: str) -> SegmentationJob:
        """The job with that id.

        Raises:
            NotFound: it never was, was deleted, or was forgotten to make room.
        """
        try:
            return self._jobs[key]
        except KeyError:
            raise NotFound("no such segmentation; results are kept for a limited time") from None

    def result_file(self, key: str, name: str) -> Path:
        """A file of a finished job's result.

        Raises:
            NotFound: no such job, it has not succeeded, or its result has no such file.
        """
        job = self.job(key)
        if job.state is not JobState.SUCCEEDED:
            raise NotFound(f"the segmentation is {job.state.value} and has no result")
        return self._spool.result_file(job.id, name)

    async def delete(self, key: str) -> None:
        """Stop the job if it runs and forget everything about it.

        Raises:
            NotFound: as :meth:`job`.
        """
        self.job(key)
        task = self._tasks.get(key)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._jobs.pop(key, None)
        await asyncio.to_thread(self._spool.drop_result, key)

    async def close(self) -> None:
        """Stop all work."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _run(self, job: SegmentationJob) -> None:
        waiting, running = self._meters.waiting, self._meters.running
        began = time.perf_counter()
        try:
            try:
                await self._slots.acquire()
            finally:
                waiting.dec()
            try:
                with running.track_inprogress():
                    self._note(job, "wait", began)
                    await self._compute(job)
            finally:
                self._slots.release()
        except asyncio.CancelledError:
            job.end(JobState.CANCELLED)
            raise
        except ClnetError as error:
            job.end(JobState.FAILED, explained(error))
        except Exception:
            logger.exception("segmentation %s failed", job.id)
            job.end(JobState.FAILED, INTERNAL)
        finally:
            self._spool.drop_scan(job.id)
            self._meters.segmentations.labels(job.state.value).inc()
            self._tasks.pop(job.id, None)
            self._forget_old()

    async def _compute(self, job: SegmentationJob) -> None:
        job.state = JobState.RUNNING
        began = time.perf_counter()
        hu = await asyncio.to_thread(self._spool.scan, job.id)
        outcome: Outcome | None = None
        async for event in self._pipeline.segment(hu, job.affine, job.anatomies):
            if isinstance(event, Progress):
                job.progress, job.stage = 0.95 * event.fraction, event.text
            else:
                outcome = event
        if outcome is None:
            raise ServiceError("the model ended without a result; try again")
        for stage, seconds in outcome.seconds.items():
            job.seconds[stage] = seconds
            self._meters.stage_seconds.labels(stage).observe(seconds)
        self._note(job, "segment", began)
        job.progress, job.stage = 0.95, "writing masks and pictures"
        began = time.perf_counter()
        files = await self._pipeline.publish(hu, job.affine, job.header, outcome)
        for key in await asyncio.to_thread(self._spool.keep_result, job.id, files):
            self._jobs.pop(key, None)
        self._note(job, "publish", began)
        self._meters.voxels.inc(hu.size)
        job.files = tuple(files)
        job.end(JobState.SUCCEEDED)

    def _note(self, job: SegmentationJob, stage: str, began: float) -> None:
        job.seconds[stage] = time.perf_counter() - began
        self._meters.stage_seconds.labels(stage).observe(job.seconds[stage])

    def _forget_old(self) -> None:
        over = [job for job in self._jobs.values() if job.over]
        for job in over[: max(0, len(over) - self._limits.results)]:
            del self._jobs[job.id]
            self._spool.drop_result(job.id)


INTERNAL = {
    "error": "the segmentation failed inside the service",
    "where": "service",
    "hint": "try again; if it fails again, the service's log says why",
}


def explained(error: ClnetError) -> dict[str, str]:
    """A refusal of the model as ``{error, where, hint}``."""
    # Ray wraps an exception of a replica: its text holds a traceback, its cause does not
    cause: Any = getattr(error, "cause", None) or error
    return {"error": str(cause), "where": "segmentation", "hint": "change the scan or the request"}
