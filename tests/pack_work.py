"""Jobs done in this process as a worker does them: with the artefacts they need and no others."""

from __future__ import annotations

import torch

from clnet.data_catalog import Catalog
from clnet.decoders_registry import DecoderRecord, Registry
from clnet.platform.assignment import Assignment
from clnet.platform.delivery import Delivery, deliver
from clnet.platform.jobs import DecoderJob
from clnet.platform.pack_run import PackRun
from clnet.platform.register import register
from clnet.platform.resolve import resolve, stores_for


def delivered(
    registry: Registry, catalog: Catalog, *jobs: DecoderJob
) -> list[tuple[Assignment, Delivery]]:
    """What comes of jobs that share a pack."""
    assignments = [resolve(str(i), job, registry, catalog) for i, job in enumerate(jobs)]
    sent = {sha: registry.artefact(sha) for a in assignments for sha in a.needs}
    run = PackRun(
        tuple(assignments),
        stores_for(jobs[0], registry, catalog),
        sent.__getitem__,
        torch.device("cpu"),
        lambda *told: None,
        lambda job_id: False,
    )
    run.run(lambda run: None)
    return list(zip(assignments, deliver(run, sent.__getitem__), strict=True))


def registered(
    registry: Registry, catalog: Catalog, *jobs: DecoderJob
) -> list[tuple[DecoderRecord, Delivery]]:
    """As :func:`delivered`, with the versions that are registered of it."""
    found = delivered(registry, catalog, *jobs)
    return [(register(delivery, assignment, registry), delivery) for assignment, delivery in found]
