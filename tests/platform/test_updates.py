"""An update counts only if every anatomy passed; what nothing speaks for does not pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tiny_networks import TINY, contract, exact, make_encoder, make_patch
from torch import Tensor

from clnet.anatomy import LabelContract, LabelEntry, Patch
from clnet.model.artefact import DecoderInfo
from clnet.model.decoder import Channel, Decoder, DecoderConfig
from clnet.model.plan import Plan
from clnet.model.validation import Judged
from clnet.platform.updates import Verdict, judge_update

PLAN = Plan(spacing=(6.0, 6.0, 6.0), patch_size=(16, 16, 16))
LIVER = 1
CONFIG = DecoderConfig(
    "abdomen/test", "organ", (Channel("liver", ("liver",)), Channel("pancreas", ("pancreas",))),
    (4, 4), heads=1,
)  # fmt: skip
TOGETHER = LabelEntry(3, "organ", "liver or pancreas", ("liver", "pancreas"), None)


class Painter(Decoder):
    """Sees in every eighth of the slices what it is told to."""

    def __init__(self, *eighths: int) -> None:
        super().__init__(CONFIG, TINY)
        self.eighths = eighths

    def forward(
        self, features: Sequence[Tensor], supporters: Sequence[Sequence[Tensor]] = ()
    ) -> list[Tensor]:
        batch, _, *shape = features[0].shape
        logits = torch.zeros(batch, 3, *shape)
        for z in range(shape[0]):
            logits[:, self.eighths[z * 8 // shape[0]], z] = 10.0
        return [logits]


def judge(
    old: Painter,
    new: Painter,
    truth: Sequence[int],
    meaning: LabelContract,
    *,
    held_out: bool = True,
) -> Verdict:
    """The verdict on `new`, by one patch whose slices hold `truth`."""
    info = DecoderInfo(CONFIG, "e" * 64, TINY, learned=("liver", "pancreas"))
    labels = np.broadcast_to(np.array(truth, np.uint8)[:, None, None], (8, 8, 8))

    def patches(t: int) -> list[Patch]:
        return [make_patch(labels, meaning)]

    return judge_update(
        make_encoder(), PLAN, info, Judged(old), Judged(new), patches, 1,
        held_out=held_out, tolerance=0.02, precision="float32",
    )  # fmt: skip


def test_a_sibling_that_appears_where_the_old_version_saw_none_counts_against_an_update() -> None:
    old, new = Painter(1, 1, 0, 0, 0, 0, 0, 0), Painter(1, 1, 0, 0, 2, 2, 2, 2)
    verdict = judge(old, new, (1, 1, 0, 0, 0, 0, 0, 0), contract("liver"))
    assert verdict.after == {"liver": 1.0}
    assert verdict.agreement == {"pancreas": 0.0}
    assert not verdict.accepted


def test_an_anatomy_that_appears_where_the_labels_have_none_counts_against_an_update() -> None:
    old, new = Painter(1, 1, 0, 0, 0, 0, 0, 0), Painter(1, 1, 0, 0, 2, 2, 2, 2)
    verdict = judge(old, new, (1, 1, 0, 0, 0, 0, 0, 0), contract("liver", "pancreas"))
    assert "pancreas is nowhere in the held-out patches, and 256 voxels" in verdict.reason
    assert not verdict.accepted


def test_an_anatomy_that_nothing_shows_keeps_an_update_a_candidate() -> None:
    same = Painter(1, 1, 0, 0, 0, 0, 0, 0)
    for meaning in (contract("liver", "pancreas"), contract("liver")):
        verdict = judge(same, same, (1, 1, 0, 0, 0, 0, 0, 0), meaning)
        assert verdict.reason.startswith("nothing tells whether pancreas got worse")


def test_what_phantoms_show_need_not_be_in_the_held_out_patches() -> None:
    everywhere = Painter(*[LIVER] * 8)  # a phantom's patch around the liver is mostly liver
    verdict = judge(everywhere, everywhere, (2, 0, 0, 0, 0, 0, 0, 0), contract("liver", "pancreas"))
    assert verdict.phantoms["liver"][0] > 0.5
    assert verdict.accepted


def test_a_version_that_is_as_good_everywhere_is_accepted() -> None:
    same = Painter(1, 1, 0, 0, 2, 2, 0, 0)
    both = judge(same, same, (1, 1, 0, 0, 2, 2, 0, 0), contract("liver", "pancreas"))
    one = judge(same, same, (1, 1, 0, 0, 0, 0, 0, 0), contract("liver"))
    assert both.accepted
    assert one.accepted
    assert one.agreement == {"pancreas": 1.0}


def test_a_union_tells_nothing_of_how_its_members_share_it() -> None:
    old, truth = Painter(1, 1, 0, 0, 2, 2, 0, 0), (3, 3, 0, 0, 3, 3, 0, 0)
    union = LabelContract((TOGETHER,))
    for new in (Painter(2, 2, 0, 0, 1, 1, 0, 0), Painter(1, 1, 0, 0, 1, 1, 0, 0)):
        verdict = judge(old, new, truth, union)
        assert list(verdict.after.values()) == [1.0]
        assert verdict.agreement["pancreas"] == 0.0
        assert not verdict.accepted
    same = judge(old, old, truth, union)
    assert same.agreement == {"liver": 1.0, "pancreas": 1.0}
    assert same.accepted


def test_a_member_of_a_union_that_is_labelled_elsewhere_is_judged_by_that() -> None:
    meaning = LabelContract((exact(1, "liver"), TOGETHER))
    old, truth = Painter(1, 1, 0, 0, 2, 2, 0, 0), (1, 1, 0, 0, 3, 3, 0, 0)
    verdict = judge(old, old, truth, meaning)
    assert verdict.agreement.keys() == {"pancreas"}
    assert verdict.accepted


def test_growth_that_a_union_asked_for_does_not_count_against_an_update() -> None:
    old, new = Painter(1, 0, 0, 0, 2, 2, 0, 0), Painter(1, 1, 0, 0, 2, 2, 0, 0)
    verdict = judge(old, new, (3, 3, 0, 0, 3, 3, 0, 0), LabelContract((TOGETHER,)))
    assert verdict.agreement == {"liver": 1.0, "pancreas": 1.0}
    assert verdict.accepted


def test_what_phantoms_showed_may_not_get_lost() -> None:
    class Forgetful(Painter):
        """Sees nothing any more in patches that are not the held-out ones."""

        def forward(
            self, features: Sequence[Tensor], supporters: Sequence[Sequence[Tensor]] = ()
        ) -> list[Tensor]:
            here = features[0].shape[2] == 8
            return [logits * here for logits in super().forward(features, supporters)]

    verdict = judge(
        Painter(*[LIVER] * 8), Forgetful(*[LIVER] * 8), (2, 0, 0, 0, 0, 0, 0, 0),
        contract("liver", "pancreas"),
    )  # fmt: skip
    assert verdict.phantoms["liver"][1] == 0.0
    assert verdict.reason.startswith("liver was found in phantoms to")


def test_scores_on_cases_that_it_learned_from_keep_an_update_a_candidate() -> None:
    same = Painter(1, 1, 0, 0, 2, 2, 0, 0)
    verdict = judge(
        same, same, (1, 1, 0, 0, 2, 2, 0, 0), contract("liver", "pancreas"), held_out=False
    )
    assert verdict.reason == "no case was held out: it was judged on those that it learned from"
