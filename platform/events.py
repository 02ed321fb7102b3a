"""What a job tells while it runs: one JSON line per event, appended, read by whoever follows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EventLog", "JobEvent"]

EVENTS, CANCEL = "events.jsonl", "cancel"


class JobEvent(BaseModel):
    """One thing that happened to a job.

    Attributes:
        kind: the last three end the stream. A job is ``training`` whenever a worker begins
            with it, for the first time or after another one died.
        fraction: of the work that is done, 0 to 1.
        batch: batch of the stream, from 0; a job that resumes may tell of a batch again.
        loss: mean training loss since the last progress.
        dsc: validation Dice by anatomy.
        results: refs of what was made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal[
        "queued",
        "started",
        "training",
        "resumed",
        "progress",
        "validated",
        "pruned",
        "succeeded",
        "failed",
        "cancelled",
    ]
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    message: str = ""
    fraction: float | None = None
    batch: int | None = None
    loss: float | None = None
    dsc: dict[str, float] | None = None
    results: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self.kind in {"succeeded", "failed", "cancelled"}


class EventLog:
    """The events of one job, as a file.

    Args:
        folder: the job's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / EVENTS

    def append(self, kind: str, **fields: Any) -> JobEvent:
        """Write one event; a single write, so that lines of two writers never mix."""
        event = JobEvent.model_validate({"kind": kind, **fields})
        line = event.model_dump_json(exclude_none=True) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        return event

    def read(self, offset: int = 0) -> tuple[list[JobEvent], int]:
        """Whole lines from byte `offset` on, and where the next read begins."""
        try:
            with self.path.open("rb") as handle:
                handle.seek(offset)
                data = handle.read()
        except FileNotFoundError:
            return [], offset
        whole = data[: data.rfind(b"\n") + 1]
        events = [JobEvent.model_validate_json(line) for line in whole.splitlines() if line]
        return events, offset + len(whole)

    def __iter__(self) -> Iterator[JobEvent]:
        """All events so far."""
        return iter(self.read()[0])

    def cancel(self) -> None:
        """Ask whoever works on the job to stop."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / CANCEL).touch()

    @property
    def cancelled(self) -> bool:
        """Whether someone asked for the job to stop."""
        return (self.folder / CANCEL).exists()
