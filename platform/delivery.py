"""What a worker hands over for each decoder: bytes, ranges, scores, ready to be registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from clnet.model.artefact import decode_decoder, encode_decoder
from clnet.model.body_part import decode_body_part_model
from clnet.model.body_part_curve import Range
from clnet.model.calibration import Calibration
from clnet.model.compaction import compact_measured
from clnet.model.decoder import Decoder
from clnet.model.lottery import why_no_judge
from clnet.model.numerics import numerics_class
from clnet.model.validation import Judged, mean_score
from clnet.platform.channels import split_of
from clnet.platform.continuing import ranges_with
from clnet.platform.member import Member
from clnet.platform.pack_run import PackRun
from clnet.platform.ranges import body_part_curves, joined, measure_ranges
from clnet.platform.updates import Verdict, judge_update

__all__ = ["Delivery", "deliver"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One finished decoder, or why there is none.

    Attributes:
        dropped: why the decoder was dropped; empty if it was finished.
        artefact, rewind: bytes of the decoder, and of earlier weights for a later pruning.
        metrics: scores, JSON-able.
        ranges: by anatomy, JSON-able.
        numerics: the numerics class it was trained in.
        config: of the decoder, where it is not the assignment's because it was compacted.
        ticket: rate, sparsity, hash of the mask and what was done, of a pruned decoder.
        reason: why an update or a pruning stays a candidate; empty if it is accepted.
    """

    job_id: str
    dropped: str = ""
    artefact: bytes = b""
    rewind: bytes | None = None
    rewind_step: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, dict[str, float]] = field(default_factory=dict)
    numerics: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    ticket: dict[str, Any] | None = None
    reason: str = ""


def deliver(run: PackRun, artefacts: Callable[[str], bytes]) -> list[Delivery]:
    """Finish a pack: calibrate, measure ranges, judge updates, turn decoders into bytes.

    One delivery per job.
    """
    cases, _ = split_of(run.stream.stores, run.first.stream.val_fraction)
    curves = []
    if any(member.assignment.job.kind != "prune" for member in run.alive):
        bpr = decode_body_part_model(artefacts(run.first.bpr_sha256))
        curves = body_part_curves(cases, bpr)
    finished = {member.assignment.job_id: _finish(run, member) for member in run.alive}
    fitted = run.calibrations({job_id: done.decoder for job_id, done in finished.items()})
    deliveries = [Delivery(job_id, dropped=why) for job_id, why in run.refused.items()]
    for member in run.members:
        job_id = member.assignment.job_id
        if member.dropped:
            deliveries.append(Delivery(job_id, member.dropped))
            continue
        ranges: dict[str, Range] = {}
        if member.assignment.job.kind != "prune":
            assignment = member.assignment
            ranges = measure_ranges(assignment.config, assignment.unions, cases, curves)
        done = finished[job_id]
        deliveries.append(_deliver(run, member, done, ranges, fitted.get(job_id), artefacts))
    return deliveries


@dataclass(frozen=True, slots=True)
class _Finished:
    """A decoder as it is delivered, the weights kept for a later pruning, and its ticket."""

    decoder: Decoder
    earlier: Decoder | None
    ticket: dict[str, Any] | None


def _finish(run: PackRun, member: Member) -> _Finished:
    earlier = member.earlier()
    decoder, ticket = _ticket(run, member, member.finish())
    return _Finished(decoder.to(run.encoder.device), earlier, ticket)


