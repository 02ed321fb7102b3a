"""Unknown is unknown, a union is a sum, and an extent ends where the annotator stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_decoders import SIZE, architectures, inputs
from tiny_networks import contract, exact, make_patch

from clnet.anatomy import UNKNOWN, LabelContract, LabelEntry, Patch
from clnet.anatomy.mapping import load_mapping
from clnet.data_catalog.labels import translate_map
from clnet.model.decoder import Channel, Decoder
from clnet.model.encoder import EncoderConfig
from clnet.model.supervision import (
    Supervision,
    deep_supervision_loss,
    has_foreground,
    supervise,
)

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


ORGANS = ("liver", "spleen", "kidney_left", "kidney_right", "stomach")
SPACING = 5.0


@dataclass(frozen=True)
class Hidden:
    """A site whose labels do not tell of one anatomy of a decoder's group, or on few slices only.

    Attributes:
        anatomy: what is hidden; source id k + 1 is ``ORGANS[k]``.
        mapping: the site's.
        within: slices in mm on which the site says where the anatomy is, if on any.
    """

    decoder: Decoder
    encoder: EncoderConfig
    anatomy: str
    mapping: dict[str, object]
    within: tuple[float, float] | None

    @property
    def channel(self) -> int:
        """Logit channel of the hidden anatomy."""
        channels = self.decoder.config.channels
        return next(k for k, c in enumerate(channels, 1) if self.anatomy in c.members)

    def voxels(self, truth: np.ndarray) -> np.ndarray:
        """Where the anatomy is and the site does not say so."""
        z = np.arange(SIZE) * SPACING
        told = np.zeros(SIZE, bool)
        if self.within is not None:
            told = (z >= self.within[0]) & (z <= self.within[1])
        return (truth == ORGANS.index(self.anatomy) + 1) & ~told[:, None, None]

    def supervision(self, cases: Sequence[np.ndarray]) -> Supervision:
        """What the site's labels teach, by the way that contributed labels take."""
        patches = []
        for ids in cases:
            maps, told = translate_map(ids, "labels", load_mapping(self.mapping), SPACING)
            z_mm = np.arange(SIZE) * SPACING
            patches.append(Patch(np.zeros(ids.shape, np.float32), maps, told, z_mm, "case"))
        return supervise(patches, "organ", self.decoder.config.channels)

    def logits(self, seed: int) -> list[torch.Tensor]:
        features, support = inputs(self.decoder, self.encoder, seed)
        return self.decoder.requires_grad_()(features, support)


@st.composite
def hidden_anatomies(draw: st.DrawFn) -> Hidden:
    """Any group, any architecture, any contract that hides one of the group's anatomies."""
    group = draw(st.permutations(ORGANS))[: draw(st.integers(1, 4))]
    channels = [Channel(name, (name,)) for name in group]
    if {"kidney_left", "kidney_right"} <= set(group) and draw(st.booleans()):
        channels = [c for c in channels if not c.name.startswith("kidney")]
        channels.append(Channel("kidney", ("kidney_left", "kidney_right")))
    anatomy = group[0]
    others = [name for name in ORGANS if name != anatomy]
    ends = st.integers(0, SIZE - 1).map(lambda z: z * SPACING)
    extent = st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair)))
    mapping: dict[str, object] = {}
    for name in others:
        union = {"union": [name, draw(st.sampled_from(others))]}
        meaning = st.sampled_from([{"exact": name}, union, "ignore", "unknown"])
        told = draw(meaning)
        if isinstance(told, dict):
            told = told | {"within": draw(st.one_of(st.none(), st.just("auto"), extent))}
        mapping[str(ORGANS.index(name) + 1)] = told
    within = draw(st.none() | extent)
    told = "ignore" if within is None else {"exact": anatomy, "within": list(within)}
    mapping[str(ORGANS.index(anatomy) + 1)] = told
    decoder, encoder = draw(architectures(tuple(channels)))
    return Hidden(decoder, encoder, anatomy, mapping, within)


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=25, deadline=None)
@given(hidden_anatomies(), seeds)
def test_relabelling_a_hidden_anatomy_changes_no_gradient(site: Hidden, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(ORGANS) + 1, (2, SIZE, SIZE, SIZE))
    relabelled = truth.copy()
    for ids in relabelled:
        ids[site.voxels(ids) & (rng.random(ids.shape) < 0.5)] = 0

    def gradients(cases: np.ndarray) -> list[torch.Tensor]:
        site.decoder.zero_grad()
        deep_supervision_loss(site.logits(seed % 1000), site.supervision(cases)).backward()
        return [p.grad for p in site.decoder.parameters()]

    for before, after in zip(gradients(truth), gradients(relabelled), strict=True):
        assert torch.equal(before, after)


@settings(max_examples=25, deadline=None)
@given(hidden_anatomies(), seeds)
def test_calling_a_hidden_anatomy_background_or_by_its_name_costs_the_same(
    site: Hidden, seed: int
) -> None:
    """The network's side of it: where the anatomy is hidden, nothing pulls towards either."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(ORGANS) + 1, (2, SIZE, SIZE, SIZE))
    chosen = np.stack([site.voxels(ids) for ids in truth]) & (rng.random(truth.shape) < 0.5)
    supervision = site.supervision(truth)
    logits = [head.detach() for head in site.logits(seed % 1000)]
    exchanged = [_exchange(head, chosen, site.channel) for head in logits]

    def judged(heads: list[torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
        heads = [head.clone().requires_grad_() for head in heads]
        loss = deep_supervision_loss(heads, supervision)
        loss.backward()
        return loss.item(), [head.grad for head in heads]

    (loss, gradients), (other_loss, others) = judged(logits), judged(exchanged)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    for gradient, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(_exchange(gradient, chosen, site.channel), other)


def _exchange(head: torch.Tensor, chosen: np.ndarray, channel: int) -> torch.Tensor:
    """Values of background and `channel` exchanged in the chosen voxels, picked as heads are."""
    step = [SIZE // side for side in head.shape[2:]]
    where = torch.from_numpy(chosen[:, :: step[0], :: step[1], :: step[2]].copy())
    result = head.clone()
    result[:, 0] = torch.where(where, head[:, channel], head[:, 0])
    result[:, channel] = torch.where(where, head[:, 0], head[:, channel])
    return result


def test_what_is_drawn_outside_its_extent_counts_for_nothing() -> None:
    labels = np.ones((4, 2, 2), np.uint8)
    patch = make_patch(labels, LabelContract((exact(1, "liver", within=(5.0, 10.0)),)))
    column = supervise([patch], "organ", (LIVER,)).allowed[0, :, :, 0, 0].T.tolist()
    assert column == [[True, True], [False, True], [False, True], [True, True]]
    labels[1:3] = 0
    outside = make_patch(labels, LabelContract((exact(1, "liver", within=(5.0, 10.0)),)))
    assert not has_foreground(outside, "organ", (LIVER,))


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


def test_a_channel_that_is_ignored_may_win_what_is_background() -> None:
    ignored = Channel("ignored", ())
    labels = np.zeros((2, 2, 2), np.uint8)
    labels[0] = 1
    supervision = supervise([make_patch(labels, contract("liver"))], "organ", (LIVER, ignored))
    assert supervision.allowed[0, :, 0, 0, 0].tolist() == [False, True, False]
    assert supervision.allowed[0, :, 1, 0, 0].tolist() == [True, False, True]


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
