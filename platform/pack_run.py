"""One pack from its assignments to finished decoders: plain torch, resumable, no Ray.

Everything here is a function of the assignments and their artefacts; a run that starts again
from a checkpoint ends with the same bytes.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from clnet.data_catalog import PatchStream, PlanStore
from clnet.model.artefact import DecoderInfo, decode_encoder
from clnet.model.decoder import Decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.training import FeatureCache, Trainee, train_pack
from clnet.model.validation import Judged, mean_score, validate
from clnet.platform.resolve import Assignment
from clnet.platform.trainees import build_trainee

__all__ = ["Member", "PackRun", "Told"]

Artefacts = Callable[[str], bytes]
Told = Callable[[str, str, dict[str, Any]], object]
"""Called with a job id, the kind of an event and its fields."""

TALK_SECONDS = 1.0
CANCELLED = "cancelled"


class _NothingLeft(Exception):
    """Every decoder of the pack was dropped."""


@dataclass(slots=True)
class Member:
    """One decoder of the pack and what is known of its training so far.

    Attributes:
        rewind: weights kept for a later pruning.
        dropped: why it was dropped from the pack; empty while it was not.
        dsc, history: last validation by anatomy, and (batch, mean) over time.
        loss: mean since the last progress was told.
    """

    assignment: Assignment
    trainee: Trainee
    rewind: dict[str, Tensor] = field(default_factory=dict)
    dropped: str = ""
    dsc: dict[str, float] = field(default_factory=dict)
    history: list[tuple[int, float]] = field(default_factory=list)
    loss: float | None = None

    @property
    def rewind_step(self) -> int | None:
        """Batch after which weights are kept for a later pruning."""
        job = self.assignment.job
        return int(job.rewind * self.assignment.recipe.steps) if job.kind == "train" else None

    def averaged(self) -> Decoder:
        """The decoder as it would be if the training ended now."""
        if self.trainee.average is None:
            return self.trainee.decoder
        decoder = copy.deepcopy(self.trainee.decoder)
        self.trainee.average.copy_to(decoder)
        return decoder

    def info(self, encoder: EncoderConfig) -> DecoderInfo:
        """What the artefact says of the decoder; its ranges are still to be measured."""
        assignment = self.assignment
        return DecoderInfo(
            config=assignment.config,
            encoder_sha256=assignment.encoder_sha256,
            encoder_config=encoder,
            bpr_sha256=assignment.bpr_sha256,
            learned=assignment.learned,
            unions=assignment.unions,
        )

    def earlier(self) -> Decoder | None:
        """The decoder with the weights kept for a later pruning, if any were."""
        if not self.rewind:
            return None
        decoder = copy.deepcopy(self.trainee.decoder)
        decoder.load_state_dict(self.rewind)
        return decoder.cpu()


class PackRun:
    """The training of one pack.

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
        self.members = [
            Member(a, build_trainee(a, encoder.config, artefacts, device)) for a in assignments
        ]
        self.t = 0
        self.first = first
        self._cache = _cache(first.stream.period, first.job.cache_bytes)
        self._kept = FeatureCache(first.validation.total, first.job.cache_bytes // 4)
        self._tell, self._cancelled = tell, cancelled
        self._losses: dict[str, list[float]] = {}
        self._told = time.monotonic()

    def run(self, checkpoint: Callable[[PackRun], None]) -> None:
        """Train to the end; `checkpoint` is called at every multiple of the checkpoint interval."""
        job, steps = self.first.job, self.first.recipe.steps
        self._keep_rewinds()
        try:
            while self.t < steps and self.alive:
                last = min(self._stops(steps))
                self._train(last)
                if last % job.validate_every == 0 or last == steps:
                    self._validate()
                self._keep_rewinds()
                if last % self.first.checkpoint_every == 0 or last == steps:
                    checkpoint(self)
        except _NothingLeft:
            return

    @property
    def alive(self) -> list[Member]:
        """Members that were not dropped."""
        return [member for member in self.members if not member.dropped]

    def _stops(self, steps: int) -> list[int]:
        every = (self.first.job.validate_every, self.first.checkpoint_every)
        stops = [steps, *((self.t // n + 1) * n for n in every)]
        return stops + [m.rewind_step for m in self.alive if (m.rewind_step or 0) > self.t]  # type: ignore[misc]

    def _train(self, last: int) -> None:
        spec = self.first.stream
        train_pack(
            self.encoder,
            [member.trainee for member in self.alive],
            self.stream.patches,
            first=self.t,
            last=last,
            precision=self.first.job.precision,
            augment_seed=spec.seed if spec.augment else None,
            cache=self._cache,
            on_batch=self._after_batch,
        )
        self.t = last

    def _after_batch(self, t: int, losses: dict[str, float]) -> None:
        for job_id, loss in losses.items():
            self._losses.setdefault(job_id, []).append(loss)
        for member in self.alive:
            if member.trainee.diverged:
                member.dropped = f"diverged: the loss was not finite at batch {t}"
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
            member.loss = sum(seen) / len(seen) if seen else member.loss
            fraction = (t + 1) / self.first.recipe.steps
            self._tell(job_id, "progress", {"batch": t, "fraction": fraction, "loss": member.loss})
        if not self.alive:
            raise _NothingLeft

    def _validate(self) -> None:
        judged = {
            member.assignment.job_id: Judged(member.averaged(), member.trainee.supporters)
            for member in self.alive
        }
        scores = validate(
            self.encoder,
            judged,
            self.validation.patches,
            self.first.validation.total,
            precision=self.first.job.precision,
            cache=self._kept,
        )
        for member in self.alive:
            job_id = member.assignment.job_id
            member.dsc = scores[job_id]
            member.history.append((self.t, mean_score(member.dsc)))
            self._tell(job_id, "validated", {"batch": self.t, "dsc": member.dsc})

    def _keep_rewinds(self) -> None:
        for member in self.alive:
            if member.rewind_step == self.t:
                state = member.trainee.decoder.state_dict()
                member.rewind = {k: v.detach().clone() for k, v in state.items()}

    def save(self, folder: Path) -> None:
        """Write all that a later :meth:`load` needs."""
        about: dict[str, Any] = {}
        for member in self.members:
            job_id = member.assignment.job_id
            about[job_id] = {
                "dropped": member.dropped,
                "dsc": member.dsc,
                "history": member.history,
                "loss": member.loss,
            }
            if not member.dropped:
                state = {f"state.{k}": v for k, v in member.trainee.state().items()}
                state |= {f"rewind.{k}": v for k, v in member.rewind.items()}
                save_file(
                    {k: v.cpu().contiguous() for k, v in state.items()},
                    folder / f"{job_id}.safetensors",
                )
        text = json.dumps({"t": self.t, "members": about})
        (folder / "pack.json").write_text(text, encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Continue from :meth:`save`; the pack may have fewer members by now."""
        saved = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        self.t = int(saved["t"])
        for member in self.members:
            about = saved["members"][member.assignment.job_id]
            member.dropped = about["dropped"]
            member.dsc = about["dsc"]
            member.history = [(int(t), float(dsc)) for t, dsc in about["history"]]
            member.loss = about["loss"]
            if member.dropped:
                member.trainee.diverged = True
                continue
            state = load_file(folder / f"{member.assignment.job_id}.safetensors")
            own = {k.removeprefix("state."): v for k, v in state.items() if k.startswith("state.")}
            member.trainee.load_state(own)
            member.rewind = {
                k.removeprefix("rewind."): v for k, v in state.items() if k.startswith("rewind.")
            }
            self._tell(member.assignment.job_id, "resumed", {"batch": self.t})


def _cache(period: int | None, max_bytes: int) -> FeatureCache | None:
    return None if period is None else FeatureCache(period, max_bytes)
