"""The rule by which a release grows from its parent, for any parent and any choice."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_shelf import digest, lineage

from clnet.decoders_registry import DecoderRecord, Supporter
from clnet.decoders_registry.folding import Tiers, check_supported, fold, leaned_on
from clnet.errors import Incompatible


def decoder(group: str, version: int, supporters: tuple[str, ...] = ()) -> DecoderRecord:
    return DecoderRecord(
        ref=f"{group}@{version}",
        group=group,
        version=version,
        sha256=digest(f"{group}@{version}"),
        encoder_ref="encoder/e@1",
        encoder_sha256=digest("e"),
        body_part_model_ref="bpr/b@1",
        body_part_model_sha256=digest("b"),
        config={},
        metrics={},
        learned=(group,),
        supporters=tuple(Supporter(ref=ref, sha256=digest(ref)) for ref in supporters),
        lineage=lineage(),
    )


groups = st.sampled_from("abcdefgh")
choices = st.dictionaries(groups, st.integers(1, 3)).map(
    lambda chosen: [decoder(group, version) for group, version in chosen.items()]
)


@given(st.lists(choices, max_size=4), choices)
def test_what_is_not_chosen_stays_where_it_was(
    history: list[list[DecoderRecord]], chosen: list[DecoderRecord]
) -> None:
    parent: Tiers = ()
    for earlier in history:
        parent = fold(parent, earlier)
    child = fold(parent, chosen)
    picked = {record.group: record for record in chosen}
    for old_tier, new_tier in zip(parent, child, strict=False):
        assert [picked.get(old.group, old) for old in old_tier] == list(new_tier)
    known = {old.group for tier in parent for old in tier}
    new = sorted(picked.keys() - known)
    assert [[record.group for record in tier] for tier in child[len(parent) :]] == (
        [new] if new else []
    )
    assert fold(child, chosen) == child


@given(choices, st.randoms())
def test_the_order_of_choosing_does_not_matter(chosen: list[DecoderRecord], random: object) -> None:
    shuffled = list(chosen)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold((), shuffled) == fold((), chosen)


def test_choosing_two_versions_of_a_group_is_refused() -> None:
    with pytest.raises(Incompatible, match="a@1 and a@2"):
        fold((), [decoder("a", 1), decoder("a", 2)])


@given(st.data())
def test_after_adding_supporters_nothing_leans_on_thin_air(data: st.DataObject) -> None:
    everyone: dict[str, DecoderRecord] = {}
    for number in range(8):
        leans_on = data.draw(st.sets(st.sampled_from(sorted(everyone) or [""]), max_size=3))
        record = decoder(f"g{number}", 1, tuple(sorted(leans_on - {""})))
        everyone[record.ref] = record
    refs = data.draw(st.sets(st.sampled_from(sorted(everyone)), min_size=1))
    chosen = [everyone[ref] for ref in refs]
    tiers = fold((), chosen)
    extra = leaned_on(chain(*tiers), everyone.__getitem__)
    served = {record.ref for record in chosen}
    assert served.isdisjoint(record.ref for record in extra)
    check_supported([*chosen, *extra])
    for record in extra:  # and none could be left out
        with pytest.raises(Incompatible, match=f"leans on {record.ref}"):
            check_supported([*chosen, *(other for other in extra if other is not record)])
