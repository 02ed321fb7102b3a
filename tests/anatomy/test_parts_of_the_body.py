"""Which part of the body labels tell of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clnet.anatomy import part_of_body, vocabulary

IDS = sorted(anatomy.id for anatomy in vocabulary())


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ({"liver", "spleen", "aorta", "inferior_vena_cava", "esophagus"}, "abdomen"),
        ({"liver", "aorta"}, "abdomen"),
        ({"aorta"}, "chest"),
        ({"lung", "heart", "spinal_cord"}, "chest"),
        ({"spinal_cord"}, "head_neck"),
        ({"lung_tumor"}, "chest"),
        ({"liver_tumor"}, "abdomen"),
        ({"kidney_tumor"}, "abdomen"),
        ({"head_neck_nodal_tumor", "nasopharynx_tumor"}, "head_neck"),
        ({"lymph_node_station_7"}, "chest"),
        ({"lymph_node_level_Ia_left"}, "head_neck"),
        ({"ribs", "sternum"}, "chest"),
        ({"sacrum+vertebrae_S1", "hip"}, "abdomen"),
        ({"vertebrae"}, "whole_body"),
        ({"liver", "brain"}, "whole_body"),
        ({"body"}, "whole_body"),
        ({"body", "brain"}, "head_neck"),
        ({"bone_tumor", "something of a later vocabulary"}, "whole_body"),
        (set(), "whole_body"),
    ],
)
def test_most_anatomies_decide(names: set[str], part: str) -> None:
    assert part_of_body(names) == part


def test_every_lesion_and_node_but_those_of_any_bone_has_a_part() -> None:
    without = {
        anatomy.id
        for anatomy in vocabulary()
        if anatomy.region in ("GTV", "LNS", "Bone") and part_of_body([anatomy.id]) == "whole_body"
    }
    assert without <= {"bone_tumor", "bone", "vertebrae", "compact_bone", "spongy_bone"}


@given(st.lists(st.sampled_from(IDS), max_size=8))
def test_neither_order_nor_repetition_matters(names: list[str]) -> None:
    assert part_of_body(names) == part_of_body([*reversed(names), *names])
