"""Artefacts: the same bytes every time, the same weights to the bit, nothing unpickled."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_networks import SIZE, TINY, make_decoder

from clnet.errors import Incompatible, IntegrityError
from clnet.model.artefact import (
    DecoderInfo,
    decode_decoder,
    decode_encoder,
    encode_decoder,
    encode_encoder,
    pack_artefact,
)
from clnet.model.body_part_curve import Range
from clnet.model.decoder import Channel, Decoder, DecoderConfig, build_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.float_code import decode_floats, encode_floats
from clnet.model.plan import Plan
from clnet.model.survivors import decode_survivors, encode_survivors, round_to_float16
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


USUAL = EncoderConfig()
SMALL = EncoderConfig((8, 16, 16), TINY.strides, TINY.kernels, TINY.convs)


def quickly_pruned(
    rate: float,
    widths: tuple[int, ...] = (16, 16, 32, 48),
    shape: EncoderConfig = USUAL,
) -> tuple[Decoder, DecoderInfo, int]:
    """A decoder of the default width, and its size as dense float32."""
    config = DecoderConfig(
        "abdomen/liver", "organ", (Channel("liver", ("liver",)),), widths, heads=2
    )
    decoder = build_decoder(config, shape, 0)
    for parameter in decoder.parameters():
        if parameter.dim() == 1:  # biases and norms, as no two are alike after a training
            torch.nn.init.normal_(parameter, std=0.3)
    apply_ticket(decoder, draw_ticket(decoder, rate))
    dense = sum(4 * p.numel() for p in decoder.parameters())
    return decoder.eval(), DecoderInfo(config, "a" * 64, shape), dense


@pytest.mark.parametrize(
    ("widths", "shape"),
    [
        ((16, 16, 32, 48), USUAL),
        ((4, 8, 16, 32), USUAL),
        ((2, 4, 8, 16), USUAL),
        ((1, 2, 4, 8), USUAL),
        ((16, 16), SMALL),
    ],
)
def test_a_decoder_at_95_percent_takes_little_without_loss(
    widths: tuple[int, ...], shape: EncoderConfig
) -> None:
    decoder, about, dense = quickly_pruned(0.95, widths, shape)
    exact = encode_decoder(decoder, about)
    assert len(exact) <= 0.065 * dense
    round_to_float16(decoder)
    rounded = encode_decoder(decoder, about)
    assert len(rounded) <= 0.04 * dense
    again, _ = decode_decoder(rounded)
    state = decoder.state_dict()
    assert all(torch.equal(v, state[k]) and v.dtype == torch.float32
               for k, v in again.state_dict().items())  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(0, 300), elements=st.floats(width=32, allow_nan=False)),
    st.floats(0, 1),
    st.booleans(),
)
def test_survivors_come_back_to_the_bit(values: np.ndarray, keep: float, rounded: bool) -> None:
    if rounded:
        values = np.clip(values, -6e4, 6e4).astype(np.float16).astype(np.float32)
    values[np.random.default_rng(0).random(len(values)) > keep] = 0
    state = {"b": torch.from_numpy(values[::2].copy()), "a": torch.from_numpy(values[1::2].copy())}
    packed = encode_survivors(state)
    again = decode_survivors(packed, state)
    assert all(torch.equal(again[name], state[name]) for name in state)
    kept = sum(int((value != 0).sum()) for value in state.values())
    assert packed["values"].nbytes <= (2 if rounded else 4) * kept


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 40))
def test_damaged_survivors_are_refused_or_read_in_bounded_memory(code: bytes, count: int) -> None:
    like = {"a": torch.zeros(5, 7)}
    positions = torch.frombuffer(bytearray(code), dtype=torch.uint8) if code else torch.zeros(0)
    packed = {"survivors": positions, "values": torch.ones(count)}
    with contextlib.suppress(IntegrityError):
        assert decode_survivors(packed, like)["a"].shape == (5, 7)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float32, st.integers(0, 300), elements=st.floats(width=32)), st.booleans())
def test_coded_floats_come_back_to_the_bit(values: np.ndarray, half: bool) -> None:
    with np.errstate(over="ignore"):
        values = values.astype(np.float16) if half else values
    again = decode_floats(encode_floats(values))
    assert again.dtype == values.dtype
    assert again.tobytes() == values.tobytes()


def test_all_exponents_that_there_are_can_be_coded() -> None:
    values = np.arange(0, 2**32, 2**23, dtype=np.uint64).astype(np.uint32).view(np.float32)
    assert decode_floats(encode_floats(values)).tobytes() == values.tobytes()


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=60),
    st.integers(0, 40),
    st.sampled_from([b"", b"\x17\x01\x00", b"\x0a\x02\x00"]),
)
def test_damaged_weights_are_refused(code: bytes, count: int, head: bytes) -> None:
    data = count.to_bytes(4, "little") + head + code
    with contextlib.suppress(IntegrityError):
        assert len(decode_floats(np.frombuffer(data, np.uint8))) == count
    good = encode_floats(np.linspace(0.1, 1, count + 1, dtype=np.float32))
    with pytest.raises(IntegrityError, match="damaged"):
        decode_floats(good[: -1 - len(code) % len(good)])


def test_artefacts_of_the_second_format_are_read() -> None:
    decoder, about, _ = quickly_pruned(0.95, (16, 16), SMALL)
    state = decoder.state_dict()
    flat = torch.cat([state[name].flatten() for name in sorted(state)])
    packed = encode_survivors(state) | {"values": flat[flat != 0]}  # as they were
    again, read = decode_decoder(pack_artefact("decoder", packed, about.to_dict(), 2))
    assert read == about
    assert all(torch.equal(v, state[k]) for k, v in again.state_dict().items())


def test_a_small_file_cannot_ask_for_a_huge_network() -> None:
    _, about, _ = quickly_pruned(0.95)
    wide = replace(about, config=replace(about.config, widths=(4000, 4000, 4000, 4000)))
    with pytest.raises(Incompatible, match="more than"):
        decode_decoder(pack_artefact("decoder", {}, wide.to_dict()))


def test_artefacts_of_the_first_format_are_read(encoder) -> None:
    decoder = make_decoder("liver").eval()
    apply_ticket(decoder, draw_ticket(decoder, 0.6))
    tensors = {}
    for name, value in decoder.state_dict().items():  # as the first format kept pruned weights
        if value.dim() == 5:
            tensors[f"{name}.survivors"] = torch.from_numpy(np.packbits(value.numpy() != 0))
            tensors[f"{name}.values"] = value[value != 0]
        else:
            tensors[name] = value
    again, _ = decode_decoder(pack_artefact("decoder", tensors, info(decoder).to_dict()))
    state = decoder.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in again.state_dict().items())


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
