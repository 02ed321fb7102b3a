"""Imported networks compute what nnU-Net's own classes compute, and survive being stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("dynamic_network_architectures")

from nnunet_reference import (
    build_network,
    configured,
    outputs_of,
    tiny_architecture,
    tiny_dataset,
    tiny_plans,
    write_result,
)
from tiny_networks import boxes

from clnet.errors import Incompatible
from clnet.model.artefact import (
    DecoderInfo,
    decode_decoder,
    decode_encoder,
    encode_decoder,
    encode_encoder,
)
from clnet.model.channel_ticket import draw_scoped_ticket
from clnet.model.decoder import Channel, DecoderConfig, build_decoder, make_decoder
from clnet.model.encoder import freeze
from clnet.model.footprint import compare_footprints
from clnet.model.nnunet.folder import ImportedNetwork, read_result_folder
from clnet.model.nnunet.network import NnunetEncoderConfig
from clnet.model.ticket import apply_ticket
from clnet.model.training import Recipe, Trainee, train_pack

GROUP = "imported/tiny"


def stored(network: ImportedNetwork) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Encoder and decoder as they come out of their artefacts."""
    encoder, plan = decode_encoder(encode_encoder(network.encoder, network.plan))
    assert plan == network.plan
    assert encoder.config == network.encoder.config
    info = DecoderInfo(network.decoder.config, "0" * 64, network.encoder.config)
    decoder, again = decode_decoder(encode_decoder(network.decoder, info))
    assert again == info
    return encoder, decoder


@pytest.mark.parametrize("architecture", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_logits_are_bit_identical_at_every_scale(tmp_path: Path, architecture: str) -> None:
    plans = configured(tiny_plans(), architecture=tiny_architecture(architecture))
    own = build_network(plans, outputs_of(tiny_dataset()), seed=3)
    encoder, decoder = stored(read_result_folder(write_result(tmp_path, plans, seed=3), GROUP))
    patch = torch.randn((1, 1, 8, 16, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = own(patch), decoder(encoder(patch))
    assert len(found) == len(expected) == 2
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_single_weights_of_an_imported_decoder_are_cut_and_channels_are_refused(
    tmp_path: Path,
) -> None:
    network = read_result_folder(write_result(tmp_path), GROUP)
    info = DecoderInfo(network.decoder.config, "0" * 64, network.encoder.config)
    ticket = draw_scoped_ticket(network.decoder, 0.5, "global")
    apply_ticket(network.decoder, ticket)
    costs = compare_footprints(network.decoder, info, (8, 16, 16), precision="float32")
    assert costs.keys() == {"pruned"}  # compaction is for decoders of our own blocks
    assert costs["pruned"].non_zeros < costs["pruned"].parameters
    assert costs["pruned"].seconds is not None
    with pytest.raises(Incompatible, match="cut single weights instead"):
        draw_scoped_ticket(network.decoder, 0.5, "channel")


def test_every_weight_is_kept_once(tmp_path: Path) -> None:
    own = build_network(tiny_plans(), outputs_of(tiny_dataset()))
    encoder, decoder = stored(read_result_folder(write_result(tmp_path), GROUP))
    kept = [p for part in (encoder, decoder) for p in part.state_dict().values()]
    assert sum(p.numel() for p in kept) == sum(p.numel() for p in own.parameters())
    assert not any(p.requires_grad for p in [*encoder.parameters(), *decoder.parameters()])


def test_regions_stand_above_a_background_of_zeros(tmp_path: Path) -> None:
    labels = {"background": 0, "kidney": [1, 2], "kidney_left": 2}
    dataset = tiny_dataset(labels, regions_class_order=[1, 2])
    own = build_network(tiny_plans(), outputs_of(dataset), seed=1)
    network = read_result_folder(write_result(tmp_path, None, dataset, seed=1), GROUP)
    assert network.learned == ("kidney_left",)
    assert network.unions == (("kidney_left", "kidney_right"),)
    patch = torch.randn((1, 1, 8, 8, 8))
    with torch.inference_mode():
        found = network.decoder(network.encoder(patch))[0]
        assert torch.equal(found[:, 1:], own(patch)[0])
    assert not found[:, 0].any()


def test_a_decoder_of_ours_reads_the_skips_of_an_anisotropic_encoder(tmp_path: Path) -> None:
    encoder = read_result_folder(write_result(tmp_path), GROUP).encoder
    liver = Channel("liver", ("liver",))
    config = DecoderConfig("abdomen/test", "organ", (liver,), widths=(4, 4), heads=2)
    decoder = build_decoder(config, encoder.config, seed=0)
    logits = decoder(encoder(torch.randn((1, 1, 8, 16, 16))))
    assert [tuple(own.shape[2:]) for own in logits] == [(8, 16, 16), (8, 8, 8)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"conv_op": "torch.nn.modules.conv.Conv2d"}, "Conv2d"),
        ({"nonlin": "os.system"}, "os.system"),
        ({"norm_op_kwargs": {"eps": 1e-5, "device": "cuda"}}, "device"),
        ({"bottleneck_channels": [2, 2, 2]}, "bottleneck_channels"),
        ({"features_per_stage": [6, 8, 10**9]}, "features_per_stage"),
        ({"kernel_sizes": [[3, 3]] * 3}, "3D"),
    ],
)
def test_what_is_not_on_the_list_is_not_built(change: dict[str, object], named: str) -> None:
    described = tiny_architecture()
    with pytest.raises((Incompatible, ValueError), match=named):
        NnunetEncoderConfig.of(described["network_class_name"], described["arch_kwargs"] | change)


@pytest.mark.parametrize("name", ["os.path.PlainConvUNet", "monai.networks.nets.UNet", "Primus"])
def test_other_networks_are_refused_by_name(name: str) -> None:
    with pytest.raises(Incompatible, match="PlainConvUNet and ResidualEncoderUNet"):
        NnunetEncoderConfig.of(name, tiny_architecture()["arch_kwargs"])


def test_a_decoder_with_batch_norms_is_averaged_and_its_counters_are_kept() -> None:
    architecture = tiny_architecture()
    arguments = architecture["arch_kwargs"] | {"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d"}
    network = NnunetEncoderConfig.of(architecture["network_class_name"], arguments)
    config = DecoderConfig(
        GROUP,
        "organ",
        (Channel("liver", ("liver",)),),
        widths=network.features[:-1],
        kernels=network.kernels[:-1],
        heads=2,
        kind="nnunet",
    )
    trainee = Trainee(GROUP, make_decoder(config, network), Recipe(steps=3, ema=0.9))
    train_pack(freeze(network.make()), [trainee], boxes)
    assert trainee.average is not None
    counters = {
        name: value
        for name, value in trainee.decoder.state_dict().items()
        if not value.is_floating_point()
    }
    assert {int(value) for value in counters.values()} == {3}
    assert all(torch.equal(trainee.average.weights[name], v) for name, v in counters.items())
    assert all(torch.isfinite(value).all() for value in trainee.finish().state_dict().values())
