"""Tiny networks and patches for the tests of the model core."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clnet.anatomy import LabelContract, LabelEntry, Patch
from clnet.model.decoder import Channel, Decoder, DecoderConfig, build_decoder
from clnet.model.encoder import Encoder, EncoderConfig, build_encoder, freeze

TINY = EncoderConfig(
    features=(4, 8, 8),
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
    kernels=((3, 3, 3),) * 3,
    convs=(1, 1, 1),
)
SIZE = (8, 8, 8)


def exact(value: int, name: str, within: tuple[float, float] | None = None) -> LabelEntry:
    """An exact organ label."""
    return LabelEntry(value, "organ", name, (name,), within)


def contract(*names: str) -> LabelContract:
    """Exact organ labels 1, 2, 3 ..."""
    return LabelContract(tuple(exact(i + 1, name) for i, name in enumerate(names)))


def make_patch(
    labels: np.ndarray, meaning: LabelContract, seed: int = 0, layer: str = "organ"
) -> Patch:
    """A patch of noise with the given organ labels, 5 mm slices."""
    image = np.random.default_rng(seed).normal(size=labels.shape).astype(np.float32)
    z_mm = np.arange(labels.shape[0]) * 5.0
    return Patch(image, {layer: labels.astype(np.uint8)}, meaning, z_mm, f"case-{seed}")


def make_decoder(*names: str, seed: int = 1, group: str = "abdomen/test") -> Decoder:
    """A tiny decoder with one channel per name."""
    channels = tuple(Channel(name, (name,)) for name in names)
    return build_decoder(DecoderConfig(group, "organ", channels, (4, 4), heads=2), TINY, seed)


def make_encoder() -> Encoder:
    """A frozen tiny encoder."""
    return freeze(build_encoder(TINY, seed=0))


def boxes(t: int) -> Sequence[Patch]:
    """Batch `t` of two patches; liver and spleen are boxes that move with `t`."""
    batch = []
    for b in range(2):
        labels = np.zeros(SIZE, np.uint8)
        start = (t + b) % 4
        labels[start : start + 3, 1:4, 1:5] = 1
        labels[start : start + 3, 5:8, 2:6] = 2
        batch.append(make_patch(labels, contract("liver", "spleen"), seed=2 * t + b))
    return batch
