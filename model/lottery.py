"""The lottery: pruning at rising rates, from one accepted version to the next.

Per rate: cut from the last accepted weights, rewind, recover. What recovered is accepted if its
moving-average DSC is within a tolerance of the dense decoder's; otherwise it recovers again with
the same mask, a few times, and then the last accepted version is the result. One-shot pruning
is the lottery with a single rate and no second try. Where the dense decoder scores no more than
the tolerance itself, everything would be within it: nothing is accepted then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from clnet.errors import InputError
from clnet.model.channel_ticket import draw_scoped_ticket
from clnet.model.decoder import Decoder
from clnet.model.survivors import round_to_float16
from clnet.model.ticket import Scope, Ticket, apply_ticket, check_rate, milder_rate
from clnet.model.training import Trainee

__all__ = ["RATES", "Lottery", "PruningSchedule", "Round", "milder_rates", "why_no_judge"]

RATES = (
    *(0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98),
    *(0.99, 0.992, 0.994, 0.996, 0.998),
)
"""The authors' rates, tried in turn."""

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class PruningSchedule:
    """What is cut, how often recovery is tried, and what counts as recovered.

    Attributes:
        rates: ascending fractions of the convolution weights to cut; those of 0 or less are
            skipped.
        tolerance: DSC, absolute, that the moving average may lie below the dense decoder's.
        retries: further recoveries with the same mask.
        scope: what competes for survival.
        window: validations that the moving average takes in, the newest of a recovery.
        float16: the version that is judged is its float16-rounded weights.
    """

    rates: tuple[float, ...] = RATES
    tolerance: float = 0.02
    retries: int = 8
    scope: Scope = "global"
    window: int = 3
    float16: bool = False

    def __post_init__(self) -> None:
        for rate in self.cuts:
            check_rate(rate)
        if list(self.cuts) != sorted(set(self.cuts)):
            raise InputError(f"pruning rates {self.rates}: must ascend, each once")
        if self.retries < 0 or self.window < 1:
            raise InputError("pruning: retries must be at least 0 and the window at least 1")

    @property
    def cuts(self) -> tuple[float, ...]:
        """The rates that cut anything."""
        return tuple(rate for rate in self.rates if rate > 0)

    def version(self, trainee: Trainee) -> Decoder:
        """The version that a recovery would end with now: averaged, and rounded if so asked."""
        decoder = trainee.snapshot()
        if self.float16:
            round_to_float16(decoder)
        return decoder


def milder_rates(width: int, rates: Sequence[float] = RATES) -> tuple[float, ...]:
    """Rates for a decoder of `width` base features, see :func:`clnet.model.ticket.milder_rate`."""
    return tuple(milder_rate(rate, width) for rate in rates)


def why_no_judge(dense_dsc: float, tolerance: float) -> str:
    """In words, why a dense decoder's DSC cannot tell what pruning costs; empty if it can.

    Up to the tolerance a decoder that finds nothing any more would pass.
    """
    if dense_dsc > tolerance:
        return ""
    return (
        f"nothing tells what pruning cost: the version that it began with has a mean DSC of "
        f"{dense_dsc:.3f}, no more than the tolerance of {tolerance}"
    )


@dataclass(slots=True)
class Round:
    """What was done at one rate.

    Attributes:
        rate, sparsity: fraction of convolution weights asked for and cut.
        mask_sha256: hash of the ticket.
        tries: recoveries begun so far.
        dsc: moving average at the end of each recovery.
        accepted: whether the last one was within the tolerance.
    """

    rate: float
    sparsity: float
    mask_sha256: str
    tries: int = 1
    dsc: list[float] = field(default_factory=list)
    accepted: bool = False


