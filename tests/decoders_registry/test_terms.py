"""Obligations of data: their union follows into everything, and contradictions are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registry_shelf import Shelf, lineage, use

from clnet.decoders_registry.terms import combine, implied_by, obligations_of, unite
from clnet.errors import Incompatible

LICENCES = [
    "CC0-1.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0",
    "Apache-2.0", "GPL-3.0-only", "LicenseRef-hospital-a", "CC-BY-4.0 AND LicenseRef-x",
]  # fmt: skip
TERMS = st.fixed_dictionaries(
    {
        "licence": st.sampled_from(LICENCES),
        "obligations": st.lists(st.sampled_from(["BY", "NC", "SA", "ND", "AGREEMENT"]), max_size=3),
        "consent": st.sampled_from(["", "ethics vote 1/26"]),
    }
)
REFS = st.sampled_from([f"site-{site}/d@{v}" for site in "abcd" for v in (1, 2)])
DATA = st.dictionaries(REFS, TERMS, max_size=6)
Data = dict[str, dict[str, Any]]


@given(DATA, DATA)
def test_the_union_is_exactly_what_each_part_brings(one: Data, two: Data) -> None:
    both = unite(one | two)
    expected = frozenset().union(*(obligations_of(r, t) for r, t in (one | two).items()))
    assert set(both.obligations) == expected
    for obligation, refs in both.sources.items():
        assert set(refs) == {
            ref for ref, terms in (one | two).items() if obligation in obligations_of(ref, terms)
        }
    assert both.licences.keys() == one.keys() | two.keys()
    assert set(unite(one).obligations) - set(both.obligations) == set() or one.keys() & two.keys()


@given(DATA, st.randoms(use_true_random=False))
def test_the_order_never_matters(data: Data, random: Any) -> None:
    shuffled = list(data.items())
    random.shuffle(shuffled)
    assert unite(dict(shuffled)) == unite(data)


@given(DATA, DATA)
def test_more_data_never_takes_an_obligation_or_a_conflict_away(one: Data, two: Data) -> None:
    more = unite({**two, **one})
    assert set(unite(one).obligations) <= set(more.obligations)
    if unite(one).conflicts:
        assert more.conflicts


@given(DATA)
def test_a_release_is_refused_exactly_where_terms_conflict(data: Data) -> None:
    united = unite(data)
    if not united.conflicts:
        assert combine(data).obligations == united.obligations
        assert "ND" not in united.obligations
        return
    with pytest.raises(Incompatible) as caught:
        combine(data)
    assert any(ref in str(caught.value) for ref in data)


def test_every_conflict_is_named_with_datasets_and_obligations() -> None:
    with pytest.raises(Incompatible) as caught:
        combine(
            {
                "a/x@1": {"licence": "CC-BY-SA-4.0"},
                "b/x@1": {"licence": "CC-BY-NC-4.0"},
                "c/x@1": {"licence": "LicenseRef-c", "obligations": ["AGREEMENT"]},
                "d/x@1": {"licence": "CC-BY-ND-4.0"},
            }
        )
    said = str(caught.value)
    for part in ("d/x@1: the terms forbid derivatives (ND)", "b/x@1 adds NC", "c/x@1 adds AGREE"):
        assert part in said


@pytest.mark.parametrize(
    ("licence", "obligations"),
    [
        ("CC-BY-NC-SA-4.0", {"BY", "NC", "SA"}),
        ("CC-BY-ND-3.0-IGO", {"BY", "ND"}),
        ("cc-by-4.0", {"BY"}),
        ("(CC-BY-4.0 AND GPL-3.0-or-later)", {"BY", "SA"}),
        ("GPL-3.0", {"BY", "SA"}),
        ("ODbL-1.0", {"BY", "SA"}),
        ("ODC-By-1.0", {"BY"}),
        ("PolyForm-Noncommercial-1.0.0", {"BY", "NC"}),
        ("C-UDA-1.0", {"BY", "AGREEMENT"}),
        ("CC-BY-NC-ND", {"BY", "NC", "ND"}),
        ("CC-BY-NC4.0", {"BY", "NC"}),
        ("CC0-1.0", set()),
        ("Apache-2.0", set()),
        ("LicenseRef-GPL-like", set()),
        ("LicenseRef-CC-BY", set()),
    ],
)
def test_a_known_licence_says_itself_what_it_demands(licence: str, obligations: set[str]) -> None:
    assert implied_by(licence) == obligations


def test_terms_follow_into_encoders_decoders_and_releases(shelf: Shelf) -> None:
    registry = shelf.registry
    base = lineage(use("a/x@1", "NC"))
    registry.add_encoder("wide", b"wide", {}, {}, base)
    bones = shelf.decoder("bone/ribs", datasets=[use("b/x@1", "AGREEMENT")], encoder="wide")
    liver = shelf.decoder("abdomen/liver", encoder="wide", supporters=[bones.ref])
    assert registry.terms_of("encoder/wide@1").obligations == ("BY", "NC")
    assert registry.terms_of(liver.ref).sources["AGREEMENT"] == ("b/x@1",)
    assert registry.create_release("1", [liver.ref]).terms.obligations == ("AGREEMENT", "BY", "NC")
    assert registry.terms_of("site-a/ct@1", "dataset").obligations == ("BY",)


def test_terms_behind_what_stays_at_home_travel_with_a_release(
    shelf: Shelf, other_hub: Shelf, tmp_path: Path
) -> None:
    dense = shelf.decoder("abdomen/liver", "dense", datasets=[use("a/x@1", "NC")])
    shelf.decoder("abdomen/liver", "cut", lineage=lineage(use("b/x@1"), parents=(dense.ref,)))
    here = shelf.registry.create_release("1", ["abdomen/liver@2"])
    shelf.registry.export_release("1", tmp_path / "out")
    there = other_hub.registry.import_release(tmp_path / "out")
    assert there.terms.obligations == here.terms.obligations == ("BY", "NC")
    assert other_hub.registry.touched_by("a/x@1").releases == ("1",)


def test_nothing_new_is_released_from_withdrawn_data(shelf: Shelf) -> None:
    shelf.decoder("abdomen/liver", datasets=["site-a/ct@1"])
    shelf.registry.withdraw_dataset("site-a/ct@1", "consent revoked")
    with pytest.raises(Incompatible, match=r"site-a/ct@1 \(consent revoked\)"):
        shelf.registry.create_release("1", ["abdomen/liver@1"])
    with pytest.raises(Incompatible, match="withdrawn"):
        shelf.registry.check_usable("site-a/ct@1")
    shelf.registry.check_usable("site-b/ct@1")


@pytest.mark.parametrize("role", ["parents", "supporters", "parent"])
def test_nothing_new_is_made_from_what_withdrawn_data_went_into(shelf: Shelf, role: str) -> None:
    old = shelf.decoder("abdomen/liver", datasets=["site-a/ct@1"])
    begins: dict[str, dict[str, Any]] = {
        "parents": {"lineage": lineage(use("site-b/ct@1"), parents=(old.ref,))},
        "supporters": {"supporters": [old.ref], "datasets": ["site-b/ct@1"]},
        "parent": {"parent": old.ref, "datasets": ["site-b/ct@1"]},
    }
    shelf.registry.check_source(old.ref)
    middle = shelf.decoder("abdomen/liver", "middle", **begins[role])
    shelf.registry.withdraw_dataset("site-a/ct@1", "consent revoked")
    for ref in (old.ref, middle.ref):
        with pytest.raises(Incompatible, match=f"{ref} learned from site-a/ct@1, withdrawn since"):
            shelf.registry.check_source(ref)
    with pytest.raises(Incompatible, match="consent revoked"):
        shelf.decoder("abdomen/liver", "late", **begins[role])
    assert [each.ref for each in shelf.registry.decoders()] == [old.ref, middle.ref]
    shelf.registry.check_source("encoder/starter@1")
