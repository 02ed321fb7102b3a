"""Tickets: what pruning cuts, keeps and never touches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import make_decoder

from clnet.errors import InputError
from clnet.model.ticket import (
    apply_ticket,
    draw_ticket,
    milder_rate,
    prunable,
    rewind,
    sparsity,
)


@settings(max_examples=20, deadline=None)
@given(rate=st.floats(0, 0.998))
def test_the_largest_weights_of_all_layers_survive(rate: float) -> None:
    decoder = make_decoder("liver")
    ticket = draw_ticket(decoder, rate)
    assert ticket.cut == round(rate * ticket.dense)
    weights = prunable(decoder)
    kept = [w.detach().abs()[ticket.mask[n]] for n, w in weights.items()]
    cut = [w.detach().abs()[~ticket.mask[n]] for n, w in weights.items()]
    if ticket.cut:
        assert torch.cat(kept).min() >= torch.cat(cut).max()


def test_biases_and_norms_are_not_prunable() -> None:
    decoder = make_decoder("liver")
    assert all(name.endswith(".weight") for name in prunable(decoder))
    assert all(w.dim() == 5 for w in prunable(decoder).values())


def test_a_higher_rate_never_lets_a_cut_weight_regrow() -> None:
    decoder = make_decoder("liver")
    first = draw_ticket(decoder, 0.8)
    apply_ticket(decoder, first)
    second = draw_ticket(decoder, 0.9)
    assert all(not (second.mask[n] & ~first.mask[n]).any() for n in first.mask)


def test_rewinding_restores_early_weights_of_survivors_only() -> None:
    decoder = make_decoder("liver", seed=1)
    early = {k: v.clone() for k, v in make_decoder("liver", seed=2).state_dict().items()}
    ticket = draw_ticket(decoder, 0.9)
    rewind(decoder, early, ticket)
    for name, weight in prunable(decoder).items():
        assert torch.equal(weight, early[name] * ticket.mask[name])
    assert sparsity([decoder]) == pytest.approx(ticket.sparsity, abs=1e-3)


def test_narrow_decoders_get_milder_rates() -> None:
    assert milder_rate(0.95, 32) == pytest.approx(0.95)
    assert milder_rate(0.95, 16) == pytest.approx(0.90)
    assert milder_rate(0.80, 4) == 0


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="pruning rate"):
        draw_ticket(make_decoder("liver"), rate)
