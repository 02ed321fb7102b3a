"""One pack from its assignments to finished decoders: plain torch, resumable, no Ray.

Everything here is a function of the assignments and their artefacts; a run that starts again
from a checkpoint ends with the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from clnet.data_catalog import PatchStream, PlanStore, ReadAhead
from clnet.model.artefact import decode_encoder
from clnet.model.calibration import Calibration, calibrate
from clnet.model.decoder import Decoder
from clnet.model.training import FeatureCache, train_pack
from clnet.model.validation import Judged, mean_score, validate
from clnet.platform.assignment import Assignment
from clnet.platform.endings import HOPELESS, why_hopeless
from clnet.platform.member import Member
from clnet.platform.trainees import build_lottery, build_trainee

__all__ = ["PackRun", "Told"]

Artefacts = Callable[[str], bytes]
Told = Callable[[str, str, dict[str, Any]], object]
"""Called with a job id, the kind of an event and its fields."""

TALK_SECONDS = 1.0
CANCELLED = "cancelled"


class _NothingLeft(Exception):
    """Every decoder of the pack was dropped."""


class PackRun:
    """The training of one pack. A decoder that cannot be built is left out, its neighbours go on.

    Attributes:
        members: the decoders that were built.
        refused: why by job, of those that could not be.

    Args:
        assignments: of equal ``pack_key``.
        stores: plan stores of the stream's datasets, in its order.
        artefacts: bytes by hash.
        device: where to compute.
        tell: told of progress and validations.
        cancelled: whether a job is no longer wanted.
    """

    def __init__(
        self,
        assignments: tuple[Assignment, ...],
        stores: list[PlanStore],
        artefacts: Artefacts,
        device: torch.device,
        tell: Told,
        cancelled: Callable[[str], bool],
    ) -> None:
        first = assignments[0]
        encoder, self.plan = decode_encoder(artefacts(first.encoder_sha256))
        self.encoder = encoder.to(device)
        self.stream = PatchStream(stores, first.stream)
        self.validation = PatchStream(stores, first.validation)
        self.members: list[Member] = []
        self.refused: dict[str, str] = {}
        for each in assignments:
            try:
                trainee = build_trainee(each, encoder.config, artefacts, device)
                lottery = build_lottery(each, trainee, encoder.config, artefacts)
            except HOPELESS as error:
                self.refused[each.job_id] = why_hopeless(error)
            else:
                self.members.append(Member(each, trainee, lottery))
        self.t = 0
        self.first = first
        self._cache = _cache(first.stream.period, first.job.cache_bytes)
        self._kept = FeatureCache(first.validation.total, first.job.cache_bytes // 4)
        self._tell, self._cancelled = tell, cancelled
        self._losses: dict[str, list[float]] = {}
        self._told = time.monotonic()

    def run(self, checkpoint: Callable[[PackRun], None]) -> None:
        """Train to the end; `checkpoint` is called at every multiple of the checkpoint interval.

        Recoveries of pruned decoders follow one another along the stream, as long as any has
        something to try.
        """
        if not self.alive:
            return
        job, steps = self.first.job, self.first.recipe.steps
        self._keep_rewinds()
        self._begin_pruning()
        try:
            while self.t < steps or any(member.learning for member in self.alive):
                last = min(self._stops(steps))
                self._train(last)
                ended = last % steps == 0
                if last % job.validate_every == 0 or ended:
                    self._validate()
                self._keep_rewinds()
                if ended:
                    self._judge()
                if last % self.first.checkpoint_every == 0 or ended:
                    checkpoint(self)
        except _NothingLeft:
            return

    @property
    def alive(self) -> list[Member]:
        """Members that were not dropped."""
        return [member for member in self.members if not member.dropped]

    def _stops(self, steps: int) -> list[int]:
        every = (self.first.job.validate_every, self.first.checkpoint_every)
        stops = [(self.t // steps + 1) * steps, *((self.t // n + 1) * n for n in every)]
        return stops + [m.rewind_step for m in self.alive if (m.rewind_step or 0) > self.t]  # type: ignore[misc]

    def _train(self, last: int) -> None:
        spec = self.first.stream
        with ReadAhead(self.stream.patches, last) as patches:
            train_pack(
                self.encoder,
                [member.trainee for member in self.alive],
                patches,
                first=self.t,
                last=last,
                precision=self.first.job.precision,
                augment_seed=spec.seed if spec.augment else None,
                cache=self._cache,
                on_batch=self._after_batch,
            )
        self.t = last

    def _after_batch(self, t: int, losses: dict[str, float]) -> None:
        for member in self.alive:
            job_id = member.assignment.job_id
            if job_id in losses:
                member.losses.append(losses[job_id])
                self._losses.setdefault(job_id, []).append(losses[job_id])
            if member.trainee.diverged:
                member.diverged(t)
        if not self.alive:
            raise _NothingLeft
        if time.monotonic() - self._told < TALK_SECONDS:
            return
        self._told = time.monotonic()
        for member in self.alive:
            job_id = member.assignment.job_id
            if self._cancelled(job_id):
                member.dropped, member.trainee.diverged = CANCELLED, True
                continue
            seen = self._losses.pop(job_id, [])
            loss = sum(seen) / len(seen) if seen else None
            fields = {"batch": t, "fraction": member.fraction(t), "loss": loss}
            self._tell(job_id, "progress", fields)
        if not self.alive:
            raise _NothingLeft

    def _scores(self, members: list[Member]) -> dict[str, dict[str, float]]:
        judged = {
            member.assignment.job_id: Judged(member.version(), member.trainee.supporters)
            for member in members
        }
        total = self.first.validation.total
        with ReadAhead(self.validation.patches, total) as patches:
            return validate(
                self.encoder,
                judged,
                patches,
                total,
                precision=self.first.job.precision,
                cache=self._kept,
            )

    def calibrations(self, decoders: Mapping[str, Decoder]) -> dict[str, Calibration]:
        """Temperatures of finished decoders by job id, from the held-out cases.

        Decoders of which those show too little are left out; all are where no case is held out,
        for what was learned by heart tells nothing of how sure a decoder may be.
        """
        spec = self.first.validation
        if not decoders or spec.split != "val":
            return {}
        supporters = {m.assignment.job_id: m.trainee.supporters for m in self.members}
        judged = {job_id: Judged(d, supporters[job_id]) for job_id, d in decoders.items()}
        with ReadAhead(self.validation.patches, spec.total) as patches:
            return calibrate(
                self.encoder,
                judged,
                patches,
                spec.total,
                precision=self.first.job.precision,
                cache=self._kept,
            )

    def _validate(self) -> None:
        members = [m for m in self.alive if m.lottery is None or m.learning]
        scores = self._scores(members) if members else {}
        for member in members:
            job_id = member.assignment.job_id
            member.validated(self.t, scores[job_id])
            self._tell(job_id, "validated", {"batch": self.t, "dsc": member.dsc})

    def _begin_pruning(self) -> None:
        members = [m for m in self.alive if m.learning] if self.t == 0 else []
        scores = self._scores(members) if members else {}
        for member in members:
            member.begin_pruning(mean_score(scores[member.assignment.job_id]))

    def _judge(self) -> None:
        for member in self.alive:
            if member.lottery is None or member.lottery.finished:
                continue
            done = member.lottery.rounds[-1]
            member.recovered(self.t)
            verdict = "accepted" if done.accepted else "not accepted"
            text = f"rate {done.rate:.3f}, try {len(done.dsc)}: DSC {done.dsc[-1]:.3f}, {verdict}"
            self._tell(member.assignment.job_id, "pruned", {"batch": self.t, "message": text})

    def _keep_rewinds(self) -> None:
        for member in self.alive:
            if member.rewind_step == self.t:
                state = member.trainee.decoder.state_dict()
                member.rewind = {k: v.detach().clone() for k, v in state.items()}

    def save(self, folder: Path) -> None:
        """Write all that a later :meth:`load` needs."""
        for member in self.members:
            if not member.dropped:
                save_file(
                    {k: v.cpu().contiguous() for k, v in member.state().items()},
                    folder / f"{member.assignment.job_id}.safetensors",
                )
        about = {member.assignment.job_id: member.about() for member in self.members}
        text = json.dumps({"t": self.t, "members": about})
        (folder / "pack.json").write_text(text, encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Continue from :meth:`save`; the pack may have fewer members by now."""
        saved = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        self.t = int(saved["t"])
        for member in self.members:
            job_id = member.assignment.job_id
            about = saved["members"][job_id]
            state = {} if about["dropped"] else load_file(folder / f"{job_id}.safetensors")
            member.load(about, state)
            if not member.dropped:
                self._tell(job_id, "resumed", {"batch": self.t})


def _cache(period: int | None, max_bytes: int) -> FeatureCache | None:
    return None if period is None else FeatureCache(period, max_bytes)
