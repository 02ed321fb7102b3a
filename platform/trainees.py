"""How a job's decoder starts: fresh, pruned and rewound, or as an older version to be updated."""

from __future__ import annotations

from collections.abc import Callable

import torch

from clnet.model.artefact import decode_decoder
from clnet.model.decoder import Decoder, adopt, build_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.ticket import Ticket, prunable
from clnet.model.training import Distillation, Trainee
from clnet.platform.resolve import Assignment
from clnet.tune_spaces.recovery import cut_and_rewind

__all__ = ["build_trainee", "ticket_of"]


def build_trainee(
    assignment: Assignment,
    encoder: EncoderConfig,
    artefacts: Callable[[str], bytes],
    device: torch.device,
) -> Trainee:
    """The trainee of a job as it is before the first batch; the same every time."""

    def decoder(sha256: str) -> Decoder:
        return decode_decoder(artefacts(sha256))[0].to(device)

    supporters = [decoder(pin.sha256) for pin in assignment.config.supporters]
    job, recipe = assignment.job, assignment.recipe
    if assignment.base_sha256 is None:
        fresh = build_decoder(assignment.config, encoder, job.seed).to(device)
        if assignment.start_sha256 is not None:
            adopt(fresh, decoder(assignment.start_sha256))
        return Trainee(assignment.job_id, fresh, recipe, supporters=supporters)
    start = decoder(assignment.base_sha256)
    if job.kind == "prune":
        assert job.rate is not None
        earlier = assignment.rewind_sha256 and decoder(assignment.rewind_sha256).state_dict()
        ticket = cut_and_rewind(start, job.rate, earlier or None)
        return Trainee(assignment.job_id, start, recipe, ticket=ticket, supporters=supporters)
    teacher = decoder(assignment.base_sha256)
    start.requires_grad_(True)
    return Trainee(
        assignment.job_id,
        start,
        recipe,
        ticket=ticket_of(start),
        supporters=supporters,
        distillation=Distillation(teacher, assignment.distilled) if assignment.distilled else None,
    )


def ticket_of(decoder: Decoder) -> Ticket | None:
    """The ticket that a pruned decoder's zeros are; None of a dense one."""
    mask = {name: weight.detach() != 0 for name, weight in prunable(decoder).items()}
    ticket = Ticket(0.0, mask)
    return Ticket(ticket.sparsity, mask) if ticket.cut else None
