"""Compaction: the same logits from smaller tensors.

A channel is left out if it is identically zero, or if every weight that uses it is zero;
leaving it out can make that true of others. Nothing is approximated.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from clnet.model.channel_layers import ChannelLayer, channel_layers
from clnet.model.decoder import Decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.numerics import Precision, convolving
from clnet.model.remains import Remains

__all__ = ["LANES", "compact", "compact_measured", "measure_seconds"]

LANES = (1, 8, 16)
"""Multiples of channels worth trying: kernels work in blocks of 8 or 16 channels, and some
take longer for 12 than for 16."""


@torch.no_grad()
def compact(decoder: Decoder, encoder: EncoderConfig, lanes: int = 1) -> Decoder:
    """A decoder without the channels that add nothing; its logits are the same.

    Args:
        decoder: left as it is. A layer that lost all channels keeps one.
        encoder: whose features it reads.
        lanes: outputs of a layer, and inputs of a scale's convolution, are kept at multiples of
            this where cut channels can fill up; those stay zero.
    """
    tensors = {name: value.detach().clone() for name, value in decoder.state_dict().items()}
    layers = channel_layers(decoder)
    alive = _settle(layers, tensors)
    kept = _fill(layers, alive, lanes)
    config = decoder.config
    before = config.remains.reads if config.remains else [range(n) for n in encoder.features]
    reads = [tuple(before[layer.index][c] for c in kept[k]) for k, layer in _kind(layers, "read")]
    count = {(layer.kind, layer.index): len(kept[k]) for k, layer in enumerate(layers)}
    scales = range(len(decoder.scales))
    smaller = replace(
        config,
        widths=tuple(count["width", s] for s in scales),
        remains=Remains(
            reads=tuple(reads),
            ups=tuple(count["up", s] for s in scales),
            hidden=tuple(count["hidden", h] for h in range(len(decoder.support))),
        ),
    )
    compacted = Decoder(smaller, encoder)
    compacted.load_state_dict(_picked(layers, kept, tensors))
    compacted.requires_grad_(any(p.requires_grad for p in decoder.parameters()))
    return compacted.to(next(decoder.parameters()).device).train(decoder.training)


def compact_measured(
    decoder: Decoder, encoder: EncoderConfig, patch_size: Sequence[int], precision: Precision
) -> tuple[Decoder, int]:
    """The compacted decoder that runs fastest here, and the multiple of its channels.

    Args:
        patch_size: ``(Z, Y, X)`` at the encoder's input.
    """
    tried = {lanes: compact(decoder, encoder, lanes) for lanes in LANES}
    seconds: dict[tuple[int, ...], float] = {}
    for candidate in tried.values():
        shape = _shape(candidate)
        if shape not in seconds:
            seconds[shape] = measure_seconds(candidate, encoder, patch_size, precision)
    # few channels first: a tie is for the smaller file
    best = min(LANES, key=lambda lanes: seconds[_shape(tried[lanes])])
    return tried[best], best


@torch.no_grad()
def measure_seconds(
    decoder: Decoder,
    encoder: EncoderConfig,
    patch_size: Sequence[int],
    precision: Precision = "auto",
    repeats: int = 3,
) -> float:
    """Seconds of one forward pass on random features of one patch, the fastest of `repeats`."""
    device = next(decoder.parameters()).device
    features, sizes = [], torch.tensor(patch_size)
    for count, stride in zip(encoder.features, encoder.strides, strict=True):
        sizes = -(-sizes // torch.tensor(stride))
        features.append(torch.randn(1, count, *sizes.tolist(), device=device))
    support = [
        [
            torch.randn(1, s.channels, *features[h].shape[2:], device=device)
            for h in range(len(decoder.heads))
        ]
        for s in decoder.config.supporters
    ]
    training = decoder.training
    decoder.eval()
    best = float("inf")
    with convolving(precision, device):
        for repeat in range(repeats + 1):
            start = time.perf_counter()
            decoder(features, support)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if repeat:  # the first one warms up
                best = min(best, time.perf_counter() - start)
    decoder.train(training)
    return best


def _shape(decoder: Decoder) -> tuple[int, ...]:
    return tuple(n for p in decoder.parameters() for n in p.shape)


def _kind(layers: Sequence[ChannelLayer], kind: str) -> list[tuple[int, ChannelLayer]]:
    return [(k, layer) for k, layer in enumerate(layers) if layer.kind == kind]


def _settle(layers: Sequence[ChannelLayer], tensors: dict[str, Tensor]) -> list[Tensor]:
    """Which channels matter, bool by layer; all that concerns the others is set to zero."""
    alive = [torch.ones(layer.count, dtype=torch.bool) for layer in layers]
    changed = True
    while changed:
        changed = False
        for layer, living in zip(layers, alive, strict=True):
            dead = (layer.silent(tensors) | layer.unused(tensors)).cpu() & living
            if dead.any():
                changed = True
                living &= ~dead
                for piece in layer.slices(tensors, (*layer.made_by, *layer.used_by)):
                    piece[dead] = 0
    return alive


def _fill(layers: Sequence[ChannelLayer], alive: Sequence[Tensor], lanes: int) -> list[list[int]]:
    """Channels to keep by layer: those alive, and as many others as fill the lanes."""
    read = {layer.index: max(1, int(alive[k].sum())) for k, layer in _kind(layers, "read")}
    kept = []
    for layer, living in zip(layers, alive, strict=True):
        count = max(1, int(living.sum()))
        if layer.kind == "up":  # joined with the features read at its scale
            beside = read[layer.index]
            count = _multiple(beside + count, lanes) - beside
        elif layer.kind != "read":
            count = _multiple(count, lanes)
        spare = torch.nonzero(~living).flatten()[: max(0, count - int(living.sum()))]
        kept.append(sorted(torch.cat((torch.nonzero(living).flatten(), spare)).tolist()))
    return kept


def _multiple(count: int, lanes: int) -> int:
    return -(-count // lanes) * lanes


def _picked(
    layers: Sequence[ChannelLayer], kept: Sequence[Sequence[int]], tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    picks: dict[tuple[str, int], list[int]] = {}
    for layer, channels in zip(layers, kept, strict=True):
        for slot in (*layer.made_by, *layer.used_by):
            places = picks.setdefault((slot.parameter, slot.dim), [])
            places += [slot.offset + channel for channel in channels]
    for (name, dim), places in picks.items():
        index = torch.tensor(sorted(places), device=tensors[name].device)
        tensors[name] = tensors[name].index_select(dim, index)
    return tensors
