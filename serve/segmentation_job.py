"""One segmentation that a client asked for: where it stands and what it gave."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clnet.serve.spool import new_id

__all__ = ["JobState", "SegmentationJob"]


class JobState(StrEnum):
    """Life of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class SegmentationJob:
    """A request on its way through the service.

    Attributes:
        affine: voxel indices of the scan to RAS+ mm.
        header: the scan's NIfTI header as bytes; masks inherit its grid.
        anatomies: canonical ids asked for; None means all of the release.
        warnings: doubts about the scan.
        progress: 0..1; `stage` says in words what happens.
        files: names of the result's files, once it succeeded.
        error: reason of a failure, as `{error, where, hint}`.
    """

    affine: NDArray[np.float64]
    header: bytes
    anatomies: tuple[str, ...] | None
    warnings: tuple[str, ...] = ()
    id: str = field(default_factory=new_id)
    state: JobState = JobState.QUEUED
    progress: float = 0.0
    stage: str = "waiting"
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    error: dict[str, str] | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        """Whether the state is final."""
        return self._over.is_set()

    async def wait(self, seconds: float) -> None:
        """Return when the job is over, at the latest after `seconds`."""
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except TimeoutError:
            return

    def end(self, state: JobState, error: dict[str, str] | None = None) -> None:
        """Enter a final state."""
        self.state = state
        self.error = error
        self.ended = datetime.now(UTC)
        if state is JobState.SUCCEEDED:
            self.progress, self.stage = 1.0, "done"
        self._over.set()

    def to_dict(self, base: str) -> dict[str, Any]:
        """What the API shows; `base` is the URL path of the collection of jobs."""
        here = f"{base}/{self.id}"
        return {
            "id": self.id,
            "state": self.state.value,
            "progress": round(self.progress, 4),
            "stage": self.stage,
            "anatomies": list(self.anatomies) if self.anatomies is not None else None,
            "warnings": list(self.warnings),
            "created": self.created.isoformat(),
            "ended": self.ended.isoformat() if self.ended else None,
            "seconds": {stage: round(s, 3) for stage, s in self.seconds.items()},
            "error": self.error,
            "links": {"self": here, **{name: f"{here}/{name}" for name in self.files}},
        }
