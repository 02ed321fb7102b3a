"""How a job's decoder starts: fresh, or as an older version to be pruned or updated."""

from __future__ import annotations

from collections.abc import Callable

import torch

from clnet.model.artefact import decode_decoder
from clnet.model.decoder import Decoder, adopt, build_decoder
from clnet.model.distillation import shared_meanings
from clnet.model.encoder import EncoderConfig
from clnet.model.lottery import Lottery
from clnet.model.supporters import load_supporters
from clnet.model.ticket import read_ticket
from clnet.model.training import Distillation, Trainee
from clnet.platform.assignment import Assignment
from clnet.tune_spaces.recovery import earlier_decoder

__all__ = ["build_lottery", "build_trainee"]


def build_trainee(
    assignment: Assignment,
    encoder: EncoderConfig,
    artefacts: Callable[[str], bytes],
    device: torch.device,
) -> Trainee:
    """The trainee of a job as it is before the first batch; the same every time."""

    def decoder(sha256: str) -> Decoder:
        return decode_decoder(artefacts(sha256))[0].to(device)

    supporters = load_supporters(assignment.config, artefacts, device)
    job, recipe = assignment.job, assignment.recipe
    if assignment.base_sha256 is None:
        fresh = build_decoder(assignment.config, encoder, job.seed).to(device)
        distillation = None
        if assignment.start_sha256 is not None:
            donor, info = decode_decoder(artefacts(assignment.start_sha256))
            adopt(fresh, donor.to(device))
            if assignment.distilled:
                distillation = Distillation(
                    donor,
                    shared_meanings(assignment.config.channels, info),
                    load_supporters(donor.config, artefacts, device),
                )
        return Trainee(
            assignment.job_id, fresh, recipe, supporters=supporters, distillation=distillation
        )
    start = decoder(assignment.base_sha256)
    start.requires_grad_(True)
    if job.kind == "prune":  # its lottery draws the first ticket
        return Trainee(
            assignment.job_id, start, recipe, ticket=read_ticket(start), supporters=supporters
        )
    return Trainee(
        assignment.job_id,
        start,
        recipe,
        ticket=read_ticket(start),
        supporters=supporters,
        distillation=Distillation(decoder(assignment.base_sha256)),
    )


def build_lottery(
    assignment: Assignment,
    trainee: Trainee,
    encoder: EncoderConfig,
    artefacts: Callable[[str], bytes],
) -> Lottery | None:
    """The lottery of a pruning job as it is before the first ticket; None of other jobs."""
    if assignment.schedule is None or assignment.rewind is None:
        return None
    earlier = earlier_decoder(assignment.rewind, assignment.config, encoder, artefacts)
    return Lottery(
        assignment.schedule,
        trainee.decoder.state_dict(),
        trainee.ticket,
        earlier.state_dict() if earlier else None,
    )
