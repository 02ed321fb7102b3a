"""One decoder of a pack: its training, what is known of it so far, and its tickets."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.lottery import Lottery
from clnet.model.ticket import Ticket
from clnet.model.training import Trainee
from clnet.model.validation import mean_score
from clnet.platform.assignment import Assignment
from clnet.tune_spaces.rewinding import keep_at

__all__ = ["Member"]


@dataclass(slots=True)
class Member:
    """One decoder of the pack and what is known of its training so far.

    Attributes:
        lottery: of a pruning.
        rewind: weights kept for a later pruning.
        dropped: why it was dropped from the pack; empty while it was not.
        dsc, history: last validation by anatomy, and (batch, mean) over time.
        accepted_dsc: the validation by anatomy of the pruned version accepted last.
        losses: of the batches since the last validation.
        loss: mean of the batches between the last two validations, whatever progress was told.
    """

    assignment: Assignment
    trainee: Trainee
    lottery: Lottery | None = None
    rewind: dict[str, Tensor] = field(default_factory=dict)
    dropped: str = ""
    dsc: dict[str, float] = field(default_factory=dict)
    history: list[tuple[int, float]] = field(default_factory=list)
    accepted_dsc: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    loss: float | None = None

    @property
    def rewind_step(self) -> int | None:
        """Batch after which weights are kept for a later pruning."""
        job = self.assignment.job
        if job.kind != "train":
            return None
        return keep_at(job.rewind, self.assignment.recipe.steps, job.batches_per_epoch)

    @property
    def learning(self) -> bool:
        """Whether a pruning has something left to try."""
        return self.lottery is not None and not self.lottery.finished

    def fraction(self, t: int) -> float:
        """How much is done after batch `t`, 0 to 1; pruning may end earlier."""
        steps = self.assignment.recipe.steps
        done = min(1.0, (t + 1 - self.trainee.origin) / steps)
        if self.lottery is None:
            return done
        return min(1.0, (len(self.lottery.rounds) - 1 + done) / len(self.lottery.schedule.cuts))

    def version(self) -> Decoder:
        """The decoder as it would be if the training ended now."""
        if self.lottery is not None:
            return self.lottery.schedule.version(self.trainee)
        return self.trainee.snapshot() if self.trainee.average else self.trainee.decoder

    def begin_pruning(self, dense_dsc: float) -> None:
        """Draw the first ticket; recovery begins with batch 0."""
        if self.lottery is not None:
            self.lottery.dense_dsc = dense_dsc
            self._recover(self.lottery.draw(self.trainee.decoder), 0)

    def recovered(self, t: int) -> None:
        """A recovery ended before batch `t`: accept it or not, and begin the next one."""
        if self.lottery is None or self.lottery.finished:
            return
        decoder = self.trainee.decoder
        decoder.load_state_dict(self.version().state_dict())
        scores = [dsc for batch, dsc in self.history if batch > self.trainee.origin]
        if self.lottery.judge(scores, decoder):
            self.accepted_dsc = self.dsc
            self._recover(self.lottery.draw(decoder), t)
        elif not self.lottery.finished:
            self._recover(self.lottery.ticket, t)

    def diverged(self, t: int) -> None:
        """The loss was not finite: a pruning keeps what it has accepted, others have nothing."""
        if self.lottery is not None and self.lottery.won:
            self.lottery.finished = True
        else:
            self.dropped = f"diverged: the loss was not finite at batch {t}"

    def _recover(self, ticket: Ticket | None, t: int) -> None:
        if ticket is not None:
            old = self.trainee
            self.trainee = Trainee(
                old.name, old.decoder, old.recipe, ticket, old.supporters, origin=t
            )

    def finish(self) -> Decoder:
        """The decoder that came of it, in evaluation mode; `dsc` is its validation."""
        if self.lottery is None:
            return self.trainee.finish()
        if self.lottery.won:
            self.trainee.decoder.load_state_dict(dict(self.lottery.accepted))
            self.dsc = self.accepted_dsc
        return self.trainee.decoder.eval()

    @property
    def ticket(self) -> Ticket | None:
        """The ticket of the decoder that :meth:`finish` gives."""
        if self.lottery is None:
            return self.trainee.ticket
        if self.lottery.won or self.lottery.ticket is None:  # None if nothing more was cut
            return self.lottery.accepted_ticket
        return self.lottery.ticket

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

    def validated(self, t: int, dsc: dict[str, float]) -> None:
        """Take in a validation after batch `t` - 1."""
        self.dsc = dsc
        self.history.append((t, mean_score(dsc)))
        if self.losses:
            self.loss = sum(self.losses) / len(self.losses)
            self.losses = []

    def about(self) -> dict[str, Any]:
        """What a checkpoint holds beside :meth:`state`, JSON-able."""
        lottery = self.lottery
        return {
            "dropped": self.dropped,
            "dsc": self.dsc,
            "history": self.history,
            "accepted_dsc": self.accepted_dsc,
            "losses": self.losses,
            "loss": self.loss,
            "origin": self.trainee.origin,
            "lottery": lottery and {"record": lottery.record(), "finished": lottery.finished},
        }

    def state(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint."""
        state = {f"state.{k}": v for k, v in self.trainee.state().items()}
        state |= {f"rewind.{k}": v for k, v in self.rewind.items()}
        lottery = self.lottery.state() if self.lottery else {}
        return state | {f"lottery.{k}": v for k, v in lottery.items()}

    def load(self, about: dict[str, Any], state: dict[str, Tensor]) -> None:
        """Continue from :meth:`about` and :meth:`state`."""
        self.dropped, self.dsc, self.loss = about["dropped"], about["dsc"], about["loss"]
        self.losses = list(about.get("losses", ()))  # older checkpoints lack them
        self.accepted_dsc = about["accepted_dsc"]
        self.history = [(int(t), float(dsc)) for t, dsc in about["history"]]
        if self.dropped:
            self.trainee.diverged = True
            return
        parts: dict[str, dict[str, Tensor]] = {"state": {}, "rewind": {}, "lottery": {}}
        for key, value in state.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        if self.lottery is not None:
            device = next(self.trainee.decoder.parameters()).device
            tensors = {k: v.to(device) for k, v in parts["lottery"].items()}
            self.lottery.load(about["lottery"]["record"], about["lottery"]["finished"], tensors)
            self._recover(self.lottery.ticket, about["origin"])
        self.trainee.load_state(parts["state"])
        self.rewind = parts["rewind"]
