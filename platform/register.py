"""From a worker's delivery to a decoder version in the registry, with its whole lineage."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from clnet.decoders_registry import (
    DatasetUse,
    DecoderRecord,
    Lineage,
    Registry,
    TicketRecord,
)
from clnet.platform.assignment import Assignment
from clnet.platform.delivery import Delivery

__all__ = ["code_version", "register"]


def register(delivery: Delivery, assignment: Assignment, registry: Registry) -> DecoderRecord:
    """Store a finished decoder as the next version of its group.

    Doing it twice with the same bytes is doing it once, so a runner that died between storing
    and saying so does no harm.
    """
    job = assignment.job
    facts: dict[str, object] = {
        "job": job.model_dump(mode="json"),
        "job_id": assignment.job_id,
        "stream": assignment.stream.model_dump(mode="json"),
        "validation": assignment.validation.model_dump(mode="json"),
        "recipe": assignment.recipe.to_dict(),
    }
    if delivery.rewind is not None:
        sha256 = registry.artefacts.put(delivery.rewind)
        facts["rewind"] = {"sha256": sha256, "step": delivery.rewind_step}
    lineage = Lineage(
        command=job.command,
        code_version=code_version(),
        seeds={"decoder": job.seed, "stream": job.stream_seed},
        datasets=tuple(
            DatasetUse(ref=pin.ref, sha256=pin.sha256, terms=terms)
            for pin, terms in zip(assignment.stream.datasets, assignment.terms, strict=True)
        ),
        numerics=delivery.numerics,
        parents=_parents(assignment),
        config=facts,
    )
    config = delivery.config or assignment.config.to_dict()
    return registry.add_decoder(
        job.decoder,
        delivery.artefact,
        encoder=assignment.encoder_ref,
        body_part_model=assignment.bpr_ref,
        config={**config, "anatomies": list(assignment.anatomies)},
        metrics=delivery.metrics,
        learned=assignment.learned,
        unions=assignment.unions,
        ranges=delivery.ranges,
        supporters=assignment.supporters,
        parent=assignment.base_ref if job.kind == "update" else None,
        ticket=_ticket(delivery, assignment, registry),
        lineage=lineage,
        status="candidate" if delivery.reason else "accepted",
        status_reason=delivery.reason,
    )


def _parents(assignment: Assignment) -> tuple[str, ...]:
    """What the weights grew from, beyond what the record pins itself."""
    grown_from = {"prune": assignment.base_ref, "train": assignment.job.start, "update": None}
    ref = grown_from[assignment.job.kind]
    return (ref,) if ref else ()


def _ticket(delivery: Delivery, assignment: Assignment, registry: Registry) -> TicketRecord | None:
    """How the version was pruned. An update keeps its parent's ticket, cut weights and record:
    zeros do not tell it, for compaction leaves none of those that channels took along."""
    if assignment.job.kind == "update" and assignment.base_ref:
        return registry.decoder(assignment.base_ref).ticket
    if delivery.ticket is None:
        return None
    return TicketRecord(
        **delivery.ticket,
        rewind=assignment.rewind.name if assignment.rewind else None,
        dense_sha=assignment.base_sha256,
    )


@cache
def code_version() -> str:
    """Version of the package and, in a checkout, the commit as git describes it."""
    package = version("clnet")
    here = Path(__file__).resolve()
    # a package installed below somebody else's repository is not of that repository
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return package
    described = _git(here.parent, "describe", "--always", "--dirty", "--tags")
    return f"{package}+{described}" if described else package


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
