"""What a runner runs: a pack of decoder jobs, or one encoder job."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from clnet.decoders_registry import JobRecord, Registry
from clnet.errors import ClnetError
from clnet.platform.assignment import Assignment
from clnet.platform.delivery import Delivery
from clnet.platform.encoder_jobs import ENCODER_JOB
from clnet.platform.encoder_work import encoder_work
from clnet.platform.endings import end_job, reason_of, why_hopeless
from clnet.platform.events import EventLog
from clnet.platform.jobs import DECODER_JOB, DecoderJob
from clnet.platform.pack_run import CANCELLED
from clnet.platform.packing import form_packs
from clnet.platform.register import register
from clnet.platform.resolve import resolve
from clnet.platform.train_worker import Pack, Share, train_on_ray
from clnet.platform.workspace import Workspace

if TYPE_CHECKING:
    import ray

__all__ = ["KINDS", "PackWork", "Work", "prepare"]

KINDS = (DECODER_JOB, ENCODER_JOB)
PACK = "pack.json"

Artefacts = Mapping[str, "ray.ObjectRef[bytes]"]


class Work(Protocol):
    """Something that takes a share of the cluster for a while and ends some jobs."""

    @property
    def name(self) -> str:
        """Of the run."""

    @property
    def job_ids(self) -> tuple[str, ...]:
        """Jobs that it ends."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Hashes of the artefacts that it reads."""

    def run(self, workspace: Workspace, share: Share, artefacts: Artefacts) -> None:
        """Do it. An error that leaves it means that Ray was lost."""


@dataclass(frozen=True, slots=True)
class PackWork:
    """A pack of decoder jobs."""

    pack: Pack

    @property
    def name(self) -> str:
        """Of the run."""
        return self.pack.name

    @property
    def job_ids(self) -> tuple[str, ...]:
        """Jobs that it ends."""
        return tuple(assignment.job_id for assignment in self.pack.assignments)

    @property
    def needs(self) -> tuple[str, ...]:
        """Hashes of the artefacts that it reads."""
        return tuple(dict.fromkeys(sha for a in self.pack.assignments for sha in a.needs))

    def run(self, workspace: Workspace, share: Share, artefacts: Artefacts) -> None:
        """Train the pack and register its decoders."""
        from ray.train import TrainingFailedError

        with workspace.registry() as registry:
            try:
                needed = {sha256: artefacts[sha256] for sha256 in self.needs}
                deliveries = train_on_ray(self.pack, workspace, share, needed)
            except TrainingFailedError as error:
                for job_id in self.job_ids:
                    end_job(job_id, workspace, registry, "failed", error=reason_of(error))
                return
            assignments = {assignment.job_id: assignment for assignment in self.pack.assignments}
            for delivery in deliveries:
                _end(assignments[delivery.job_id], delivery, workspace, registry)


def prepare(jobs: Sequence[JobRecord], workspace: Workspace, registry: Registry) -> list[Work]:
    """Resolve claimed jobs and pack the decoders'; one that cannot be done fails here.

    Jobs that were in a pack when an earlier runner died form that pack again, less those that
    it finished, so that the run goes on from its checkpoint.
    """
    catalog = workspace.catalog()
    encoders: list[Work] = []
    fresh: list[Assignment] = []
    begun: dict[str, list[Assignment]] = {}
    for job in jobs:
        log = EventLog(workspace.job_folder(job.id))
        if log.cancelled:
            end_job(job.id, workspace, registry, "cancelled")
            continue
        log.append("started")
        kept = log.folder / PACK
        try:
            if job.kind == ENCODER_JOB:
                encoders.append(encoder_work(job))
                continue
            assignment = resolve(job.id, DecoderJob.model_validate(job.spec), registry, catalog)
            if kept.exists():
                name = json.loads(kept.read_text(encoding="utf-8"))["name"]
                begun.setdefault(name, []).append(assignment)
            else:
                fresh.append(assignment)
        except (ClnetError, ValueError, OSError) as error:
            end_job(job.id, workspace, registry, "failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - the runner lives for the others
            traceback.print_exc()  # into the runner's log
            end_job(job.id, workspace, registry, "failed", error=why_hopeless(error))
    packs = form_packs(fresh)
    for pack in packs:
        for assignment in pack.assignments:
            kept = workspace.job_folder(assignment.job_id) / PACK
            kept.write_text(json.dumps({"name": pack.name}), encoding="utf-8")
    packs += [Pack(name, tuple(members)) for name, members in begun.items()]
    return encoders + [PackWork(pack) for pack in packs]


def _end(
    assignment: Assignment, delivery: Delivery, workspace: Workspace, registry: Registry
) -> None:
    job_id = assignment.job_id
    if delivery.dropped == CANCELLED:
        end_job(job_id, workspace, registry, "cancelled")
    elif delivery.dropped:
        end_job(job_id, workspace, registry, "failed", error=delivery.dropped)
    else:
        try:
            record = register(delivery, assignment, registry)
        except ClnetError as error:
            end_job(job_id, workspace, registry, "failed", error=str(error))
        else:
            end_job(job_id, workspace, registry, "succeeded", results=(record.ref,))