class Lottery:
    """Where the pruning of one decoder stands. It decides; others train and validate.

    Attributes:
        dense_dsc: what the dense version scores; to be said before anything is judged.
        rounds: what was done, rate by rate.
        accepted, accepted_ticket: weights and ticket of the last accepted version; those of the
            version to begin with while there is none.
        ticket: of the recovery under way.
        finished: whether nothing is left to try.

    Args:
        schedule: what to try.
        dense: weights of the version to begin with.
        older: ticket of that version, if it was pruned before: nothing of it regrows.
        earlier: weights to rewind survivors to; None lets them keep their own, so that only the
            learning rate is rewound.
    """

    def __init__(
        self,
        schedule: PruningSchedule,
        dense: Weights,
        older: Ticket | None = None,
        earlier: Weights | None = None,
    ) -> None:
        self.schedule = schedule
        self.dense_dsc: float | None = None
        self.rounds: list[Round] = []
        self.accepted: Weights = _copied(dense)
        self.accepted_ticket = older
        self.ticket: Ticket | None = None
        self.finished = False
        self._earlier = earlier

    def draw(self, decoder: Decoder) -> Ticket | None:
        """Cut the next rate from the accepted weights and rewind the survivors, in place.

        A rate that would cut nothing more is passed over.

        Returns:
            The ticket, or None if no rate is left; the lottery is finished then.
        """
        decoder.load_state_dict(dict(self.accepted))
        tried = self.rounds[-1].rate if self.rounds else 0.0
        for rate in (cut for cut in self.schedule.cuts if cut > tried):
            ticket = draw_scoped_ticket(decoder, rate, self.schedule.scope)
            if self.accepted_ticket is not None:
                ticket = ticket.within(self.accepted_ticket)
                if ticket.cut == self.accepted_ticket.cut:
                    continue
            if self._earlier is not None:
                decoder.load_state_dict(dict(self._earlier))
            apply_ticket(decoder, ticket)
            self.ticket = ticket
            self.rounds.append(Round(rate, ticket.sparsity, ticket.sha256))
            return ticket
        self.finished = True
        return None

    def average(self, scores: Sequence[float]) -> float:
        """The moving average at the end of a recovery's validations, oldest first."""
        newest = scores[-self.schedule.window :]
        return sum(newest) / len(newest)

    def judge(self, scores: Sequence[float], decoder: Decoder) -> bool:
        """Take in a recovery: its validations, and the decoder that it ended with.

        Returns:
            Whether it is accepted, so that the next ticket is to be drawn; if not, it recovers
            again with the same mask or, once :attr:`finished`, not at all.
        """
        if self.dense_dsc is None:
            raise InputError("lottery: say the dense decoder's DSC before its tickets are judged")
        current = self.rounds[-1]
        current.dsc.append(self.average(scores))
        tolerance = self.schedule.tolerance
        hopeless = why_no_judge(self.dense_dsc, tolerance)
        current.accepted = not hopeless and current.dsc[-1] >= self.dense_dsc - tolerance
        if current.accepted:
            self.accepted, self.accepted_ticket = _copied(decoder.state_dict()), self.ticket
        elif hopeless or current.tries > self.schedule.retries:
            self.finished = True
        else:
            current.tries += 1
        return current.accepted

    @property
    def won(self) -> bool:
        """Whether any rate was accepted."""
        return any(each.accepted for each in self.rounds)

    def record(self) -> dict[str, Any]:
        """What was done, JSON-able."""
        return {
            "scope": self.schedule.scope,
            "tolerance": self.schedule.tolerance,
            "retries": self.schedule.retries,
            "dense_dsc": self.dense_dsc,
            "rounds": [asdict(each) for each in self.rounds],
        }

    def state(self) -> dict[str, Tensor]:
        """The tensors that :meth:`load` needs beside :meth:`record`."""
        state = {f"accepted.{name}": value for name, value in self.accepted.items()}
        for kind, ticket in (("ticket", self.ticket), ("kept", self.accepted_ticket)):
            mask = ticket.mask if ticket else {}
            state |= {f"{kind}.{name}": survives.clone() for name, survives in mask.items()}
        return state

    def load(self, record: Mapping[str, Any], finished: bool, state: Weights) -> None:
        """Continue from :meth:`record`, `finished` and :meth:`state`."""
        self.dense_dsc, self.finished = record["dense_dsc"], finished
        self.rounds = [Round(**each) for each in record["rounds"]]
        self.accepted = _named("accepted", state)
        current = self.rounds[-1].rate if self.rounds else 0.0
        last = max((each.rate for each in self.rounds if each.accepted), default=0.0)
        mask, kept = _named("ticket", state), _named("kept", state)
        self.ticket = Ticket(current, mask) if mask else None
        self.accepted_ticket = Ticket(last, kept) if kept else None


def _copied(weights: Weights) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


def _named(kind: str, state: Weights) -> dict[str, Tensor]:
    start = f"{kind}."
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
