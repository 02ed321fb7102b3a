"""Decoders: seeds decide their weights, a donor lends what fits."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import SIZE, TINY, make_decoder, make_encoder

from clnet.errors import Incompatible, InputError
from clnet.model.decoder import Channel, DecoderConfig, adopt, build_decoder, check_decoder


def test_equal_seeds_give_equal_weights() -> None:
    first, second, other = (make_decoder("liver", seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_logits_come_finest_first_at_every_head() -> None:
    logits = make_decoder("liver", "spleen")(make_encoder()(torch.zeros(1, 1, *SIZE)))
    assert [tuple(head.shape) for head in logits] == [(1, 3, 8, 8, 8), (1, 3, 4, 4, 4)]


def test_a_donor_lends_the_logits_of_the_channels_that_both_have() -> None:
    donor = make_decoder("spleen", "liver", seed=1).eval()
    heir = make_decoder("liver", "pancreas", seed=2).eval()
    adopt(heir, donor)
    features = make_encoder()(torch.randn(1, 1, *SIZE))
    own, lent = heir(features)[0], donor(features)[0]
    assert torch.equal(own[:, 0], lent[:, 0])
    assert torch.equal(own[:, 1], lent[:, 2])
    assert not torch.equal(own[:, 2], lent[:, 1])


def test_a_donor_of_other_widths_lends_only_what_fits() -> None:
    config = DecoderConfig("g", "organ", (Channel("liver", ("liver",)),), (4, 6), heads=2)
    heir = build_decoder(config, TINY, 3)
    before = {k: v.clone() for k, v in heir.state_dict().items()}
    adopt(heir, make_decoder("liver", seed=1))
    after = heir.state_dict()
    assert torch.equal(after["heads.1.weight"], before["heads.1.weight"])
    assert not torch.equal(after["heads.0.weight"], before["heads.0.weight"])


def test_an_anatomy_stands_in_one_channel_only() -> None:
    kidney = Channel("kidney", ("kidney_left", "kidney_right"))
    with pytest.raises(InputError, match="two channels"):
        DecoderConfig("g", "organ", (kidney, Channel("kidney_left", ("kidney_left",))), (4, 4))


def test_widths_must_fit_the_encoder() -> None:
    config = DecoderConfig("g", "organ", (Channel("liver", ("liver",)),), (4, 4, 4))
    with pytest.raises(Incompatible, match="give 2"):
        build_decoder(config, TINY, 0)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ({"widths": (4, 4, 4)}, "give 2"),
        ({"widths": (4, -4)}, "give 1 or more"),
        ({"widths": (4, 4), "kernels": ((2, 2, 2), (3, 3, 3))}, "must be odd"),
    ],
)
def test_a_decoder_that_cannot_be_built_is_known_before(shape: dict, why: str) -> None:
    config = DecoderConfig("g", "organ", (Channel("liver", ("liver",)),), heads=1, **shape)
    with pytest.raises(InputError, match=why):
        check_decoder(config, TINY)
