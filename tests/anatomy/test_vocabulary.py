from __future__ import annotations

import colorsys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clnet.anatomy import Anatomy, Vocabulary, vocabulary
from clnet.anatomy.vocabulary import LAYERS, REGIONS, fold
from clnet.errors import UnknownAnatomy

CLASS_LISTS = sorted((Path(__file__).parent / "class_lists").glob("*.txt"))
COUNTS = {
    "totalsegmentator_v2": 117,
    "totalsegmentator_v1": 104,
    "vista3d": 132,
    "cads": 167,
    "cads_display": 167,
    "segrap2023": 45,
}
UNPAIRED = {"lung_middle_lobe_right"}  # the left lung has no middle lobe


def published(path: Path) -> list[str]:
    source, *names = path.read_text(encoding="utf-8").splitlines()
    assert source.startswith("# ")
    return names


def leaf(**changes: object) -> Anatomy:
    fields: dict[str, object] = {
        "id": "liver",
        "name": "Liver",
        "region": "Abdomen",
        "layer": "organ",
        "side": None,
        "parent": None,
        "snomed": None,
        "colour": "#aa0000",
        "aliases": (),
        "source": "a test",
    }
    return Anatomy.model_validate(fields | changes)


def test_there_are_at_least_235_anatomies_to_predict() -> None:
    assert len(vocabulary().predicted) >= 235


def test_all_class_lists_are_complete() -> None:
    assert {path.stem: len(set(published(path))) for path in CLASS_LISTS} == COUNTS


@pytest.mark.parametrize("path", CLASS_LISTS, ids=lambda path: path.stem)
def test_every_published_class_name_resolves(path: Path) -> None:
    assert [name for name in published(path) if vocabulary().find(name) is None] == []


def test_totalsegmentator_v2_names_are_the_canonical_ids() -> None:
    path = Path(__file__).parent / "class_lists" / "totalsegmentator_v2.txt"
    assert [name for name in published(path) if name not in vocabulary()] == []


@pytest.mark.parametrize(
    ("name", "anatomy"),
    [
        ("Left Kidney", "kidney_left"),
        ("KIDNEY-LEFT", "kidney_left"),
        ("Kidney L", "kidney_left"),
        ("kidney (left)", "kidney_left"),
        ("left rib 1", "rib_left_1"),
        ("Rib-1 L", "rib_left_1"),
        ("Vertebra Th12", "vertebrae_T12"),
        ("C2", "vertebrae_C2"),
        ("left atrium", "heart_atrium_left"),
        ("hepatic tumor", "liver_tumor"),
        ("liver_tumour", "liver_tumor"),
        ("OAR_Glnd_Submand_R", "submandibular_gland_right"),
        ("VestibulSemi_L", "vestibule_semicircular_canals_left"),
        ("HN_LNS_2La", "lymph_node_level_IIa_left"),
        ("Chest_LNS3_A", "lymph_node_station_3A"),
        ("postcava", "inferior_vena_cava"),
        ("Prostate/Uterus", "prostate_or_uterus"),
    ],
)
def test_a_name_resolves_whatever_its_spelling(name: str, anatomy: str) -> None:
    assert vocabulary().resolve(name) == anatomy


@given(
    st.sampled_from([name for a in vocabulary() for name in (a.id, a.name, *a.aliases)]),
    st.sampled_from([" ", "-", "_", "  ", " - "]),
    st.booleans(),
)
def test_case_and_separators_never_matter(name: str, separator: str, shout: bool) -> None:
    spelt = separator.join(fold(name).split("_"))
    spelt = spelt.upper() if shout else spelt
    assert vocabulary().resolve(spelt) == vocabulary().resolve(name)


@given(st.text())
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownAnatomy, match=r"'spleeen': did you mean spleen"):
        vocabulary().resolve("spleeen")
    with pytest.raises(UnknownAnatomy, match="clnet anatomies list"):
        vocabulary().resolve("qqqqqqqq")
    with pytest.raises(UnknownAnatomy, match="kidney_left"):
        vocabulary()["Left Kidney"]
    assert vocabulary().find("spleeen") is None


def test_composites_are_the_union_of_their_leaves() -> None:
    leaves = vocabulary().leaves
    assert leaves("kidney") == ("kidney_left", "kidney_right")
    assert leaves("liver") == ("liver",)
    assert len(leaves("lung")) == 5
    assert len(leaves("ribs")) == 24
    assert len(leaves("vertebrae_cervical")) == 7
    assert set(leaves("vertebrae")) < set(leaves("bone"))
    assert {vocabulary()[anatomy].layer for anatomy in leaves("muscle")} == {"muscle"}
    assert set(leaves("muscle")) == {a.id for a in vocabulary().predicted if a.layer == "muscle"}


@pytest.mark.parametrize("label", ["liver", "kidney", "liver+spleen"])
def test_a_label_that_unites_anatomies_tells_its_members(label: str) -> None:
    assert vocabulary().composite_of(vocabulary().members(label)) == label


