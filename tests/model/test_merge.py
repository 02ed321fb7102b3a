"""The merge: tiers, a total order within them, gating, and blocks that do not show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from clnet.anatomy.vocabulary import vocabulary
from clnet.errors import InputError, UnknownAnatomy
from clnet.model.blocks import Blocks
from clnet.model.fold import Claimant, Merger
from clnet.model.geometry import linear_matrix
from clnet.model.merge import Codebook, Merged, contests, is_ancestor
from clnet.model.outputs import Output
from clnet.model.policy import MergePolicy
from clnet.model.readout import Block, Readout
from clnet.model.scratch import Scratch

SHAPE = (4, 5, 6)


@dataclass(frozen=True)
class Source:
    """A decoder's logits on the plan's slices from `first` on, and what it may claim."""

    outputs: tuple[Output, ...]
    logits: torch.Tensor
    tier: int
    first: int
    admitted: np.ndarray
    ignored: tuple[int, ...] = ()
    regions: bool = False
    temperature: float = 1.0


def output(anatomy: str, channel: int = 1) -> Output:
    known = vocabulary()
    return Output(anatomy, known[anatomy].layer, known.leaves(anatomy), (channel,), None)


def claimant(
    anatomies: Sequence[str],
    logits: torch.Tensor,
    tier: int = 0,
    first: int = 0,
    admitted: np.ndarray | None = None,
    depth: int = SHAPE[0],
) -> Source:
    outputs = tuple(output(a, k) for k, a in enumerate(anatomies, start=1))
    if admitted is None:
        admitted = np.ones((len(outputs), depth), bool)
    return Source(outputs, logits, tier, first, admitted)


def everywhere(anatomy: str, score: float, tier: int = 0) -> Source:
    """Claims every voxel with one probability."""
    logits = torch.zeros((2, *SHAPE))
    logits[1] = np.log(score / (1 - score))
    return claimant([anatomy], logits, tier)


def fold(
    sources: Sequence[Source],
    shape: tuple[int, int, int] = SHAPE,
    depth: int = SHAPE[0],
    reported: set[str] | None = None,
    passes: Sequence[int] = (),
    aware: bool = True,
    policy: MergePolicy = MergePolicy(),  # noqa: B008 (frozen)
) -> Merged:
    """The merge of whole logits, taken block by block; source `i` belongs to ``passes[i]``."""
    keys = {str(i): source for i, source in enumerate(sources)}
    book = Codebook((s.tier, key, o) for key, s in keys.items() for o in s.outputs)
    turns = {key: policy.turn(s.tier) for key, s in keys.items()}
    found = contests({k: (turns[k], s.outputs) for k, s in keys.items()}) if aware else {}
    claimants = {
        key: Claimant(
            Readout(s.outputs, s.temperature, ignored=s.ignored, regions=s.regions),
            turns[key],
            s.admitted,
            found[key].outputs if key in found else (),
        )
        for key, s in keys.items()
    }
    order = list(passes) or [0] * len(sources)
    grouped = [[str(i) for i, p in enumerate(order) if p == q] for q in range(max(order) + 1)]
    merger = Merger(claimants, grouped, book, reported or book.anatomies, shape, Scratch())
    plan = (depth, *sources[0].logits.shape[2:])
    blocks = Blocks.of(tuple(linear_matrix(p, s) for p, s in zip(plan, shape, strict=True)))
    for index, group in enumerate(grouped):
        for z, y, x in product(blocks.z, blocks.y, blocks.x):
            parts = {}
            for key in group:
                source = keys[key]
                cut = z.narrowed(source.first, source.first + source.logits.shape[1])
                if cut.source[0] < cut.source[1]:
                    rows = slice(cut.source[0] - source.first, cut.source[1] - source.first)
                    sums = source.logits[:, rows, slice(*y.source), slice(*x.source)]
                    parts[key] = Block(cut, y, x, sums.contiguous())
            merger(index, (z, y, x), parts)
    return merger.merged()


def anatomy_at(merged: Merged, layer: str, voxel: tuple[int, int, int] = (0, 0, 0)) -> str | None:
    return merged.names[layer].get(int(merged.labels[layer][voxel]))


def test_within_a_tier_the_higher_score_wins() -> None:
    merged = fold([everywhere("spleen", 0.7), everywhere("liver", 0.8)])
    assert anatomy_at(merged, "organ") == "liver"


def test_scores_are_compared_after_each_decoders_temperature() -> None:
    bold = replace(everywhere("liver", 0.8), temperature=3.0)  # 0.61
    merged = fold([everywhere("spleen", 0.7), bold])
    assert anatomy_at(merged, "organ") == "spleen"


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("temperature", [0.25, 0.7, 2.5, 3.9])
def test_no_temperature_changes_which_channel_of_a_decoder_wins(
    temperature: float, regions: bool
) -> None:
    rng = np.random.default_rng(0)
    lower = rng.uniform(1, 8, SHAPE).astype(np.float32)
    logits = np.stack((lower, np.nextafter(lower, np.float32(9)), lower - 1))  # by one bit
    source = claimant(["liver", "spleen"], torch.from_numpy(logits))
    warm = fold([replace(source, temperature=temperature, regions=regions)])
    assert anatomy_at(warm, "organ") == "liver"
    assert warm.won == fold([replace(source, regions=regions)]).won == {"liver": {"0": lower.size}}


def test_within_a_tier_finer_comes_before_coarser_whatever_the_score() -> None:
    merged = fold([everywhere("kidney", 0.99), everywhere("kidney_left", 0.6)])
    assert anatomy_at(merged, "organ") == "kidney_left"


def test_equal_claims_are_settled_by_canonical_id() -> None:
    for order in permutations([everywhere(a, 0.7) for a in ("spleen", "liver", "stomach")]):
        assert anatomy_at(fold(order), "organ") == "liver"


def test_a_later_tier_does_not_touch_what_an_earlier_one_labelled() -> None:
    merged = fold([everywhere("liver", 0.51), everywhere("spleen", 0.99, tier=1)])
    assert anatomy_at(merged, "organ") == "liver"


def test_a_later_tier_claims_what_earlier_ones_left_background() -> None:
    logits = torch.zeros((2, *SHAPE))
    logits[1, :2], logits[1, 2:] = 2.0, -2.0
    merged = fold([claimant(["liver"], logits), everywhere("spleen", 0.6, tier=1)])
    assert anatomy_at(merged, "organ", (1, 0, 0)) == "liver"
    assert anatomy_at(merged, "organ", (2, 0, 0)) == "spleen"


def test_a_later_tier_refines_an_ancestor() -> None:
    merged = fold([everywhere("kidney", 0.99), everywhere("kidney_left", 0.6, tier=1)])
    assert anatomy_at(merged, "organ") == "kidney_left"
    assert is_ancestor(output("kidney"), output("kidney_left"))
    assert not is_ancestor(output("kidney_left"), output("kidney"))
    assert not is_ancestor(output("liver"), output("kidney_left"))


def test_a_claim_that_may_not_win_does_not_hide_one_that_may() -> None:
    merged = fold(
        [
            everywhere("kidney", 0.9),
            everywhere("liver", 0.99, tier=1),
            everywhere("kidney_left", 0.6, tier=1),
        ]
    )
    assert anatomy_at(merged, "organ") == "kidney_left"


def test_layers_do_not_compete() -> None:
    merged = fold([everywhere("liver", 0.6), everywhere("aorta", 0.9), everywhere("sacrum", 0.9)])
    found = {anatomy_at(merged, layer) for layer in merged.labels}
    assert found == {"liver", "aorta", "sacrum"}


ORGANS = ("liver", "spleen", "stomach", "pancreas", "kidney", "kidney_left", "kidney_right")


@st.composite
def releases(draw: st.DrawFn) -> list[Source]:
    """Decoders of one to three organs with random coarse logits, in up to three tiers."""
    found = []
    for _ in range(draw(st.integers(2, 3))):
        names = draw(st.lists(st.sampled_from(ORGANS), min_size=1, max_size=3, unique=True))
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        # few distinct values, so that ties are common
        logits = rng.integers(-2, 3, (len(names) + 1, *SHAPE)).astype(np.float32)
        found.append(claimant(names, torch.from_numpy(logits), draw(st.integers(0, 2))))
    return found


@settings(max_examples=25, deadline=None)
@given(claimants=releases(), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_decoders_does_not_matter(claimants: list[Source], shuffle: object) -> None:
    expected = fold(claimants)
    shuffled = list(claimants)
    shuffle.shuffle(shuffled)  # type: ignore[attr-defined]
    found = fold(shuffled)
    assert found.names == expected.names
    np.testing.assert_array_equal(found.labels["organ"], expected.labels["organ"])


@settings(max_examples=25, deadline=None)
@given(sources=releases(), cut=st.integers(1, 3))
def test_passes_do_not_show(sources: list[Source], cut: int) -> None:
    tiers = sorted({s.tier for s in sources})
    ordered = sorted(sources, key=lambda s: s.tier)
    passes = [min(i // cut, len(tiers)) for i in range(len(ordered))]
    # decoders that look for the same anatomy belong together
    expected, found = fold(ordered, aware=False), fold(ordered, passes=passes, aware=False)
    assert found.names == expected.names
    np.testing.assert_array_equal(found.labels["organ"], expected.labels["organ"])


def test_of_two_that_look_for_an_anatomy_the_more_certain_decides() -> None:
    def says(probability: float, tier: int = 0) -> Source:
        return everywhere("liver", probability, tier)

    for sources in permutations([says(0.6), says(0.02)]):
        assert anatomy_at(fold(sources), "organ") is None
    for sources in permutations([says(0.99), says(0.1), says(0.55)]):
        assert anatomy_at(fold(sources), "organ") == "liver"
    assert anatomy_at(fold([says(0.6), says(0.02)], aware=False), "organ") == "liver"
    assert anatomy_at(fold([says(0.6), says(0.02, tier=1)]), "organ") == "liver"


@settings(max_examples=25, deadline=None)
@given(sources=releases(), parts=st.integers(1, 400), stretches=st.integers(1, 400))
def test_neither_parts_nor_stretches_of_a_contest_show(
    sources: list[Source], parts: int, stretches: int
) -> None:
    whole = fold(sources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clnet.model.readout.LOGIT_VALUES", parts)
        patch.setattr("clnet.model.contest.LOGIT_VALUES", stretches)
        cut = fold(sources)
    assert (cut.won, cut.denied, cut.suppressed) == (whole.won, whole.denied, whole.suppressed)
    for layer, labels in whole.labels.items():
        np.testing.assert_array_equal(cut.labels[layer], labels)


@settings(max_examples=25, deadline=None)
@given(sources=releases())
def test_every_labelled_voxel_is_known_by_its_decoder(sources: list[Source]) -> None:
    merged = fold(sources)
    for value, anatomy in merged.names["organ"].items():
        won = merged.won.get(anatomy, {})
        assert sum(won.values()) == (merged.labels["organ"] == value).sum()
        assert set(won) <= {
            str(i) for i, s in enumerate(sources) if anatomy in {o.anatomy for o in s.outputs}
        }


def test_what_a_more_certain_decoder_denies_is_counted() -> None:
    merged = fold([everywhere("liver", 0.6), everywhere("liver", 0.02)])
    assert merged.denied == {"liver": {"0": np.prod(SHAPE)}}
    merged = fold([everywhere("liver", 0.6), everywhere("liver", 0.9)])
    assert merged.won == {"liver": {"1": np.prod(SHAPE)}}


def test_a_decoder_has_no_say_where_its_slices_are_not_admitted() -> None:
    unsure, denies = everywhere("liver", 0.6), everywhere("liver", 0.02)
    admitted = np.zeros((1, SHAPE[0]), bool)
    admitted[0, 2:] = True
    merged = fold([unsure, replace(denies, admitted=admitted)])
    assert anatomy_at(merged, "organ", (1, 0, 0)) == "liver"
    assert anatomy_at(merged, "organ", (2, 0, 0)) is None


def test_who_shares_an_anatomy_is_bound_together_through_others_too() -> None:
    liver, spleen, heart = output("liver"), output("spleen", 2), output("heart", 2)
    found = contests(
        {"a": (0, (liver,)), "b": (0, (liver, spleen)), "c": (0, (spleen,)), "d": (0, (heart,))}
    )
    assert {key: contest.bond for key, contest in found.items()} == dict.fromkeys("abc", "a")
    assert found["b"].outputs == (0, 1)
    assert not contests({"a": (0, (liver,)), "b": (1, (liver,))})


@settings(max_examples=25, deadline=None)
@given(old=releases(), new=releases())
def test_a_new_tier_changes_no_old_voxel(old: list[Source], new: list[Source]) -> None:
    later = [replace(c, tier=c.tier + 3) for c in new]
    before, after = fold(old), fold([*old, *later])
    names_before, names_after = before.names["organ"], after.names["organ"]
    assert {v: names_after[v] for v in names_before} == names_before
    ancestors = {"kidney": {"kidney", "kidney_left", "kidney_right"}}
    for value, name in names_before.items():
        was = before.labels["organ"] == value
        kept = {v for v, n in names_after.items() if n in ancestors.get(name, {name})}
        assert np.isin(after.labels["organ"][was], list(kept)).all()
        if name not in ancestors and all(o.anatomy != name for c in later for o in c.outputs):
            np.testing.assert_array_equal(after.labels["organ"] == value, was)


@settings(max_examples=25, deadline=None)
@given(old=releases(), new=releases())
def test_the_newest_may_be_given_precedence(old: list[Source], new: list[Source]) -> None:
    newest = MergePolicy(precedence="newest")
    later = [replace(c, tier=c.tier + 3) for c in new]
    alone, both = fold(later, policy=newest), fold([*old, *later], policy=newest)
    ancestors = {"kidney": {"kidney", "kidney_left", "kidney_right"}}
    for value, name in alone.names["organ"].items():
        mine = alone.labels["organ"] == value
        allowed = ancestors.get(name, {name})
        kept = {v for v, n in both.names["organ"].items() if n in allowed}
        assert np.isin(both.labels["organ"][mine], list(kept)).all()
    free = alone.labels["organ"] == 0
    before = fold(old, policy=newest)
    for value, name in before.names["organ"].items():  # what is left goes to whoever had it
        same = next(v for v, n in both.names["organ"].items() if n == name)
        mine = (before.labels["organ"] == value) & free
        assert (both.labels["organ"][mine] == same).all()
    usual = fold([*old, *later])
    assert usual.names == both.names  # label values do not depend on it


@settings(max_examples=25, deadline=None)
@given(sources=releases())
def test_tiers_may_be_equal(sources: list[Source]) -> None:
    found = fold(sources, policy=MergePolicy(precedence="equal"))
    flat = fold([replace(s, tier=0) for s in sources])
    values = {name: value for value, name in flat.names["organ"].items()}
    for value, name in found.names["organ"].items():
        np.testing.assert_array_equal(
            found.labels["organ"] == value, flat.labels["organ"] == values[name]
        )


def reference(logits: torch.Tensor, shape: tuple[int, int, int]) -> np.ndarray:
    whole = F.interpolate(logits[None], size=shape, mode="trilinear", align_corners=False)[0]
    best = whole.topk(2, dim=0)
    label = best.indices[0].numpy()
    label[(best.values[0] - best.values[1]).numpy() < 1e-4] = -1  # either is right
    return label


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    plan=st.tuples(*[st.integers(1, 7)] * 3),
    seed=st.integers(0, 999),
)
def test_blocks_and_boxes_do_not_show(
    shape: tuple[int, int, int], plan: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(3, *plan)).astype(np.float32))
    logits[0] += 0.8
    source = claimant(["liver", "spleen"], logits, depth=shape[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clnet.model.blocks.MOST_ROWS", (3, 4, 5))
        patch.setattr("clnet.model.readout.LOGIT_VALUES", 2)
        found = fold([source], shape, plan[0]).labels["organ"]
    expected = reference(logits, shape)
    clear = expected >= 0
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_what_gating_takes_is_dropped_and_counted() -> None:
    admitted = np.array([[True, True, False, False], [True, True, True, True]])
    logits = torch.zeros((3, *SHAPE))
    logits[1, :, :, :3] = 1.0
    logits[2, :, :, 3:] = 1.0
    source = claimant(["liver", "spleen"], logits, admitted=admitted)
    merged = fold([source, everywhere("stomach", 0.6, tier=1)])
    assert merged.suppressed == {"liver": 2 * 5 * 3}
    assert anatomy_at(merged, "organ", (1, 0, 0)) == "liver"
    assert anatomy_at(merged, "organ", (2, 0, 0)) == "stomach"
    assert anatomy_at(merged, "organ", (2, 0, 5)) == "spleen"


def test_slices_whose_neighbours_were_not_computed_claim_nothing() -> None:
    logits = torch.full((2, 2, 5, 6), 1.0)
    logits[0] = 0
    admitted = np.zeros((1, 8), bool)
    admitted[0, 3:5] = True
    source = claimant(["liver"], logits, first=1, admitted=admitted, depth=8)
    merged = fold([source], (8, 5, 6), depth=4)
    found = (merged.labels["organ"] > 0).any(axis=(1, 2))
    np.testing.assert_array_equal(np.flatnonzero(found), [3, 4])


def test_only_what_was_asked_for_is_written_but_all_compete() -> None:
    merged = fold([everywhere("liver", 0.9), everywhere("spleen", 0.7)], reported={"spleen"})
    assert merged.names == {"organ": {1: "spleen"}}
    assert not merged.labels["organ"].any()


def test_many_labels_take_two_bytes() -> None:
    names = [a.id for a in vocabulary().predicted if a.layer == "organ"][:10]
    many = [Output(f"{n}+{i}", "organ", (n,), (1,), None) for i in range(30) for n in names]
    source = Source(tuple(many), torch.zeros((301, *SHAPE)), 0, 0, np.ones((300, SHAPE[0]), bool))
    assert fold([source]).labels["organ"].dtype == np.uint16


def test_a_policy_survives_json_and_refuses_the_unknown() -> None:
    policy = MergePolicy(gating=False, precedence="newest", largest_component=("liver",))
    assert MergePolicy.from_dict(policy.to_dict()) == policy
    assert MergePolicy.from_dict({}) == MergePolicy()
    with pytest.raises(InputError, match="colour"):
        MergePolicy.from_dict({"colour": 1})
    with pytest.raises(UnknownAnatomy, match="kidney"):
        MergePolicy.from_dict({"largest_component": ["kidny"]})
    assert MergePolicy.from_dict({"largest_component": ["kidney"]}).largest_component == (
        "kidney_left",
        "kidney_right",
    )


def test_regions_are_painted_in_order_layer_by_layer() -> None:
    logits = torch.zeros((4, 1, 1, 4))
    logits[1, ..., 1:] = 1.0  # kidney, of both sides
    logits[2, ..., 2:] = 0.5  # the left one, painted over it
    logits[3, ..., 3] = 2.0  # in a layer of its own
    outputs = (output("kidney", 1), output("kidney_left", 2), output("aorta", 3))
    source = Source(outputs, logits, 0, 0, np.ones((3, 1), bool), regions=True)
    merged = fold([source], (1, 1, 4), depth=1)
    layer = outputs[2].layer
    assert layer != outputs[0].layer
    found = [anatomy_at(merged, outputs[0].layer, (0, 0, x)) for x in range(4)]
    assert found == [None, "kidney", "kidney_left", "kidney_left"]
    assert [anatomy_at(merged, layer, (0, 0, x)) for x in range(4)] == [None, None, None, "aorta"]


def test_what_an_imported_network_ignores_wins_its_voxels_for_background() -> None:
    logits = torch.zeros((3, 1, 1, 2))
    logits[1], logits[2, ..., 1] = 1.0, 3.0
    source = Source((output("liver", 1),), logits, 0, 0, np.ones((1, 1), bool), ignored=(2,))
    merged = fold([source], (1, 1, 2), depth=1)
    assert [anatomy_at(merged, "organ", (0, 0, x)) for x in range(2)] == ["liver", None]


def test_what_lies_outside_the_plans_grid_is_nobodys() -> None:
    head = torch.nn.Conv3d(1, 2, 1)
    torch.nn.init.constant_(head.bias, 0.0)
    with torch.no_grad():
        head.bias[1] = 5.0
    back = [linear_matrix(3, 3) for _ in range(3)]
    back[2] = csr_array(np.eye(5, 3, -2, dtype=np.float32))
    blocks = Blocks.of((back[0], back[1], back[2]))
    (z,), (y,) = blocks.z, blocks.y
    for x in blocks.x:
        sums = torch.zeros((1, 3, 3, x.source[1] - x.source[0]))
        (claims,) = Readout((output("liver"),), head=head).parts(Block(z, y, x, sums), ())
        inside = np.arange(*x.rows) >= 2
        assert (claims.channel[..., inside] == 1).all()
        assert not claims.channel[..., ~inside].any()
