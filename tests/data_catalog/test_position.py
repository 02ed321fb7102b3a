"""One organ is enough to see that a scan is mirrored, where the whole width of the body is seen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clnet.anatomy import load_mapping, vocabulary
from clnet.anatomy.phantom import render
from clnet.data_catalog import CaseSource
from clnet.data_catalog.case import CaseContent
from clnet.data_catalog.ingest import read_case
from clnet.data_catalog.labels import translate_map
from clnet.data_catalog.validation import Subject, judge_content
from clnet.data_catalog.validation.facts import facts

ALONE = ["liver", "spleen", "kidney_right", "kidney_left"]
REAL_ONLY = ["iliopsoas_left", "hip_right"]


@cache
def phantom(seed: int, field: str) -> CaseContent:
    made = render(seed, field_of_view=field)
    spacing = (float(made.affine[2, 2]), float(-made.affine[1, 1]), float(-made.affine[0, 0]))
    mapping = load_mapping(dict(made.names["organ"]))
    maps, contract = translate_map(made.labels["organ"], "labels", mapping, spacing[0])
    return CaseContent(made.ct, maps, contract, spacing, made.affine, "LPS")


@pytest.fixture(scope="module")
def abdomen(real_data: Path) -> CaseContent:
    folder = real_data / "ts_abdomen_pelvis"
    names = json.loads((folder / "total_class_map.json").read_text())
    wanted = {*ALONE, *REAL_ONLY, "urinary_bladder"}
    mapping = {key: name if name in wanted else "ignore" for key, name in names.items()}
    labels = folder / "example_seg_fast_force_split.nii.gz"
    source = CaseSource("abdomen", folder / "example_ct.nii.gz", labels)
    return read_case(source, load_mapping(mapping))


def only(case: CaseContent, names: Iterable[str]) -> CaseContent:
    """The case with some of its labels."""
    values = [e.value for e in case.contract.entries if e.name in names]
    kept = {
        layer: np.where(np.isin(grid, values), grid, 0).astype(np.uint8)
        for layer, grid in case.labels.items()
        if {e.name for e in case.contract.for_layer(layer)} & set(names)
    }
    return replace(case, labels=kept)


def part(case: CaseContent, *where: slice) -> CaseContent:
    """A crop of it, or a mirror image."""
    return replace(
        case,
        ct=np.ascontiguousarray(case.ct[where]),
        labels={layer: np.ascontiguousarray(g[where]) for layer, g in case.labels.items()},
    )


def mirrored(case: CaseContent) -> CaseContent:
    return part(case, slice(None), slice(None), slice(None, None, -1))


def errors(case: CaseContent) -> list[str]:
    found: Any = judge_content(Subject("c", case, "ct.nii.gz"))
    return [f.code for f in found if f.code.startswith("orientation.") and f.severity == "error"]


def expected(name: str) -> str:
    return f"orientation.{'sides-swapped' if name.endswith(('left', 'right')) else 'mirrored'}"


def test_what_lies_on_one_side_is_known_and_its_partner_lies_on_the_other() -> None:
    known = vocabulary()
    sides = {"right": facts().right, "left": facts().left}
    for side, other in (("right", "left"), ("left", "right")):
        for name in sides[side]:
            assert known[name].side in (side, None)
            partner = name.replace(side, other)
            assert partner == name or partner in sides[other] or known.find(partner) is None


@pytest.mark.parametrize("name", ALONE + REAL_ONLY)
def test_a_real_organ_alone_tells_its_side(abdomen: CaseContent, name: str) -> None:
    case = only(abdomen, [name])
    assert errors(case) == []
    assert errors(mirrored(case)) == [expected(name)]


def test_a_real_liver_and_spleen_tell_it_without_the_skin(abdomen: CaseContent) -> None:
    case = only(abdomen, ["liver", "spleen"])
    assert errors(mirrored(case)) == ["orientation.mirrored"]
    inside = part(case, slice(None), slice(None), slice(20, -20))
    assert errors(inside) == []
    assert errors(mirrored(inside)) == ["orientation.mirrored"]


def test_a_real_liver_and_bladder_tell_what_is_up(abdomen: CaseContent) -> None:
    case = only(abdomen, ["liver", "urinary_bladder"])
    assert errors(case) == []
    assert errors(part(case, slice(None, None, -1))) == ["orientation.upside-down"]


@pytest.mark.parametrize("field", ["abdomen", "whole"])
@pytest.mark.parametrize("seed", range(3))
def test_one_organ_of_a_phantom_tells_its_side(seed: int, field: str) -> None:
    for name in ALONE:
        case = only(phantom(seed, field), [name])
        assert errors(case) == []
        assert errors(mirrored(case)) == [expected(name)]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ALONE), st.integers(0, 2), st.floats(0, 0.6), st.floats(0, 0.6))
def test_a_crop_of_a_body_the_right_way_round_is_never_refused(
    name: str, seed: int, right: float, left: float
) -> None:
    case = only(phantom(seed, "abdomen"), [name])
    width = case.ct.shape[2]
    first, last = int(right * width), width - int(left * width)
    if last - first < 3:
        first, last = 0, width
    assert errors(part(case, slice(None), slice(None), slice(first, last))) == []


def test_a_body_that_padding_cuts_has_no_middle() -> None:
    case = only(phantom(0, "abdomen"), ["liver"])
    ct = case.ct.copy()
    ct[:, :, : ct.shape[2] * 2 // 5] = -2000
    assert errors(replace(case, ct=ct)) == []
    assert errors(mirrored(replace(case, ct=ct))) == []
