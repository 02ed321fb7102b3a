from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from clnet.anatomy import Stratification, default_stratification, vocabulary
from clnet.anatomy.vocabulary import REGIONS
from clnet.errors import InputError, NotFound, UnknownAnatomy

PAPER = {
    "Body": 1,
    "Head & Neck": 28,
    "Chest": 31,
    "Abdomen": 19,
    "Bone": 11,
    "LNS": 2,
    "GTV": 9,
}


def written(folder: Path, text: str) -> Path:
    path = folder / "groups.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_has_the_papers_101_groups() -> None:
    groups = list(default_stratification())
    assert len(default_stratification()) == len(groups) == 101
    assert Counter(group.region for group in groups) == PAPER


def test_every_predicted_anatomy_is_in_exactly_one_group() -> None:
    grouped = Counter(a for group in default_stratification() for a in group.anatomies)
    assert grouped == Counter(anatomy.id for anatomy in vocabulary().predicted)


def test_every_group_lies_in_one_layer_and_one_region() -> None:
    for group in default_stratification():
        anatomies = [vocabulary()[anatomy] for anatomy in group.anatomies]
        assert {anatomy.layer for anatomy in anatomies} == {group.layer}, group.id
        assert {anatomy.region for anatomy in anatomies} == {group.region}, group.id
        assert REGIONS[group.id.split("/")[0]] == group.region


def test_both_sides_are_in_one_group() -> None:
    for group in default_stratification():
        for anatomy in group.anatomies:
            twin = anatomy.replace("_left", "_right")
            assert default_stratification().group_of(twin) is group


def test_groups_hold_what_their_names_say() -> None:
    groups = default_stratification()
    assert groups["abdomen/liver"].anatomies == ("liver",)
    assert groups["abdomen/kidneys"].anatomies == ("kidney_left", "kidney_right")
    assert set(groups["chest/lungs"].anatomies) == set(vocabulary().leaves("lung"))
    assert set(groups["bone/ribs"].anatomies) == set(vocabulary().leaves("ribs"))
    assert groups["head_neck/eyes"].layer == "container"
    assert len(groups["lns/head_neck"].anatomies) == 18
    assert len(groups["lns/chest"].anatomies) == 15
    assert {group.id.split("/")[1] for group in groups if group.region == "Bone"} == {
        "skull",
        "mandible",
        "cervical_spine",
        "thoracic_spine",
        "lumbar_spine",
        "sacrum",
        "hips",
        "femurs",
        "ribs",
        "sternum",
        "shoulder_girdle",
    }


def test_group_of_takes_any_name() -> None:
    assert default_stratification().group_of("Right Kidney").id == "abdomen/kidneys"
    with pytest.raises(NotFound, match="kidney"):
        default_stratification().group_of("kidney")
    with pytest.raises(UnknownAnatomy):
        default_stratification().group_of("kidny left")


def test_a_missing_group_is_named() -> None:
    assert "abdomen/livr" not in default_stratification()
    with pytest.raises(NotFound, match="abdomen/livr"):
        default_stratification()["abdomen/livr"]


def test_a_user_may_write_another(tmp_path: Path) -> None:
    own = Stratification.from_yaml(
        written(tmp_path, "abdomen/upper: [Liver, spleen]\nchest/lungs: [lung]\n")
    )
    assert [group.id for group in own] == ["abdomen/upper", "chest/lungs"]
    assert own["abdomen/upper"].anatomies == ("liver", "spleen")
    assert own["chest/lungs"].anatomies == vocabulary().leaves("lung")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abdomen/a: [liver]\nabdomen/b: [liver]", "liver is in abdomen/a and in abdomen/b"),
        ("abdomen/a: [liver, aorta]", "abdomen/a spans layers"),
        ("abdomen/a: [kidney, kidney_left]", "abdomen/a: an anatomy is listed twice"),
        ("abdomen/a: [livr]", "abdomen/a: unknown anatomy 'livr': did you mean liver"),
        ("abdomen/a: [white matter]", "white_matter cuts across"),
        ("abdomen/a: []", "abdomen/a"),
        ("pelvis/a: [liver]", "pelvis/a"),
        ("abdomen/a: liver", "abdomen/a"),
        ("abdomen/a: [liver]\nabdomen/a: [spleen]", "'abdomen/a' is written twice"),
        ("- liver", "groups.yaml"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_bad_one_is_refused_by_file_and_group(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        Stratification.from_yaml(written(tmp_path, text))
    assert "groups.yaml" in str(error.value)
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        Stratification.from_yaml(tmp_path / "nowhere.yaml")
