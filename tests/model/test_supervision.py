"""Unknown is unknown, a union is a sum, and an extent ends where the annotator stopped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_networks import contract, exact, make_patch

from clnet.anatomy import UNKNOWN, LabelContract, LabelEntry
from clnet.model.decoder import Channel
from clnet.model.supervision import deep_supervision_loss, has_foreground, supervise

LIVER, SPLEEN = Channel("liver", ("liver",)), Channel("spleen", ("spleen",))
LEFT = Channel("kidney_left", ("kidney_left",))
RIGHT = Channel("kidney_right", ("kidney_right",))
KIDNEY = LabelEntry(1, "organ", "kidney", ("kidney_left", "kidney_right"))


def gradient(labels: np.ndarray, meaning: LabelContract, channels: tuple[Channel, ...]):
    supervision = supervise([make_patch(labels, meaning)], "organ", channels)
    generator = torch.Generator().manual_seed(0)
    shape = (1, len(channels) + 1, *labels.shape)
    logits = torch.randn(shape, generator=generator).requires_grad_()
    loss = deep_supervision_loss([logits, logits[..., ::2, ::2, ::2]], supervision)
    loss.backward()
    return logits.grad


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), hidden=st.sampled_from(["liver", "spleen", "pancreas"]))
def test_relabelling_a_hidden_anatomy_changes_no_gradient(seed: int, hidden: str) -> None:
    rng = np.random.default_rng(seed)
    names = ["liver", "spleen", "pancreas"]
    truth = rng.integers(0, 4, size=(4, 4, 4)).astype(np.uint8)
    value = names.index(hidden) + 1
    known = LabelContract(tuple(e for e in contract(*names).entries if e.name != hidden))
    at_random = truth.copy()
    voxels = truth == value
    at_random[voxels] = np.where(rng.random(voxels.sum()) < 0.5, value, 0)
    at_background = np.where(voxels, 0, truth)
    # the hidden label has no entry, so whatever stands in its voxels must not matter; a store
    # never holds a value without an entry, hence both are mapped as contribute maps them
    at_random = np.where(np.isin(at_random, [e.value for e in known.entries]), at_random, 0)
    for channels in ((LIVER, SPLEEN), (LIVER,), (SPLEEN,)):
        assert torch.equal(
            gradient(at_random, known, channels), gradient(at_background, known, channels)
        )


def test_voxels_that_an_annotator_left_open_give_no_gradient() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0], labels[1] = 1, UNKNOWN
    meaning = contract("liver", "spleen")
    assert gradient(labels, meaning, (LIVER, SPLEEN))[:, :, 1, 1::2, 1::2].eq(0).all()
    supervision = supervise([make_patch(labels, meaning)], "organ", (LIVER, SPLEEN))
    assert supervision.allowed[0, :, 1].all()
    for region in supervision.regions:
        assert not region.known[0, 1].any()
        assert region.known[0, 2:].all()


def test_an_unknown_sibling_is_never_pushed_down_where_it_may_be() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0] = 1
    supervision = supervise([make_patch(labels, contract("liver"))], "organ", (LIVER, SPLEEN))
    assert supervision.allowed[0, :, 0, 0, 0].tolist() == [False, True, False]
    assert supervision.allowed[0, :, 3, 0, 0].tolist() == [True, False, True]


def test_a_neighbour_outside_the_group_is_background_for_certain() -> None:
    labels = np.full((2, 2, 2), 1, np.uint8)
    supervision = supervise([make_patch(labels, contract("pancreas"))], "organ", (LIVER,))
    assert supervision.allowed[0, :, 0, 0, 0].tolist() == [True, False]


def test_a_union_supervises_the_sum_of_its_members() -> None:
    labels = np.zeros((2, 4, 4), np.uint8)
    labels[0] = 1
    patch = make_patch(labels, LabelContract((KIDNEY,)))
    supervision = supervise([patch], "organ", (LEFT, RIGHT))
    assert supervision.allowed[0, :, 0, 0, 0].tolist() == [False, True, True]
    assert supervision.allowed[0, :, 1, 0, 0].tolist() == [True, False, False]
    assert [r.channels for r in supervision.regions] == [(1, 2)]
    swapped = torch.randn(1, 3, 2, 4, 4)
    assert torch.allclose(
        deep_supervision_loss([swapped], supervision),
        deep_supervision_loss([swapped[:, [0, 2, 1]]], supervision),
    )


def test_union_members_outside_the_group_count_as_background() -> None:
    patch = make_patch(np.full((2, 2, 2), 1, np.uint8), LabelContract((KIDNEY,)))
    supervision = supervise([patch], "organ", (LEFT,))
    assert supervision.allowed[0, :, 0, 0, 0].tolist() == [True, True]
    assert supervision.regions == ()


def test_outside_its_extent_an_anatomy_is_unknown() -> None:
    labels = np.zeros((4, 2, 2), np.uint8)
    labels[1] = 1
    meaning = LabelContract((exact(1, "liver", within=(5.0, 10.0)),))
    supervision = supervise([make_patch(labels, meaning)], "organ", (LIVER,))
    column = supervision.allowed[0, :, :, 0, 0].T.tolist()
    assert column == [[True, True], [False, True], [True, False], [True, True]]
    assert supervision.regions[0].known[0, :, 0, 0].tolist() == [False, True, True, False]


def test_a_voxel_of_one_of_two_is_of_their_union_and_perhaps_of_either() -> None:
    both = LabelEntry(3, "organ", "liver+spleen", ("liver", "spleen"))
    meaning = LabelContract((*contract("liver", "spleen").entries, both))
    labels = np.zeros((4, 1, 1), np.uint8)
    labels[:, 0, 0] = (0, 1, 2, 3)
    supervision = supervise([make_patch(labels, meaning)], "organ", (LIVER, SPLEEN))
    assert supervision.allowed[0, :, 3, 0, 0].tolist() == [False, True, True]
    by_channels = {r.channels: r for r in supervision.regions}
    truth = {c: r.truth[0, :, 0, 0].tolist() for c, r in by_channels.items()}
    known = {c: r.known[0, :, 0, 0].tolist() for c, r in by_channels.items()}
    assert truth[1, 2] == [False, True, True, True]
    assert known[1, 2] == [True] * 4
    assert truth[1,] == [False, True, False, False]
    assert known[1,] == [True, True, True, False]
    alone = supervise([make_patch(labels, meaning)], "organ", (LIVER,)).regions
    assert [r.known[0, :, 0, 0].tolist() for r in alone] == [[True, True, True, False]]


def test_a_composite_channel_is_taught_by_its_union() -> None:
    patch = make_patch(np.full((2, 2, 2), 1, np.uint8), LabelContract((KIDNEY,)))
    both = Channel("kidney", ("kidney_left", "kidney_right"))
    supervision = supervise([patch], "organ", (both,))
    assert supervision.allowed[0, :, 0, 0, 0].tolist() == [False, True]
    assert supervision.regions[0].channels == (1,)


def test_nothing_known_gives_no_gradient() -> None:
    grad = gradient(np.zeros((2, 2, 2), np.uint8), LabelContract(()), (LIVER, SPLEEN))
    assert torch.count_nonzero(grad) == 0


def test_a_perfect_prediction_costs_nothing() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:2] = 1
    supervision = supervise([make_patch(labels, contract("liver"))], "organ", (LIVER,))
    logits = torch.zeros(1, 2, 4, 4, 4)
    logits[:, 1] = torch.from_numpy(np.where(labels == 1, 50.0, -50.0))
    assert float(deep_supervision_loss([logits], supervision)) == pytest.approx(0, abs=1e-4)


def test_has_foreground_looks_at_the_decoders_own_labels() -> None:
    labels = np.zeros((2, 2, 2), np.uint8)
    labels[0, 0, 0] = 2
    patch = make_patch(labels, contract("liver", "spleen"))
    assert has_foreground(patch, "organ", (SPLEEN,))
    assert not has_foreground(patch, "organ", (LIVER,))
    assert not has_foreground(patch, "vessel", (Channel("aorta", ("aorta",)),))