def test_composites_lie_in_the_layer_of_their_parts() -> None:
    known = vocabulary()
    for composite in known.composites:
        assert len(known.leaves(composite.id)) > 1, composite.id
        for anatomy in known.leaves(composite.id):
            assert known[anatomy].layer == composite.layer, composite.id


def test_coarse_names_resolve_but_are_no_composites() -> None:
    coarse = vocabulary()[vocabulary().resolve("white matter")]
    assert coarse.coarse
    assert not coarse.leaf
    assert coarse not in vocabulary().composites


def test_no_leaf_lies_within_another_leaf_of_its_layer() -> None:
    known = vocabulary()
    for anatomy in known.predicted:
        parent = anatomy.parent
        while parent is not None:
            outer = known[parent]
            assert not (outer.leaf and outer.layer == anatomy.layer), (anatomy.id, outer.id)
            parent = outer.parent


def test_a_composite_is_parent_or_ancestor_of_nothing_outside_itself() -> None:
    known = vocabulary()
    for anatomy in known:
        parent = known[anatomy.parent] if anatomy.parent else None
        if parent is not None and parent in known.composites and not anatomy.coarse:
            inside = set(known.leaves(parent.id))
            if anatomy.layer == parent.layer:
                assert set(known.leaves(anatomy.id)) <= inside, anatomy.id


def test_names_and_aliases_are_unique_after_folding() -> None:
    owner: dict[str, str] = {}
    for anatomy in vocabulary():
        for name in (anatomy.id, anatomy.name, *anatomy.aliases):
            assert owner.setdefault(fold(name), anatomy.id) == anatomy.id, name


def test_sides_are_paired() -> None:
    known = vocabulary()
    other = {"left": "right", "right": "left"}
    for anatomy in known:
        tokens = anatomy.id.split("_")[1:]
        assert anatomy.side == next((token for token in tokens if token in other), None)
        if anatomy.side is None or anatomy.id in UNPAIRED:
            continue
        twin = known[anatomy.id.replace(f"_{anatomy.side}", f"_{other[anatomy.side]}")]
        assert twin.side == other[anatomy.side]
        assert (twin.region, twin.layer, twin.coarse) == (
            anatomy.region,
            anatomy.layer,
            anatomy.coarse,
        )


def test_parents_are_acyclic_and_known() -> None:
    known = vocabulary()
    for anatomy in known:
        seen = {anatomy.id}
        while anatomy.parent is not None:
            anatomy = known[anatomy.parent]
            assert anatomy.id not in seen
            seen.add(anatomy.id)


def test_colours_are_distinct_and_visible() -> None:
    colours = [anatomy.colour for anatomy in vocabulary()]
    assert len(set(colours)) == len(colours)
    for colour in colours:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert colorsys.rgb_to_hsv(red, green, blue)[2] >= 0.5


def test_only_the_two_sides_of_one_structure_share_a_code_among_leaves() -> None:
    owners: dict[str, set[str]] = {}
    for anatomy in vocabulary().predicted:
        if anatomy.snomed is not None:
            stem = "_".join(w for w in anatomy.id.split("_") if w not in ("left", "right"))
            owners.setdefault(anatomy.snomed, set()).add(stem)
    assert {code: stems for code, stems in owners.items() if len(stems) > 1} == {}


def test_every_region_and_layer_is_in_use() -> None:
    assert {anatomy.region for anatomy in vocabulary().predicted} == set(REGIONS.values())
    assert {anatomy.layer for anatomy in vocabulary().predicted} == set(LAYERS)


def test_a_vocabulary_that_contradicts_itself_is_refused() -> None:
    spleen = leaf(id="spleen", name="Spleen", layer="vessel")
    with pytest.raises(ValueError, match="listed twice"):
        Vocabulary([leaf(), leaf()])
    with pytest.raises(ValueError, match="means both"):
        Vocabulary([leaf(), leaf(id="spleen", name="Spleen", aliases=("LIVER",))])
    with pytest.raises(ValueError, match="unknown relative"):
        Vocabulary([leaf(parent="abdomen")])
    with pytest.raises(ValueError, match="own ancestor"):
        Vocabulary([leaf(parent="spleen"), leaf(id="spleen", name="Spleen", parent="liver")])
    with pytest.raises(ValueError, match="contains itself"):
        Vocabulary([leaf(parts=("liver",))])
    with pytest.raises(ValueError, match="has parts in"):
        Vocabulary([leaf(), spleen, leaf(id="both", name="Both", parts=("liver", "spleen"))])


def test_the_vocabulary_is_read_quickly() -> None:
    began = time.process_time()
    vocabulary.__wrapped__()
    assert time.process_time() - began < 0.3


@pytest.mark.parametrize(
    ("label", "anatomy", "lies"),
    [
        ("liver", "liver", True),
        ("kidney_left", "kidney", True),
        ("kidney_left+kidney_right", "kidney", True),
        ("kidney", "kidney_left", False),
        ("oropharynx", "pharynx", True),
        ("liver", "spleen", False),
    ],
)
def test_a_label_lies_in_what_holds_it(label: str, anatomy: str, lies: bool) -> None:
    assert vocabulary().lies_in(label, anatomy) is lies
