from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clnet.anatomy import Meaning, load_mapping, vocabulary
from clnet.errors import ContractError, UnknownAnatomy

KIDNEYS = ("kidney_left", "kidney_right")


def meaning(value: Any) -> Meaning:
    (only,) = load_mapping({"1": value}).meanings["1"]
    return only


def test_a_leaf_is_exact() -> None:
    assert meaning("Liver") == Meaning("liver", ("liver",), "organ")
    assert meaning({"exact": "liver"}) == meaning("liver")
    assert meaning("liver").exact


def test_a_composite_means_the_union_of_its_leaves() -> None:
    assert meaning("kidney") == Meaning("kidney", KIDNEYS, "organ")
    assert not meaning("kidney").exact


def test_a_union_that_equals_a_composite_takes_its_name() -> None:
    assert meaning({"union": ["right kidney", "kidney_left"]}).name == "kidney"
    assert meaning({"union": ["lung_left", "lung_right"]}).name == "lung"
    assert meaning({"union": ["spleen", "liver"]}).name == "liver+spleen"
    assert meaning({"union": ["liver"]}) == meaning("liver")


def test_members_are_sorted_and_single() -> None:
    members = meaning({"union": ["kidney", "kidney_right", "spleen"]}).members
    assert members == (*KIDNEYS, "spleen")


def test_an_extent_is_given_or_found() -> None:
    assert meaning({"exact": "liver", "within": "auto"}).within == "auto"
    assert meaning({"anatomy": "kidney", "within": [10, 42.5]}).within == (10.0, 42.5)
    assert meaning({"union": list(KIDNEYS)}).within is None


def test_several_meanings_lie_in_different_layers() -> None:
    mapping = load_mapping({"tumour": ["liver", {"exact": "liver_tumour", "within": "auto"}]})
    assert mapping.meanings["tumour"] == (
        Meaning("liver", ("liver",), "organ"),
        Meaning("liver_tumor", ("liver_tumor",), "gtv", "auto"),
    )
    assert mapping.anatomies == {"liver", "liver_tumor"}


def test_labels_are_ignored_on_purpose() -> None:
    mapping = load_mapping({0: None, "2": "ignore", 3: "liver"})
    assert mapping.ignored == {"0", "2"}
    assert mapping.meanings["0"] == ()


def test_a_mapping_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    table = {1: "liver", 2: {"union": list(KIDNEYS)}, 3: ["liver", "liver_tumor"], 4: None}
    as_yaml = tmp_path / "mapping.yaml"
    as_yaml.write_text(
        "1: liver\n2: {union: [kidney_left, kidney_right]}\n3: [liver, liver_tumor]\n4: null\n",
        encoding="utf-8",
    )
    as_json = tmp_path / "mapping.json"
    as_json.write_text(json.dumps(table), encoding="utf-8")
    assert load_mapping(as_yaml) == load_mapping(as_json) == load_mapping(table)


@pytest.mark.parametrize("value", ["livr", {"union": ["liver", "livr"]}, ["spleen", "livr"]])
def test_an_unknown_name_names_the_label(value: Any) -> None:
    with pytest.raises(UnknownAnatomy, match=r"mapping\.7: unknown anatomy 'livr': .*liver"):
        load_mapping({7: value})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["liver", "spleen"], "liver and spleen are both in layer organ"),
        ({"union": ["liver", "aorta"]}, "in organ and vessel"),
        ({"exact": "kidney"}, "kidney is made of kidney_left, kidney_right"),
        ({"union": []}, "union of nothing"),
        ({}, "give one of"),
        ({"exact": "liver", "union": ["spleen"]}, "give one of"),
        ({"exact": "liver", "within": [3, 1]}, r"within \[3, 1\]"),
        ({"exact": "liver", "within": [0, float("inf")]}, "within"),
        ({"exact": "liver", "within": "somewhere"}, "is not a meaning"),
        ({"exakt": "liver"}, "is not a meaning"),
        (["liver", None], "is not a meaning"),
        (5, "is not a meaning"),
        ([], "write ignore"),
        ("white matter", "white_matter cuts across brain"),
        ("Esophagus_S", "esophagus_cervical cuts across esophagus"),
    ],
)
def test_a_contradiction_names_the_label(value: Any, message: str) -> None:
    with pytest.raises(ContractError, match=rf"mapping\.organs: .*{message}"):
        load_mapping({"organs": value})


@pytest.mark.parametrize("source", [{}, {True: "liver"}, {1.5: "liver"}, {1: "liver", "1": "ct"}])
def test_a_table_that_is_none_is_refused(source: dict[Any, Any]) -> None:
    with pytest.raises(ContractError, match="mapping"):
        load_mapping(source)


@pytest.mark.parametrize("text", ["", "- liver", "1: [", "1: liver\n1: spleen", "1: livr"])
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((ContractError, UnknownAnatomy), match=r"site\.yaml: "):
        load_mapping(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"nowhere\.yaml"):
        load_mapping(tmp_path / "nowhere.yaml")


def test_every_leaf_and_composite_can_be_taught() -> None:
    known = [a.id for a in (*vocabulary().predicted, *vocabulary().composites)]
    mapping = load_mapping({anatomy: anatomy for anatomy in known})
    assert all(len(meanings) == 1 for meanings in mapping.meanings.values())
    assert [m.name for (m,) in mapping.meanings.values()] == known
