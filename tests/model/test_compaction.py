"""Compaction: smaller tensors, the same logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_decoders import architectures, inputs
from tiny_networks import SIZE, TINY, make_decoder, make_encoder

from clnet.anatomy import Patch
from clnet.errors import Incompatible
from clnet.model.artefact import DecoderInfo, decode_decoder, encode_decoder
from clnet.model.channel_ticket import draw_channel_ticket
from clnet.model.compaction import compact, compact_measured
from clnet.model.decoder import Decoder, DecoderConfig
from clnet.model.encoder import EncoderConfig
from clnet.model.footprint import compare_footprints
from clnet.model.inference import LoadedDecoder
from clnet.model.lottery import PruningSchedule
from clnet.model.plan import Plan
from clnet.model.pruning import prune
from clnet.model.segmentation import SegmentationModel
from clnet.model.ticket import apply_ticket, draw_ticket, read_ticket
from clnet.model.training import Recipe


def same_logits(one: Decoder, other: Decoder, encoder: EncoderConfig, seed: int) -> bool:
    features, support = inputs(one, encoder, seed)
    with torch.no_grad():
        pairs = zip(one(features, support), other(features, support), strict=True)
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs)


@settings(max_examples=25, deadline=None)
@given(architectures(), st.floats(0, 0.99), st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_a_compacted_structured_ticket_gives_the_same_logits(
    made: tuple[Decoder, EncoderConfig], rate: float, lanes: int, seed: int
) -> None:
    decoder, encoder = made
    apply_ticket(decoder, draw_channel_ticket(decoder, rate))
    compacted = compact(decoder, encoder, lanes)
    assert same_logits(decoder, compacted, encoder, seed)
    cut = {width for width in compacted.config.widths if width % lanes}
    assert cut <= set(decoder.config.widths)  # filled up, or as wide as it ever was


@settings(max_examples=25, deadline=None)
@given(architectures(), st.data())
def test_compaction_is_exact_for_any_zeros(
    made: tuple[Decoder, EncoderConfig], data: st.DataObject
) -> None:
    decoder, encoder = made
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim():  # not the gates: nothing prunes those
                keep = data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
                parameter.mul_(torch.rand(parameter.shape) < keep)
    compacted = compact(decoder, encoder)
    assert same_logits(decoder, compacted, encoder, 0)
    assert sum(p.numel() for p in compacted.parameters()) <= sum(
        p.numel() for p in decoder.parameters()
    )


def test_what_is_compacted_is_compact_already() -> None:
    decoder = make_decoder("liver")
    apply_ticket(decoder, draw_channel_ticket(decoder, 0.7))
    once = compact(decoder, TINY)
    twice = compact(once, TINY)
    assert once.config == twice.config
    assert max(once.config.widths) < 4


def test_a_compact_artefact_comes_back_to_the_bit() -> None:
    decoder = make_decoder("liver")
    apply_ticket(decoder, draw_channel_ticket(decoder, 0.7))
    compacted, _ = compact_measured(decoder, TINY, SIZE, "float32")
    about = DecoderInfo(compacted.config, "a" * 64, TINY)
    again, read = decode_decoder(encode_decoder(compacted, about))
    features = make_encoder()(torch.randn(1, 1, *SIZE))
    assert read == about
    assert torch.equal(compacted.eval()(features)[0], again(features)[0])


def test_a_compact_decoder_is_segmented_with_like_any_other() -> None:
    dense = make_decoder("liver")
    apply_ticket(dense, draw_channel_ticket(dense, 0.6))
    ct = torch.randint(-200, 300, (20, 18, 16), dtype=torch.int16).numpy()
    volumes = []
    for decoder in (dense, compact(dense, TINY)):
        about = DecoderInfo(decoder.config, "a" * 64, TINY, learned=("liver",))
        loaded = LoadedDecoder("abdomen/liver@1", decoder.eval(), about, 0, "c" * 64)
        plan = Plan(spacing=(6.0, 6.0, 6.0), patch_size=SIZE)
        model = SegmentationModel(make_encoder(), plan, None, [loaded])
        volumes.append(model.segment(ct, np.diag([-6.0, -6.0, 6.0, 1.0])).labels["organ"])
    assert 0 < (volumes[0] != 0).mean() < 1
    assert (volumes[0] != volumes[1]).mean() < 1e-3  # where two classes tie


def test_an_update_of_a_compact_decoder_lets_its_filling_be() -> None:
    decoder = make_decoder("liver")
    apply_ticket(decoder, draw_channel_ticket(decoder, 0.8))
    filled = compact(decoder, TINY, lanes=4)
    ticket = read_ticket(filled)
    assert ticket is not None
    assert any(name.endswith("adn.N.bias") for name in ticket.mask)
    with torch.no_grad():
        for parameter in filled.parameters():
            parameter.add_(0.1)
    apply_ticket(filled, ticket)
    assert compact(filled, TINY).config == compact(decoder, TINY).config


def test_remains_that_do_not_fit_the_encoder_are_refused() -> None:
    decoder = make_decoder("liver")
    apply_ticket(decoder, draw_channel_ticket(decoder, 0.5))
    config = compact(decoder, TINY).config
    narrower = EncoderConfig((2, 2, 2), TINY.strides, TINY.kernels, TINY.convs)
    with pytest.raises(Incompatible, match="does not fit"):
        Decoder(DecoderConfig.from_dict(config.to_dict()), narrower)


def test_an_unstructured_ticket_hardly_compacts() -> None:
    decoder = make_decoder("liver")
    apply_ticket(decoder, draw_ticket(decoder, 0.5))
    assert compact(decoder, TINY).config.widths == decoder.config.widths


def test_a_footprint_tells_what_pruning_and_compaction_save() -> None:
    dense, pruned = make_decoder("liver"), make_decoder("liver")
    apply_ticket(pruned, draw_channel_ticket(pruned, 0.7))
    about = DecoderInfo(pruned.config, "a" * 64, TINY)
    found = compare_footprints(pruned, about, SIZE, dense=dense, precision="float32")
    assert found["compacted"].parameters < found["pruned"].parameters == found["dense"].parameters
    assert found["compacted"].non_zeros <= found["pruned"].non_zeros < found["dense"].non_zeros
    assert found["pruned"].bytes < found["dense"].bytes
    assert all(each.seconds and each.seconds > 0 for each in found.values())


def test_pruning_channels_ends_in_a_smaller_decoder(encoder, stream) -> None:
    decoder = make_decoder("liver", "spleen")

    def held_out(t: int) -> list[Patch]:
        return list(stream(t + 100))

    schedule = PruningSchedule((0.3, 0.6), tolerance=0.05, scope="channel")
    lottery = prune(encoder, decoder, Recipe(4, 1e-2), stream, held_out, 2, schedule=schedule)
    assert [each.accepted for each in lottery.rounds] == [True, True]
    compacted = compact(decoder, TINY)
    features = encoder(torch.randn(1, 1, *SIZE))
    assert torch.allclose(decoder(features)[0], compacted(features)[0], atol=1e-4)
    smaller = sum(p.numel() for p in compacted.parameters())
    assert smaller < 0.6 * sum(p.numel() for p in decoder.parameters())
