"""No forgetting, over random networks, masks and volumes: what is done to one decoder changes no
bit of another's logits."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_decoders import architectures

from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Channel, Decoder, DecoderConfig, build_decoder
from clnet.model.encoder import EncoderConfig, build_encoder, freeze
from clnet.model.inference import LoadedDecoder, SlidingWindow
from clnet.model.plan import Plan
from clnet.model.segmentation import SegmentationModel
from clnet.model.ticket import apply_ticket, draw_ticket

AFFINE = np.diag([-6.0, -6.0, 6.0, 1.0])


def loaded(ref: str, decoder: Decoder, encoder: EncoderConfig) -> LoadedDecoder:
    info = DecoderInfo(decoder.config, "0" * 64, encoder, learned=tuple(
        channel.name for channel in decoder.config.channels
    ))  # fmt: skip
    return LoadedDecoder(ref, decoder.eval(), info, 0, ref.encode().hex().ljust(64, "0"))


@settings(max_examples=8, deadline=None)
@given(
    architecture=architectures().filter(lambda found: not found[0].config.supporters),
    widths=st.integers(1, 6),
    shape=st.tuples(*[st.integers(2, 20)] * 3),
    rate=st.floats(0, 0.99),
    seed=st.integers(0, 1000),
)
def test_adding_pruning_and_updating_a_decoder_changes_no_bit_of_another(
    architecture: tuple[Decoder, EncoderConfig],
    widths: int,
    shape: tuple[int, int, int],
    rate: float,
    seed: int,
) -> None:
    old, shape_of_encoder = architecture
    encoder = freeze(build_encoder(shape_of_encoder, seed))
    plan = Plan(spacing=(6.0, 6.0, 6.0), patch_size=(16, 16, 16))
    first = loaded("abdomen/old@1", old, shape_of_encoder)
    channels = (Channel("pancreas", ("pancreas",)),)
    config = DecoderConfig(
        "abdomen/new", "organ", channels, (widths,) * (len(shape_of_encoder.features) - 1), heads=1
    )
    new = build_decoder(config, shape_of_encoder, seed + 1)
    ct = np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int16)

    def logits(*decoders: LoadedDecoder) -> torch.Tensor:
        window = SlidingWindow(overlap=0.25, precision="float32")
        model = SegmentationModel(encoder, plan, None, decoders, window=window)
        return model.logits(ct, AFFINE)[first.ref]

    alone = logits(first)
    assert torch.equal(logits(loaded("abdomen/new@1", new, shape_of_encoder), first), alone)
    apply_ticket(new, draw_ticket(new, rate))
    assert torch.equal(logits(first, loaded("abdomen/new@2", new, shape_of_encoder)), alone)
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.mul_(1.5)
    assert torch.equal(logits(first, loaded("abdomen/new@3", new, shape_of_encoder)), alone)
