"""Random decoders, encoders' features and masks, for property tests of tickets."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from clnet.model.decoder import Channel, Decoder, DecoderConfig, Supporter, build_decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.numerics import seeded

SIZE = 8
NAMES = ("liver", "spleen", "stomach")


@st.composite
def architectures(
    draw: st.DrawFn, channels: tuple[Channel, ...] = ()
) -> tuple[Decoder, EncoderConfig]:
    """A decoder of any shape with random biases and normalisations, and its encoder's shape.

    Its channels are those given, or the first of :data:`NAMES`.
    """
    stages = draw(st.integers(2, 4))
    features = tuple(draw(st.integers(1, 6)) for _ in range(stages))
    strides = ((1, 1, 1), *(draw(st.sampled_from([(2, 2, 2), (1, 2, 2)])) for _ in features[1:]))
    encoder = EncoderConfig(features, strides, ((3, 3, 3),) * stages, (1,) * stages)
    widths = tuple(draw(st.integers(1, 6)) for _ in features[1:])
    kernels = tuple(draw(st.sampled_from([(1, 1, 1), (1, 3, 3), (3, 3, 3)])) for _ in widths)
    if not channels:
        channels = tuple(Channel(name, (name,)) for name in NAMES[: draw(st.integers(1, 3))])
    leaning = draw(st.integers(0, 2))
    supporters = tuple(Supporter(str(k) * 64, draw(st.integers(2, 3))) for k in range(leaning))
    config = DecoderConfig(
        "abdomen/test", "organ", channels, widths, kernels,
        draw(st.integers(1, len(widths))), supporters,
    )  # fmt: skip
    seed = draw(st.integers(0, 1000))
    decoder = build_decoder(config, encoder, seed)
    with seeded(seed + 1), torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() < 2:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return decoder, encoder


def inputs(
    decoder: Decoder, encoder: EncoderConfig, seed: int
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Random features of two small patches, and the supporters' logits."""
    with seeded(seed):
        size, features = torch.tensor([SIZE] * 3), []
        for count, stride in zip(encoder.features, encoder.strides, strict=True):
            size = size // torch.tensor(stride)
            features.append(torch.randn(2, count, *size.tolist()))
        support = [
            [torch.randn(2, s.channels, *f.shape[2:]) for f in features[: decoder.config.heads]]
            for s in decoder.config.supporters
        ]
    return features, support
