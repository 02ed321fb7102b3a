from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_scans import MAPPING, PLAN, TERMS, case, organs, scan

from clnet.anatomy import LabelContract, LabelEntry
from clnet.data_catalog import Catalog, Dataset, PlanStore, planned_case
from clnet.data_catalog.foreground import MAX_VOXELS, sample_foreground
from clnet.data_catalog.shard import Shard
from clnet.errors import Incompatible, InputError
from clnet.model.plan import Plan


@pytest.fixture
def dataset(catalog: Catalog, source: Path) -> Dataset:
    cases = [case(source, name, seed) for seed, name in enumerate("abc")]
    return catalog.contribute("s/d", cases, MAPPING, TERMS)


def test_a_planned_case_is_the_case_normalised(catalog: Catalog, dataset: Dataset) -> None:
    planned = catalog.plan_store(dataset, PLAN).open("b")
    expected = Plan.from_dict(PLAN).normalise(scan(1))
    assert planned.image.dtype == np.float32
    np.testing.assert_array_equal(planned.image, expected)
    np.testing.assert_array_equal(planned.labels["organ"], organs())
    assert planned.contract == dataset.case("b").contract
    assert (planned.z_origin, planned.z_step) == (0.0, 3.0)


def test_another_spacing_keeps_the_extent(catalog: Catalog, dataset: Dataset) -> None:
    store = catalog.plan_store(dataset, PLAN | {"spacing": [6.0, 4.0, 3.0]})
    planned = store.open("a")
    assert planned.image.shape == (5, 4, 4)
    assert planned.labels["organ"].shape == (5, 4, 4)
    assert (planned.z_origin, planned.z_step) == (1.5, 6.0)


def test_the_plans_hash_is_the_models(catalog: Catalog, dataset: Dataset) -> None:
    plan = Plan.from_dict(PLAN)
    store = catalog.plan_store(dataset, plan.to_dict())
    assert store.plan_sha256 == plan.sha256
    assert store.air == pytest.approx(plan.air)


def test_a_plan_that_is_none_is_refused(catalog: Catalog, dataset: Dataset) -> None:
    for broken in ({}, PLAN | {"spacing": [1]}, PLAN | {"clip": None}, PLAN | {"mean": "x"}):
        with pytest.raises(InputError, match="plan"):
            catalog.plan_store(dataset, broken)
    with pytest.raises(Incompatible, match="RAS"):
        catalog.plan_store(dataset, PLAN | {"orientation": "RAS"})


def times(store: PlanStore) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in store.folder.rglob("foreground.npy")}


def test_a_case_is_planned_once(catalog: Catalog, source: Path, dataset: Dataset) -> None:
    told: list[float] = []
    store = catalog.plan_store(dataset, PLAN, lambda fraction, text: told.append(fraction))
    assert told == pytest.approx([1 / 3, 2 / 3, 1.0])
    before = times(store)
    assert len(before) == 3
    more = catalog.contribute("s/more", [case(source, "again", 0)], MAPPING, TERMS)
    shared = catalog.plan_store(more, PLAN)
    assert times(store) == before, "equal content under another name is not planned again"
    np.testing.assert_array_equal(shared.open("again").image, store.open("a").image)


def test_the_same_case_gives_the_same_bytes(
    catalog: Catalog, dataset: Dataset, tmp_path: Path
) -> None:
    one, two = (PlanStore(tmp_path / name, dataset, PLAN) for name in ("one", "two"))
    for store in (one, two):
        store.build()
    contents = [
        {p.relative_to(s.folder): p.read_bytes() for p in s.folder.rglob("*") if p.is_file()}
        for s in (one, two)
    ]
    assert contents[0] == contents[1]


def test_builders_at_once_make_each_case_once(catalog: Catalog, dataset: Dataset) -> None:
    stores = [PlanStore(catalog.plans, dataset, PLAN) for _ in range(4)]
    threads = [threading.Thread(target=store.build) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times(stores[0])) == 3


def test_eviction_takes_what_was_unused_for_longest(catalog: Catalog, dataset: Dataset) -> None:
    store = catalog.plan_store(dataset, PLAN)
    total = catalog.plan_bytes()
    assert total == store.bytes > 0
    held, image = store.open("a"), np.asarray(store.open("a").image)
    store.open("c")
    assert catalog.evict_plans(total) == 0
    freed = catalog.evict_plans(total - 1)
    assert freed == total - catalog.plan_bytes() > 0
    assert len(times(store)) == 2, "b was not opened since it was made"
    catalog.evict_plans(0)
    assert catalog.plan_bytes() == 0
    np.testing.assert_array_equal(held.image, image, "an open case stays readable")
    np.testing.assert_array_equal(held.labels["organ"], organs())
    np.testing.assert_array_equal(store.open("a").image, image)
    assert catalog.plan_bytes() > 0


def test_what_is_drawn_from_is_known_of_evicted_cases(catalog: Catalog, dataset: Dataset) -> None:
    store = catalog.plan_store(dataset, PLAN)
    known = store.describe("a")
    catalog.evict_plans(0)
    assert store.describe("a") == known
    assert catalog.plan_bytes() == 0, "nothing was made for it"


