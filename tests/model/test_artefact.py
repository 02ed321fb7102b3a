"""Artefacts: the same bytes every time, the same weights to the bit, nothing unpickled."""

from __future__ import annotations

import pytest
import torch
from tiny_networks import SIZE, TINY, make_decoder

from clnet.errors import Incompatible, IntegrityError
from clnet.model.artefact import (
    DecoderInfo,
    decode_decoder,
    decode_encoder,
    encode_decoder,
    encode_encoder,
)
from clnet.model.body_part_curve import Range
from clnet.model.decoder import Channel, DecoderConfig, build_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.plan import Plan
from clnet.model.ticket import apply_ticket, draw_ticket

PLAN = Plan(spacing=(6.0, 6.0, 6.0), patch_size=SIZE)


def info(decoder) -> DecoderInfo:
    return DecoderInfo(
        decoder.config,
        "a" * 64,
        TINY,
        "b" * 64,
        ("liver",),
        (),
        {"liver": Range(0.2, 0.4, 0.1, 0.5)},
    )


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.97])
def test_a_decoder_comes_back_to_the_bit(encoder, rate: float) -> None:
    decoder = make_decoder("liver").eval()
    apply_ticket(decoder, draw_ticket(decoder, rate))
    data = encode_decoder(decoder, info(decoder))
    again, read = decode_decoder(data)
    features = encoder(torch.randn(1, 1, *SIZE))
    assert torch.equal(decoder(features)[0], again(features)[0])
    assert read == info(decoder)
    assert encode_decoder(again, read) == data


def test_pruning_makes_the_artefact_smaller() -> None:
    shape = EncoderConfig()
    config = DecoderConfig("abdomen/liver", "organ", (Channel("liver", ("liver",)),))
    decoder = build_decoder(config, shape, 0)
    about = DecoderInfo(config, "a" * 64, shape)
    dense = len(encode_decoder(decoder, about))
    apply_ticket(decoder, draw_ticket(decoder, 0.95))
    assert len(encode_decoder(decoder, about)) < 0.1 * dense


def test_an_encoder_comes_back_frozen_with_its_plan(encoder) -> None:
    again, plan = decode_encoder(encode_encoder(encoder, PLAN))
    image = torch.randn(1, 1, *SIZE)
    assert all(torch.equal(a, b) for a, b in zip(encoder(image), again(image), strict=True))
    assert plan == PLAN
    assert not any(p.requires_grad for p in again.parameters())


def test_an_encoder_is_not_a_decoder(encoder) -> None:
    with pytest.raises(Incompatible, match="kind encoder"):
        decode_decoder(encode_encoder(encoder, PLAN))


@pytest.mark.parametrize("data", [b"", b"not safetensors", b"\x00" * 64])
def test_broken_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_decoder(data)
