"""A job with everything that a worker needs to run it, by content hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from clnet.data_catalog import StreamSpec
from clnet.model.decoder import DecoderConfig
from clnet.model.lottery import PruningSchedule
from clnet.model.training import Recipe
from clnet.platform.jobs import DecoderJob
from clnet.tune_spaces.rewinding import RewindTo

__all__ = ["Assignment"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job with everything it needs, by content hash.

    Attributes:
        job_id, job: what was asked.
        encoder_ref, encoder_sha256, bpr_ref, bpr_sha256: what the decoder is pinned to.
        stream, validation: what it reads.
        config: the decoder.
        anatomies: of its group, those that it has no channel for included.
        recipe: how it learns.
        learned, unions: what the data teaches, by exact labels and by unions.
        start_sha256, start_supporters: decoder that a training borrows its first weights from,
            and those it leans on.
        base_ref, base_sha256: version it begins with, of prune and update.
        rewind: earlier weights of the base, of prune.
        schedule: of prune.
        supporters: refs, in the order of ``config.supporters``.
        chain: hashes of all that it leans on, of what its supporters lean on too.
        distilled: channels that the data does not label and an older version knows, of a training
            that starts from one.
        terms: of each dataset, JSON-able.
    """

    job_id: str
    job: DecoderJob
    encoder_ref: str
    encoder_sha256: str
    bpr_ref: str
    bpr_sha256: str
    stream: StreamSpec
    validation: StreamSpec
    config: DecoderConfig
    anatomies: tuple[str, ...]
    recipe: Recipe
    learned: tuple[str, ...]
    unions: tuple[tuple[str, ...], ...]
    start_sha256: str | None = None
    start_supporters: tuple[str, ...] = ()
    base_ref: str | None = None
    base_sha256: str | None = None
    rewind: RewindTo | None = None
    schedule: PruningSchedule | None = None
    supporters: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    distilled: tuple[int, ...] = ()
    terms: tuple[dict[str, object], ...] = ()

    @property
    def pack_key(self) -> str:
        """Equal for jobs that can share a pack: they read the same stream the same way."""
        shared = {
            "encoder": self.encoder_sha256,
            "stream": self.stream.sha256,
            "validation": self.validation.sha256,
            "validate_every": self.job.validate_every,
            "checkpoint_every": self.checkpoint_every,
            "precision": self.job.precision,
            "rounds": bool(self.schedule and len(self.schedule.cuts) > 1),
            "cache_bytes": self.job.cache_bytes,
        }
        return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()

    @property
    def checkpoint_every(self) -> int:
        """Batches between checkpoints."""
        return self.job.checkpoint_every or max(1, self.recipe.steps // 10)

    @property
    def needs(self) -> tuple[str, ...]:
        """Hashes of the artefacts that a worker must have."""
        own = (
            self.encoder_sha256,
            self.bpr_sha256,
            self.start_sha256,
            self.base_sha256,
            self.rewind and self.rewind.sha256,
            self.rewind and self.rewind.start,
        )
        return (*(sha for sha in own if sha), *self.start_supporters, *self.chain)