def test_plan_stores_stay_within_their_limit(catalog: Catalog, dataset: Dataset) -> None:
    catalog.plan_store(dataset, PLAN)
    total, one = catalog.plan_bytes(), catalog.plan_bytes() // 3
    catalog.evict_plans(0)
    for limit, kept in ((total, 3), (2 * one + one // 2, 2), (0, 1)):
        small = Catalog(catalog.root, plans_max_bytes=limit)
        store = small.plan_store(dataset, PLAN)
        assert len(times(store)) == kept
        for seed, case_id in enumerate("abc"):
            opened = store.open(case_id)
            np.testing.assert_array_equal(
                opened.image, Plan.from_dict(PLAN).normalise(scan(seed)), "made again if need be"
            )
            assert len(times(store)) == kept
        catalog.evict_plans(0)


def test_a_case_that_is_evicted_while_it_is_opened_is_made_again(
    catalog: Catalog, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = catalog.plan_store(dataset, PLAN)
    whole = np.asarray(store.open("a").image)
    opened: list[Path] = []

    class Slow(Shard):
        """Between the arrays of a case another process has time to evict it."""

        def __init__(self, folder: Path) -> None:
            super().__init__(folder)
            opened.append(folder)
            if len(opened) == 1:
                catalog.evict_plans(0)

    monkeypatch.setattr(planned_case, "Shard", Slow)
    case = store.open("a")
    assert len(opened) == 3, "labels, then labels and image once more"
    np.testing.assert_array_equal(case.image, whole)
    np.testing.assert_array_equal(case.labels["organ"], organs())


@pytest.mark.parametrize("name", ["image/c/0/0/0", "labels/c/0/0/0/0", "labels/zarr.json"])
def test_a_damaged_case_is_made_again(catalog: Catalog, dataset: Dataset, name: str) -> None:
    store = catalog.plan_store(dataset, PLAN)
    whole = np.asarray(store.open("a").image)
    (store.folder / dataset.case("a").sha256 / "data" / name).write_bytes(b"{}")
    np.testing.assert_array_equal(store.open("a").image, whole)
    np.testing.assert_array_equal(store.open("a").labels["organ"], organs())


def test_layers_are_read_together(catalog: Catalog, source: Path) -> None:
    mapping = {1: ["liver", "body"], 2: "vertebra_l1"}
    dataset = catalog.contribute("s/layers", [case(source, "a")], mapping, TERMS)
    planned = catalog.plan_store(dataset, PLAN).open("a")
    box = (slice(1, 7), slice(2, 9), slice(0, 8))
    maps = planned.maps(box)
    assert list(maps) == list(planned.labels) == list(dataset.case("a").layers)
    for layer, grid in maps.items():
        np.testing.assert_array_equal(grid, planned.labels[layer][box])
        np.testing.assert_array_equal(planned.labels[layer], dataset.case("a").labels(layer))


def test_voxels_are_indexed_as_arrays_are(catalog: Catalog, dataset: Dataset) -> None:
    labels = catalog.plan_store(dataset, PLAN).open("a").labels["organ"]
    for key in np.s_[3], np.s_[-1], np.s_[..., 2], np.s_[2:5, :, -3:], np.s_[1, 2, 3], np.s_[4:2]:
        np.testing.assert_array_equal(labels[key], organs()[key])
    for bad in np.s_[10], np.s_[::2], np.s_[0, 0, 0, 0]:
        with pytest.raises(IndexError):
            labels[bad]


def test_leftovers_of_a_killed_builder_are_swept(catalog: Catalog, dataset: Dataset) -> None:
    store = PlanStore(catalog.plans, dataset, PLAN)
    folder = store.folder / dataset.case("a").sha256
    (folder / ".tmp-dead").mkdir(parents=True)
    store.build()
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "case.json", "data"]


def test_a_store_travels_to_other_processes(catalog: Catalog, dataset: Dataset) -> None:
    store = catalog.plan_store(dataset, PLAN)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.describe("a") == store.describe("a")
    assert json.loads(json.dumps(copy.describe("a"))) == copy.describe("a")


def sampled(labels: Any, *entries: LabelEntry) -> tuple[Any, list[dict[str, Any]]]:
    z_mm = np.arange(labels.shape[0]) * 2.0
    return sample_foreground({"organ": labels}, LabelContract(entries), z_mm, "ab" * 32)


def test_foreground_samples_are_voxels_of_their_label() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[:10] = 1
    labels[15, 3:5, 3] = 2
    liver, spleen, colon = (
        LabelEntry(v, "organ", n, (n,)) for v, n in ((1, "liver"), (2, "spleen"), (3, "colon"))
    )
    voxels, records = sampled(labels, liver, spleen, colon)
    assert [r["voxels"] for r in records] == [4000, 2, 0]
    assert [r["stop"] - r["start"] for r in records] == [MAX_VOXELS, 2, 0]
    for record in records:
        rows = voxels[record["start"] : record["stop"]]
        assert (labels[tuple(rows.T)] == record["value"]).all()
        assert len(np.unique(rows, axis=0)) == len(rows)
    again, _ = sampled(labels, liver, spleen, colon)
    np.testing.assert_array_equal(voxels, again)


def test_voxels_outside_an_extent_are_no_foreground() -> None:
    labels = np.ones((10, 4, 4), np.uint8)
    voxels, records = sampled(labels, LabelEntry(1, "organ", "liver", ("liver",), (3.0, 7.0)))
    assert set(voxels[:, 0]) == {2, 3}
    assert records[0]["voxels"] == 32
