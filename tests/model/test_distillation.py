"""What versions of other channels have in common, and the loss that rests on it."""

from __future__ import annotations

import torch
from tiny_networks import TINY

from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Channel, DecoderConfig
from clnet.model.distillation import folded, shared_meanings

LEFT = Channel("kidney_left", ("kidney_left",))
RIGHT = Channel("kidney_right", ("kidney_right",))
BOTH = Channel("kidney", ("kidney_left", "kidney_right"))
UNION = (("kidney_left", "kidney_right"),)


def older(*channels: Channel, learned: tuple[str, ...] = (), unions: tuple = ()) -> DecoderInfo:
    config = DecoderConfig("abdomen/kidneys", "organ", channels, (4, 4), heads=1)
    return DecoderInfo(config, "e" * 64, TINY, learned=learned, unions=unions)


def test_what_both_can_tell_is_shared() -> None:
    left = older(LEFT, learned=("kidney_left",))
    assert shared_meanings((LEFT, RIGHT), left) == (((1,), (1,)),)
    sides = older(RIGHT, LEFT, learned=("kidney_left", "kidney_right"))
    assert shared_meanings((LEFT, RIGHT), sides) == (((2,), (1,)), ((1,), (2,)))
    assert shared_meanings((BOTH,), sides) == (((1,), (1, 2)),)
    undivided = older(LEFT, RIGHT, unions=UNION)
    assert shared_meanings((LEFT, RIGHT), undivided) == (((1, 2), (1, 2)),)
    assert shared_meanings((BOTH,), undivided) == (((1,), (1, 2)),)


def test_what_one_of_them_cannot_tell_is_left_out() -> None:
    assert shared_meanings((LEFT,), older(BOTH, unions=UNION)) == ()
    assert shared_meanings((BOTH,), older(LEFT, learned=("kidney_left",))) == ()
    assert shared_meanings((LEFT, RIGHT), older(LEFT, RIGHT)) == ()


def test_folding_sums_probabilities() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 2, 2)
    p = logits.softmax(dim=1)
    summed = folded(logits, [(3,), (1,)]).softmax(dim=1)
    expected = torch.stack([p[:, 0] + p[:, 2], p[:, 3], p[:, 1]], dim=1)
    torch.testing.assert_close(summed, expected)
