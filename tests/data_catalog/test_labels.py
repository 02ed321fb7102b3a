"""What a site's labels mean in the store: exact, union, several layers, extents, ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_scans import SPACING, TERMS, organs, save, scan

from clnet.anatomy import LabelContract, Patch, load_mapping
from clnet.data_catalog import CaseSource, Catalog
from clnet.data_catalog.labels import translate_map, translate_masks
from clnet.model.decoder import Channel
from clnet.model.supervision import supervise


def translate(ids: Any, mapping: dict[Any, Any]) -> tuple[dict[str, Any], LabelContract]:
    return translate_map(ids, "labels", load_mapping(mapping), SPACING[0])


def test_a_label_without_sides_is_a_union() -> None:
    maps, contract = translate(organs(), {1: "kidney", 2: "liver"})
    union = next(e for e in contract.entries if not e.exact)
    assert union.members == ("kidney_left", "kidney_right")
    assert union.name == "kidney"
    np.testing.assert_array_equal(maps["organ"] == union.value, organs() == 1)


def test_a_label_with_meanings_in_two_layers_is_written_in_both() -> None:
    maps, contract = translate(organs(), {1: "liver", 2: ["liver", "vertebra_L1"]})
    assert set(maps) == {"organ", "bone"} == set(contract.layers)
    np.testing.assert_array_equal(maps["organ"] > 0, organs() > 0)
    np.testing.assert_array_equal(maps["bone"] > 0, organs() == 2)


def test_ids_with_one_meaning_share_a_value() -> None:
    maps, contract = translate(organs(), {1: "liver", 2: "liver"})
    assert len(contract.entries) == 1
    np.testing.assert_array_equal(maps["organ"], organs() > 0)


def test_source_ids_may_exceed_255() -> None:
    maps, _ = translate(organs().astype(np.uint16) * 700, {700: "liver", 1400: "spleen"})
    np.testing.assert_array_equal(maps["organ"], organs())


def test_float_label_maps_of_whole_numbers_are_taken() -> None:
    maps, _ = translate(organs().astype(np.float64), {1: "liver", 2: "spleen"})
    np.testing.assert_array_equal(maps["organ"], organs())


def test_what_is_mapped_and_not_seen_is_known_absent() -> None:
    _, contract = translate(organs(), {1: "liver", 2: "spleen", 3: "pancreas"})
    assert contract.known("pancreas")
    assert not contract.known("stomach")


def test_an_ignored_id_is_no_label_and_stays_unknown() -> None:
    maps, contract = translate(organs(), {1: "liver", 2: "ignore"})
    assert contract.anatomies == {"liver"}
    np.testing.assert_array_equal(maps["organ"], organs() == 1)


def test_an_automatic_extent_reaches_from_the_first_to_the_last_labelled_slice() -> None:
    _, contract = translate(organs(), {1: {"anatomy": "liver", "within": "auto"}, 2: "spleen"})
    extents = {e.name: e.within for e in contract.entries}
    assert extents == {"liver": (1.5 * 3.0, 5.5 * 3.0), "spleen": None}  # slices 2 to 5


def test_an_automatic_extent_of_nothing_is_unknown() -> None:
    mapping = {1: "liver", 2: "spleen", 3: {"anatomy": "pancreas", "within": "auto"}}
    _, contract = translate(organs(), mapping)
    assert not contract.known("pancreas")


def test_a_given_extent_is_kept() -> None:
    _, contract = translate(organs(), {1: {"anatomy": "liver", "within": [3.0, 9.0]}, 2: "spleen"})
    assert {e.name: e.within for e in contract.entries}["liver"] == (3.0, 9.0)


def test_the_order_of_a_mapping_changes_nothing() -> None:
    one = translate(organs(), {1: "liver", 2: "spleen"})
    two = translate(organs(), {2: "spleen", 1: "liver"})
    assert one[1] == two[1]
    np.testing.assert_array_equal(one[0]["organ"], two[0]["organ"])


def test_masks_of_different_layers_may_overlap() -> None:
    mask = organs() > 0
    mapping = load_mapping({"liver": "liver", "spine": "vertebra_L1"})
    masks = {"liver": mask, "spine": mask}
    maps, _, _ = translate_masks(masks, {k: k for k in masks}, mapping, SPACING[0])
    np.testing.assert_array_equal(maps["organ"], mask)
    np.testing.assert_array_equal(maps["bone"], mask)


@settings(max_examples=40, deadline=None)
@given(
    ends=st.tuples(st.integers(-1, 20), st.integers(-1, 20)).map(sorted),
    column=st.integers(0, 19),
)
def test_where_masks_overlap_an_extent_counts_for_its_own_label_only(
    ends: list[int], column: int
) -> None:
    liver, spleen = (np.zeros((20, 20, 20), np.uint8) for _ in range(2))
    liver[2:18, :12], spleen[4:18, 12:] = 1, 1
    spleen[4:18, 11, column] = 1  # a rough border
    extent = [ends[0] * 5.0, ends[1] * 5.0]
    mapping = load_mapping({"liver": "liver", "spleen": {"exact": "spleen", "within": extent}})
    masks = {"liver": liver, "spleen": spleen}
    maps, contract, _ = translate_masks(masks, {k: k for k in masks}, mapping, 5.0)
    z_mm = np.arange(20) * 5.0
    patch = Patch(np.zeros(liver.shape, np.float32), maps, contract, z_mm, "case")
    channels = (Channel("liver", ("liver",)), Channel("spleen", ("spleen",)))
    background, as_liver, _ = supervise([patch], "organ", channels).allowed[0].numpy()
    drawn = ((z_mm >= extent[0]) & (z_mm <= extent[1]))[:, None, None]
    outside = (liver > 0) & ~drawn
    assert as_liver[liver > 0].all()
    assert not background[(liver > 0) | ((spleen > 0) & drawn)].any()
    np.testing.assert_array_equal(maps["organ"][outside], 1)


@pytest.mark.parametrize("form", ["map", "masks"])
def test_a_map_and_masks_give_the_same_case(tmp_path: Path, form: str) -> None:
    catalog = Catalog(tmp_path / "catalog")
    image = save(tmp_path / "ct.nii.gz", scan(0))
    labels: Path | dict[str, Path]
    if form == "map":
        labels, mapping = save(tmp_path / "l.nii.gz", organs()), {"1": "liver", "2": "spleen"}
    else:
        labels = {
            key: save(tmp_path / f"{key}.nii.gz", (organs() == int(key)).astype(np.uint8))
            for key in ("1", "2")
        }
        mapping = {"1": "liver", "2": "spleen"}
    stored = catalog.contribute("s/d", [CaseSource("c", image, labels)], mapping, TERMS).case("c")
    np.testing.assert_array_equal(stored.labels("organ"), organs())
    assert [e.name for e in stored.contract.entries] == ["liver", "spleen"]
