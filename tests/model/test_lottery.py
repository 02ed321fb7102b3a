"""The pruning schedule: what is accepted, tried again and given up; nothing cut regrows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_decoders import architectures, inputs
from tiny_networks import make_decoder

from clnet.errors import InputError
from clnet.model.channel_layers import channel_layers
from clnet.model.channel_ticket import draw_scoped_ticket
from clnet.model.decoder import Decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.lottery import RATES, Lottery, PruningSchedule, milder_rates
from clnet.model.pruning import prune
from clnet.model.survivors import float16_exact
from clnet.model.ticket import Scope, Ticket, apply_ticket, draw_ticket, prunable, read_ticket
from clnet.model.training import Recipe, Trainee

SCOPES = ("global", "layer", "channel")


def zeros(decoder: Decoder, ticket: Ticket) -> bool:
    """Whether all that the ticket cuts is zero."""
    return all(not (decoder.get_parameter(n)[~m] != 0).any() for n, m in ticket.mask.items())


@settings(max_examples=15, deadline=None)
@given(architectures(), st.floats(0, 0.99), st.sampled_from(SCOPES), st.integers(1, 3))
def test_cut_weights_never_regrow(
    made: tuple[Decoder, EncoderConfig], rate: float, scope: Scope, steps: int
) -> None:
    decoder, encoder = made
    ticket = draw_scoped_ticket(decoder, rate, scope)
    recipe = Recipe(steps, learning_rate=0.1, weight_decay=0.5, warm_up=0, ema=0.9)
    trainee = Trainee("", decoder, recipe, ticket)
    trainee.optimizer = torch.optim.SGD(  # momentum keeps moving what has no gradient any more
        decoder.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5
    )  # type: ignore[assignment]
    features, support = inputs(decoder, encoder, 0)
    for t in range(steps):
        sum(logits.square().sum() for logits in decoder(features, support)).backward()
        trainee.update(t)
        assert trainee.average is not None
        trainee.average.update(decoder, t)
        assert zeros(decoder, ticket)
    trainee.finish()
    assert zeros(decoder, ticket)
    found = read_ticket(decoder)
    assert (found.sparsity if found else 0.0) >= ticket.sparsity


@settings(max_examples=15, deadline=None)
@given(
    architectures(),
    st.lists(st.floats(0, 0.99), min_size=2, max_size=4),
    st.sampled_from(SCOPES),
    st.sampled_from(SCOPES),
)
def test_a_later_cut_keeps_all_earlier_ones(
    made: tuple[Decoder, EncoderConfig], rates: list[float], first: Scope, second: Scope
) -> None:
    decoder, _ = made
    before = draw_scoped_ticket(decoder, rates[0], first)
    for rate in rates[1:]:  # rising or not
        after = draw_scoped_ticket(decoder, rate, second).within(before)
        assert all(not (after.mask[n] & ~m).any() for n, m in before.mask.items())
        before = after


@settings(max_examples=15, deadline=None)
@given(architectures(), st.floats(0, 0.999))
def test_each_layer_loses_its_share_and_keeps_something(
    made: tuple[Decoder, EncoderConfig], rate: float
) -> None:
    decoder, _ = made
    for mask in draw_ticket(decoder, rate, "layer").mask.values():
        assert int((~mask).sum()) == min(round(rate * mask.numel()), mask.numel() - 1)


@settings(max_examples=15, deadline=None)
@given(architectures(), st.floats(0, 0.999))
def test_a_structured_ticket_cuts_enough_and_silences_what_it_cuts(
    made: tuple[Decoder, EncoderConfig], rate: float
) -> None:
    decoder, _ = made
    ticket = draw_scoped_ticket(decoder, rate, "channel")
    every = draw_scoped_ticket(decoder, 0.9999, "channel")
    assert ticket.sparsity >= min(rate, every.sparsity)
    apply_ticket(decoder, ticket)
    tensors = dict(decoder.named_parameters())
    for layer in channel_layers(decoder):
        gone = layer.unused(tensors)
        if layer.made_by:
            filters = ticket.mask[layer.made_by[0].parameter].movedim(layer.made_by[0].dim, 0)
            gone = ~filters.flatten(1).any(dim=1)
            assert torch.equal(layer.silent(tensors) | ~gone, torch.ones_like(gone))
        assert int(gone.sum()) < layer.count  # one of them stays


def lottery(decoder: Decoder, **changes: object) -> Lottery:
    schedule = PruningSchedule(**{"rates": (0.5, 0.7, 0.9), "retries": 2, "window": 2} | changes)  # type: ignore[arg-type]
    drawn = Lottery(schedule, decoder.state_dict())
    drawn.dense_dsc = 0.9
    return drawn


def test_a_rate_is_cut_from_what_was_accepted_last() -> None:
    decoder = make_decoder("liver")
    drawn = lottery(decoder)
    drawn.draw(decoder)
    with torch.no_grad():
        prunable(decoder)["heads.0.weight"].mul_(7)
    assert drawn.judge([0.2, 0.9, 0.88], decoder)  # the mean of the newest two
    kept = decoder.state_dict()["heads.0.weight"].clone()
    with torch.no_grad():
        prunable(decoder)["heads.0.weight"].zero_()  # whatever happens in between
    ticket = drawn.draw(decoder)
    assert ticket is not None
    assert torch.equal(decoder.state_dict()["heads.0.weight"], kept * ticket.mask["heads.0.weight"])


def test_survivors_go_back_to_earlier_weights() -> None:
    decoder, earlier = make_decoder("liver"), make_decoder("liver", seed=9).state_dict()
    drawn = Lottery(PruningSchedule((0.5,)), decoder.state_dict(), earlier=earlier)
    ticket = drawn.draw(decoder)
    assert ticket is not None
    for name, mask in ticket.mask.items():
        assert torch.equal(decoder.state_dict()[name], earlier[name] * mask)
    assert torch.equal(decoder.state_dict()["heads.0.bias"], earlier["heads.0.bias"])


def test_a_rate_that_costs_too_much_is_tried_again_with_the_same_mask_then_given_up() -> None:
    decoder = make_decoder("liver")
    drawn = lottery(decoder)
    first = drawn.draw(decoder)
    assert drawn.judge([0.9], decoder)
    accepted = {k: v.clone() for k, v in decoder.state_dict().items()}
    second = drawn.draw(decoder)
    for left in (2, 1, 0):
        assert not drawn.finished
        assert not drawn.judge([0.5], decoder)
        assert drawn.ticket is second
        assert drawn.finished == (left == 0)
    assert [(r.rate, r.tries, r.accepted) for r in drawn.rounds] == [
        (0.5, 1, True),
        (0.7, 3, False),
    ]
    assert drawn.accepted_ticket is first
    assert all(torch.equal(v, accepted[k]) for k, v in drawn.accepted.items())


def test_the_tolerance_is_absolute() -> None:
    for dsc, accepted in ((0.41, True), (0.39, False)):
        decoder = make_decoder("liver")
        drawn = lottery(decoder, tolerance=0.1)
        drawn.dense_dsc = 0.5
        drawn.draw(decoder)
        assert drawn.judge([dsc], decoder) == accepted


@pytest.mark.parametrize("dense", [0.0, 0.01, 0.02])
def test_a_dense_decoder_that_scores_no_more_than_the_tolerance_accepts_nothing(
    dense: float,
) -> None:
    decoder = make_decoder("liver")
    drawn = lottery(decoder)
    drawn.dense_dsc = dense
    drawn.draw(decoder)
    assert not drawn.judge([0.9], decoder)
    assert drawn.finished  # no further try could change it
    assert not drawn.won


def test_the_last_rate_ends_the_lottery_and_rates_of_nothing_are_skipped() -> None:
    decoder = make_decoder("liver")
    drawn = lottery(decoder, rates=(-0.4, 0.0, 0.5))
    assert drawn.draw(decoder) is not None
    drawn.judge([0.9], decoder)
    assert drawn.draw(decoder) is None
    assert drawn.finished
    assert drawn.won


def test_a_rate_that_cuts_nothing_more_is_passed_over() -> None:
    decoder = make_decoder("liver")  # four channels a layer at most: rates come in steps
    drawn = lottery(decoder, rates=(0.5, 0.500001, 0.9), scope="channel")
    drawn.draw(decoder)
    drawn.judge([0.9], decoder)
    drawn.draw(decoder)
    assert [each.rate for each in drawn.rounds] == [0.5, 0.9]


def test_a_lottery_continues_from_its_state() -> None:
    decoder = make_decoder("liver")
    drawn = lottery(decoder)
    drawn.draw(decoder)
    drawn.judge([0.9], decoder)
    drawn.draw(decoder)
    again = lottery(make_decoder("liver", seed=5))
    again.load(drawn.record(), drawn.finished, drawn.state())
    assert again.record() == drawn.record()
    assert again.ticket is not None
    assert drawn.ticket is not None
    assert again.ticket.sha256 == drawn.ticket.sha256
    assert all(torch.equal(v, drawn.accepted[k]) for k, v in again.accepted.items())


def test_the_authors_rates_are_milder_for_narrow_decoders() -> None:
    assert milder_rates(32) == pytest.approx(RATES)
    assert milder_rates(4)[0] == 0  # which the schedule skips
    assert PruningSchedule(milder_rates(4)).cuts[-1] == pytest.approx(0.984)
    assert len(PruningSchedule(milder_rates(4)).cuts) < len(RATES)


@pytest.mark.parametrize("wrong", [{"rates": (0.9, 0.8)}, {"rates": (1.0,)}, {"retries": -1}])
def test_a_schedule_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        PruningSchedule(**wrong)  # type: ignore[arg-type]


def test_pruning_keeps_the_highest_rate_that_holds(encoder, stream) -> None:
    decoder = make_decoder("liver", "spleen")
    told: list[str] = []
    held = prune(
        encoder, decoder, Recipe(6, 1e-2), stream, stream, 2,
        schedule=PruningSchedule((0.5, 0.8), tolerance=0.1, float16=True),
        earlier=make_decoder("liver", "spleen", seed=4).state_dict(),
        progress=lambda fraction, text: told.append(text),
    )  # fmt: skip
    assert [each.accepted for each in held.rounds] == [True, True]
    found = read_ticket(decoder)
    assert found is not None
    assert found.sparsity == pytest.approx(0.8, abs=2e-3)
    assert all(float16_exact(p) for p in decoder.parameters())
    assert len(told) == 2


def test_pruning_that_nothing_accepts_says_so(encoder, stream) -> None:
    decoder = make_decoder("liver", "spleen")
    schedule = PruningSchedule((0.5, 0.8), tolerance=-1.0, retries=1)
    lost = prune(encoder, decoder, Recipe(2, 1e-2), stream, stream, 1, schedule=schedule)
    assert not lost.won
    assert [(r.rate, r.tries, len(r.dsc)) for r in lost.rounds] == [(0.5, 2, 2)]