def _deliver(
    run: PackRun,
    member: Member,
    done: _Finished,
    ranges: dict[str, Range],
    calibration: Calibration | None,
    artefacts: Callable[[str], bytes],
) -> Delivery:
    assignment, decoder = member.assignment, done.decoder
    info = replace(member.info(run.encoder.config), config=decoder.config)
    temperature = 1.0
    metrics: dict[str, Any] = {
        "dsc": member.dsc,
        "mean_dsc": mean_score(member.dsc),
        "validated_on": assignment.validation.split,
        "history": [list(point) for point in member.history],
        "loss": member.loss,
    }
    reason = ""
    if assignment.base_sha256 is not None:
        base, base_info = decode_decoder(artefacts(assignment.base_sha256))
        ranges = joined(base_info.ranges, ranges)
        temperature = base_info.temperature
        if assignment.job.kind == "update":
            verdict = _judge(run, member, base, decoder)
            metrics["update"] = {
                "before": dict(verdict.before),
                "after": dict(verdict.after),
                "agreement": dict(verdict.agreement),
                "phantoms": {name: list(dice) for name, dice in verdict.phantoms.items()},
            }
            reason = verdict.reason
    elif assignment.start_sha256 is not None and assignment.distilled:
        _, older = decode_decoder(artefacts(assignment.start_sha256))
        ranges = ranges_with(older, assignment.config.channels, ranges)
    reason = reason or _unaccepted(member)
    metrics["calibration"] = {"temperature": temperature}
    if calibration is not None:
        temperature = calibration.temperature
        metrics["calibration"] = calibration.to_dict()
    told = replace(info, ranges=ranges, temperature=temperature)
    return Delivery(
        job_id=assignment.job_id,
        artefact=encode_decoder(decoder.cpu(), told),
        rewind=encode_decoder(done.earlier, info) if done.earlier is not None else None,
        rewind_step=member.rewind_step,
        metrics=metrics,
        ranges={name: found.to_dict() for name, found in ranges.items()},
        numerics=numerics_class(run.encoder.device, assignment.job.precision),
        config=decoder.config.to_dict(),
        ticket=done.ticket,
        reason=reason,
    )


def _ticket(
    run: PackRun, member: Member, decoder: Decoder
) -> tuple[Decoder, dict[str, Any] | None]:
    """The decoder, compacted if whole channels were cut, and what its ticket tells."""
    ticket = member.ticket
    if ticket is None:
        return decoder, None
    details: dict[str, Any] = {}
    if member.lottery is not None:
        details = member.lottery.record()
        if member.lottery.schedule.scope == "channel":
            patch, precision = run.first.stream.patch_size, run.first.job.precision
            decoder, lanes = compact_measured(decoder, run.encoder.config, patch, precision)
            details["compacted"] = {"widths": list(decoder.config.widths), "lanes": lanes}
    return decoder, {
        "rate": ticket.rate,
        "sparsity": ticket.sparsity,
        "mask_sha256": ticket.sha256,
        "details": details,
    }


def _unaccepted(member: Member) -> str:
    """Why a pruning is not accepted; at one rate without a tolerance it is, whatever it scores."""
    lottery = member.lottery
    if lottery is None or lottery.won:
        return ""
    if not lottery.rounds:
        return "nothing more was cut than was before"
    if not member.dsc:
        return "nothing tells its cost: no validation patch shows an anatomy of the decoder"
    if member.assignment.job.kept_whatever_it_scores:
        return ""
    if hopeless := why_no_judge(lottery.dense_dsc or 0.0, lottery.schedule.tolerance):
        return hopeless
    rounds = ", ".join(f"{r.rate:.3f}: {r.dsc[-1]:.3f}" for r in lottery.rounds if r.dsc)
    return (
        f"no rate kept the mean DSC within {lottery.schedule.tolerance} of "
        f"{lottery.dense_dsc:.3f} ({rounds})"
    )


def _judge(run: PackRun, member: Member, base: Decoder, updated: Decoder) -> Verdict:
    assignment = member.assignment
    supporters = member.trainee.supporters
    return judge_update(
        run.encoder,
        run.plan,
        member.info(run.encoder.config),
        Judged(base.to(run.encoder.device), supporters),
        Judged(updated, supporters),
        run.validation.patches,
        assignment.validation.total,
        held_out=assignment.validation.split == "val",
        tolerance=assignment.job.may_lose,
        precision=assignment.job.precision,
    )
