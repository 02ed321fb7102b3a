"""Pruning one decoder from start to end: the lottery with its recoveries, in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from clnet.errors import JobFailed
from clnet.model.decoder import Decoder
from clnet.model.encoder import Encoder
from clnet.model.lottery import Lottery, PruningSchedule, milder_rates
from clnet.model.numerics import Precision
from clnet.model.supporters import ALONE, Supporters
from clnet.model.ticket import read_ticket
from clnet.model.training import FeatureCache, Patches, Recipe, Trainee, train_pack
from clnet.model.validation import Judged, mean_score, validate

__all__ = ["prune"]


def prune(
    encoder: Encoder,
    decoder: Decoder,
    recipe: Recipe,
    patches: Patches,
    validation: Patches,
    batches: int,
    *,
    schedule: PruningSchedule | None = None,
    earlier: Mapping[str, Tensor] | None = None,
    supporters: Supporters = ALONE,
    validate_every: int | None = None,
    precision: Precision = "auto",
    augment_seed: int | None = None,
    cache: FeatureCache | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Lottery:
    """Prune a dense decoder in place, to the highest rate that the schedule accepts.

    Args:
        recipe: of each recovery.
        patches: the stream to recover on; recoveries follow one another along it.
        validation, batches: a stream to be judged on, and how much of it.
        schedule: the authors', milder for narrow decoders, if none is given.
        earlier: weights to rewind survivors to; None for the learning rate only.
        validate_every: batches between validations; a quarter of a recovery by default.

    Returns:
        The finished lottery, with what was done at each rate. Where it was won, `decoder` is the
        accepted version; where it was not, what recovered last.

    Raises:
        JobFailed: a recovery diverged before any rate was accepted.
    """
    schedule = schedule or PruningSchedule(milder_rates(decoder.config.widths[0]))
    lottery = Lottery(schedule, decoder.state_dict(), read_ticket(decoder), earlier)
    kept = FeatureCache(batches, cache.max_bytes // 4) if cache else None

    def score(judged: Decoder) -> float:
        found = validate(
            encoder,
            {"": Judged(judged, supporters)},
            validation,
            batches,
            precision=precision,
            cache=kept,
        )
        return mean_score(found[""])

    lottery.dense_dsc = score(decoder)
    decoder.requires_grad_(True)
    every = validate_every or max(1, recipe.steps // 4)
    t, ticket = 0, lottery.draw(decoder)
    while not lottery.finished:
        trainee = Trainee("", decoder, recipe, ticket=ticket, supporters=supporters, origin=t)
        scores: list[float] = []
        while t < trainee.end and not trainee.diverged:
            last = min(t + every, trainee.end)
            train_pack(
                encoder,
                [trainee],
                patches,
                first=t,
                last=last,
                precision=precision,
                augment_seed=augment_seed,
                cache=cache,
            )
            t = last
            scores.append(score(schedule.version(trainee)))
        if trainee.diverged:
            if not lottery.won:
                raise JobFailed(f"pruning {decoder.config.group}: the loss was not finite")
            break
        decoder.load_state_dict(schedule.version(trainee).state_dict())
        again = not lottery.judge(scores, decoder)
        if progress:
            done = lottery.rounds[-1]
            progress(
                len(lottery.rounds) / len(schedule.cuts),
                f"rate {done.rate:.3f}, try {len(done.dsc)}: DSC {done.dsc[-1]:.3f}",
            )
        if not again:
            ticket = lottery.draw(decoder)
    if lottery.won:
        decoder.load_state_dict(dict(lottery.accepted))
    decoder.eval()
    return lottery
