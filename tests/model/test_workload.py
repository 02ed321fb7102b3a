"""What a network costs is known without running it."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from clnet.model.compaction import compact
from clnet.model.decoder import Channel, DecoderConfig, Supporter, build_decoder
from clnet.model.encoder import EncoderConfig, build_encoder
from clnet.model.workload import workload

PAPER = EncoderConfig(
    (4, 6, 8, 8),
    ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
    ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    (2, 2, 1, 1),
)
PATCH = (8, 16, 16)


def counted(module: nn.Module, *inputs: object) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return float(counter.get_total_flops())


def test_shapes_and_operations_are_torchs_own() -> None:
    encoder = build_encoder(PAPER, 0)
    channels = (Channel("liver", ("liver",)),)
    config = DecoderConfig("a/b", "organ", channels, (4, 4, 6), supporters=(Supporter("f", 3),))
    decoder = build_decoder(config, PAPER, 0)
    image = torch.zeros((1, 1, *PATCH))
    features = encoder(image)
    told = workload(encoder, PATCH, image.to("meta"))
    assert [t.shape for t in told.outputs] == [t.shape for t in features]
    assert told.flops == counted(encoder, image)
    support = [[torch.zeros((1, 3, *f.shape[2:])) for f in features[:3]]]
    on_meta = [[t.to("meta") for t in support[0]]]
    found = workload(decoder, PATCH, list(told.outputs), on_meta)
    logits = decoder(features, support)
    assert [t.shape for t in found.outputs] == [t.shape for t in logits]
    assert found.flops == counted(decoder, features, support)
    held = sum(t.nbytes for t in features)
    assert held < told.memory < 6 * held


def test_a_compacted_decoder_costs_less() -> None:
    encoder = build_encoder(PAPER, 0)
    features = list(features_of(encoder))
    config = DecoderConfig("a/b", "organ", (Channel("liver", ("liver",)),), (4, 4, 6))
    decoder = build_decoder(config, PAPER, 0)
    with torch.no_grad():
        decoder.scales[0].up.weight[:, :2] = 0
        decoder.scales[0].up.bias[:2] = 0
        decoder.scales[0].convolve.conv.weight[:, 1] = 0
    smaller = compact(decoder, PAPER)
    before = workload(decoder, PATCH, features, [])
    after = workload(smaller, PATCH, features, [])
    assert after.flops < before.flops
    assert after.outputs[0].shape == before.outputs[0].shape


def features_of(encoder: nn.Module) -> tuple[torch.Tensor, ...]:
    return workload(encoder, PATCH, torch.empty((1, 1, *PATCH), device="meta")).outputs


def test_layers_that_are_not_of_a_u_net_are_asked_of_torch() -> None:
    module = nn.Sequential(nn.AvgPool3d(2), nn.Conv3d(1, 2, 3, padding="same"), nn.SELU())
    found = workload(module, PATCH, torch.empty((1, 1, *PATCH), device="meta"))
    assert found.outputs[0].shape == (1, 2, 4, 8, 8)


def test_symbolic_mathematics_stays_out_of_memory() -> None:
    program = (
        "import sys, torch\n"
        "from clnet.model.encoder import EncoderConfig, build_encoder\n"
        "from clnet.model.decoder import Channel, DecoderConfig, build_decoder\n"
        "from clnet.model.workload import workload\n"
        "before = {m for m in sys.modules if m.startswith('torch.')}\n"
        "encoder = build_encoder(EncoderConfig(), 0)\n"
        "config = DecoderConfig('a/b', 'organ', (Channel('liver', ('liver',)),))\n"
        "decoder = build_decoder(config, encoder.config, 0)\n"
        "image = torch.empty((1, 1, 32, 32, 32), device='meta')\n"
        "found = workload(encoder, 0, image)\n"
        "workload(decoder, 0, list(found.outputs), [], method='trunk')\n"
        "new = {m for m in sys.modules if m.startswith('torch.')} - before\n"
        "assert not any(m.startswith('torch._refs') for m in new), sorted(new)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
