"""What a decoder may report, from what labels taught it."""

from __future__ import annotations

import torch
from tiny_networks import TINY

from clnet.anatomy.vocabulary import vocabulary
from clnet.model.artefact import DecoderInfo
from clnet.model.body_part_curve import Range
from clnet.model.decoder import Channel, DecoderConfig
from clnet.model.outputs import fold_logits, outputs_of, unlearned


def info(
    *names: str,
    learned: tuple[str, ...] = (),
    unions: tuple[tuple[str, ...], ...] = (),
    ranges: dict[str, Range] | None = None,
) -> DecoderInfo:
    config = DecoderConfig(
        "abdomen/test", "organ", tuple(Channel(n, (n,)) for n in names), (4, 4), heads=2
    )
    return DecoderInfo(config, "0" * 64, TINY, None, learned, unions, ranges or {})


KIDNEYS = ("kidney_left", "kidney_right")


def test_an_exactly_learned_channel_stands_for_itself() -> None:
    found = outputs_of(info("liver", "spleen", learned=("liver", "spleen")))
    assert [(o.anatomy, o.channels, o.layer) for o in found] == [
        ("liver", (1,), "organ"),
        ("spleen", (2,), "organ"),
    ]


def test_channels_learned_only_together_are_summed_into_their_composite() -> None:
    (kidney,) = outputs_of(info(*KIDNEYS, unions=(KIDNEYS,)))
    assert (kidney.anatomy, kidney.members, kidney.channels) == ("kidney", KIDNEYS, (1, 2))
    assert unlearned(info(*KIDNEYS, unions=(KIDNEYS,))) == KIDNEYS


def test_an_unlearned_channel_is_background_and_not_looked_for() -> None:
    partly = info("liver", "spleen", learned=("liver",))
    assert [o.anatomy for o in outputs_of(partly)] == ["liver"]
    assert unlearned(partly) == ("spleen",)
    logits = torch.randn(3, 2, 2, 2)
    folded = fold_logits(logits, outputs_of(partly), 1.0).softmax(dim=0)
    torch.testing.assert_close(folded[1], logits.softmax(dim=0)[1])
    torch.testing.assert_close(folded[0], logits.softmax(dim=0)[[0, 2]].sum(dim=0))


def test_folding_sums_calibrated_probabilities() -> None:
    outputs = outputs_of(info("liver", *KIDNEYS, learned=("liver",), unions=(KIDNEYS,)))
    logits = torch.randn(4, 2, 3, 2)
    expected = (logits / 2.5).softmax(dim=0)
    folded = (fold_logits(logits, outputs, 2.5) / 2.5).softmax(dim=0)
    torch.testing.assert_close(
        folded, torch.stack((expected[0], expected[1], expected[2] + expected[3]))
    )


def test_fully_learned_logits_pass_unchanged() -> None:
    logits = torch.randn(3, 2, 2, 2)
    outputs = outputs_of(info("liver", "spleen", learned=("liver", "spleen")))
    assert torch.equal(fold_logits(logits, outputs, 1.0), logits)
    assert torch.equal(fold_logits(logits, outputs, 3.0), logits)


def test_an_exact_anatomy_keeps_its_channel_beside_a_union() -> None:
    found = outputs_of(info(*KIDNEYS, learned=("kidney_left",), unions=(KIDNEYS,)))
    assert [(o.anatomy, o.channels) for o in found] == [("kidney_left", (1,)), ("kidney", (2,))]


def test_the_smallest_union_that_holds_a_channel_names_it() -> None:
    left = ("lung_lower_lobe_left", "lung_upper_lobe_left")
    right = ("lung_lower_lobe_right", "lung_middle_lobe_right", "lung_upper_lobe_right")
    found = outputs_of(info(*left, *right, unions=(tuple(sorted(left + right)), left)))
    assert [(o.anatomy, o.channels) for o in found] == [("lung_left", (1, 2)), ("lung", (3, 4, 5))]


def test_ranges_come_from_the_anatomy_or_from_all_its_parts() -> None:
    one, two = Range(0.3, 0.4, 0.2, 0.5), Range(0.25, 0.35, 0.1, 0.45)
    ranges = {"kidney_left": one, "kidney_right": two}
    (kidney,) = outputs_of(info(*KIDNEYS, unions=(KIDNEYS,), ranges=ranges))
    assert kidney.range == Range(0.25, 0.4, 0.1, 0.5)
    (kidney,) = outputs_of(info(*KIDNEYS, unions=(KIDNEYS,), ranges={"kidney_left": one}))
    assert kidney.range is None


def test_an_anatomy_is_written_in_its_own_layer() -> None:
    found = outputs_of(info("liver", "aorta", learned=("aorta", "liver")))
    assert [o.layer for o in found] == ["organ", "vessel"]


def test_members_without_a_name_of_their_own_are_joined() -> None:
    assert vocabulary().composite_of(("spleen", "liver")) == "liver+spleen"
    assert vocabulary().composite_of(KIDNEYS) == "kidney"
