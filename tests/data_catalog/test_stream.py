"""Batch t is a pure function of the stream: what packing and resuming rest on."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_scans import MAPPING, PLAN, SHAPE, TERMS, case, organs, save, scan

from clnet.anatomy import Patch
from clnet.data_catalog import (
    CaseSource,
    Catalog,
    DatasetPin,
    PatchStream,
    PlanStore,
    StreamSpec,
    split_cases,
)
from clnet.errors import Incompatible, InputError

AIR = (-995 + 187.85) / 490.7


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PlanStore:
    folder = tmp_path_factory.mktemp("stream")
    catalog = Catalog(folder / "datasets")
    cases = [case(folder, f"c{n}", n) for n in range(6)]
    rare = organs()
    rare[0, 0, 0] = 3
    cases.append(
        CaseSource(
            "rare",
            save(folder / "images" / "rare.nii.gz", scan(9)),
            save(folder / "labels" / "rare.nii.gz", rare),
        )
    )
    mapping = {**MAPPING, 3: "kidney"}
    return catalog.plan_store(catalog.contribute("s/d", cases, mapping, TERMS), PLAN)


def spec(store: PlanStore, **changes: Any) -> StreamSpec:
    values: dict[str, Any] = {
        "datasets": (DatasetPin(ref=store.dataset.ref, sha256=store.dataset.sha256),),
        "plan_sha256": store.plan_sha256,
        "patch_size": (6, 6, 6),
        "batch_size": 2,
        "total": 100,
        "seed": 5,
    }
    return StreamSpec(**(values | changes))


def equal(one: list[Patch], two: list[Patch]) -> bool:
    return len(one) == len(two) and all(
        a.case == b.case
        and a.contract == b.contract
        and np.array_equal(a.image, b.image)
        and np.array_equal(a.z_mm, b.z_mm)
        and a.labels.keys() == b.labels.keys()
        and all(np.array_equal(a.labels[k], b.labels[k]) for k in a.labels)
        for a, b in zip(one, two, strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(8)), seed=st.integers(0, 2**63 - 1))
def test_any_order_and_any_copy_gives_the_same_batches(
    store: PlanStore, order: list[int], seed: int
) -> None:
    stream = PatchStream([store], spec(store, seed=seed))
    straight = [stream.patches(t) for t in range(8)]
    other = pickle.loads(pickle.dumps(PatchStream([store], spec(store, seed=seed))))
    shuffled = {t: other.patches(t) for t in order}
    assert all(equal(straight[t], shuffled[t]) for t in range(8))


def test_another_process_gives_the_same_batches(store: PlanStore) -> None:
    stream = PatchStream([store], spec(store))
    stream.patches(0)
    # a function of the package, as this file may have no name there; a pool whose processes
    # cannot begin would wait for ever
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        drawn = pool.starmap_async(PatchStream.patches, [(stream, t) for t in (3, 1)])
        there = drawn.get(timeout=300)
    assert equal(there[0], stream.patches(3))
    assert equal(there[1], stream.patches(1))


def test_batches_and_samples_differ_from_each_other(store: PlanStore) -> None:
    stream = PatchStream([store], spec(store, batch_size=3))
    seen = [patch.image.tobytes() for t in range(20) for patch in stream.patches(t)]
    assert len(set(seen)) > 40
    other = PatchStream([store], spec(store, batch_size=3, seed=6))
    assert not equal(stream.patches(0), other.patches(0))


def test_a_sample_does_not_depend_on_how_many_follow(store: PlanStore) -> None:
    small = PatchStream([store], spec(store, batch_size=1))
    large = PatchStream([store], spec(store, batch_size=4))
    assert equal(small.patches(7), large.patches(7)[:1])


def test_a_periodic_stream_repeats(store: PlanStore) -> None:
    stream = PatchStream([store], spec(store, period=4, foreground=(1.0, 0.0)))
    endless = PatchStream([store], spec(store, foreground=(1.0, 0.0)))
    for t in range(4):
        assert equal(stream.patches(t), endless.patches(t))
        assert equal(stream.patches(t + 8), stream.patches(t))
        assert stream.seed_for(t + 4) == stream.seed_for(t)


def test_seeds_for_augmentation_differ_by_batch(store: PlanStore) -> None:
    stream = PatchStream([store], spec(store))
    seeds = [stream.seed_for(t) for t in range(100)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [PatchStream([store], spec(store)).seed_for(t) for t in range(100)]


def test_a_patch_is_a_block_of_its_case(store: PlanStore) -> None:
    stream = PatchStream([store], spec(store, foreground=(0.0, 0.0), batch_size=4))
    for patch in (p for t in range(10) for p in stream.patches(t)):
        planned = store.open(patch.case)
        assert patch.image.dtype == np.float32
        assert patch.image.shape == patch.labels["organ"].shape == (6, 6, 6)
        assert patch.z_mm.shape == (6,)
        start = round((patch.z_mm[0] - planned.z_origin) / planned.z_step)
        inside = [k for k in range(6) if 0 <= start + k < SHAPE[0]]
        rows = planned.image[start + inside[0] : start + inside[-1] + 1]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(rows, ((0, 0), (6, 6), (6, 6)), constant_values=store.air),
            (len(inside), 6, 6),
        )
        assert (windows == patch.image[inside]).all(axis=(-1, -2, -3)).any()


def test_a_patch_larger_than_the_scan_is_padded_with_air(store: PlanStore) -> None:
    stream = PatchStream([store], spec(store, patch_size=(16, 16, 16)))
    patch = stream.patches(0)[0]
    z = patch.z_mm / 3.0
    outside = (z < -0.5) | (z > SHAPE[0] - 0.5)
    assert outside.sum() == 16 - SHAPE[0]
    np.testing.assert_allclose(patch.image[outside], AIR, rtol=1e-6)
    assert not patch.labels["organ"][outside].any()
    np.testing.assert_allclose(np.diff(patch.z_mm), 3.0)
    inside = np.sort(patch.image.ravel())[-(10 * 9 * 8) :]
    assert (inside > AIR).any()
    assert (patch.labels["organ"] > 0).sum() >= (organs() > 0).sum()


def test_foreground_moves_linearly_and_then_stays(store: PlanStore) -> None:
    stream = PatchStream([store], spec(store, foreground=(0.8, 0.2), total=101))
    assert [stream.foreground(t) for t in (0, 50, 100, 500)] == pytest.approx([0.8, 0.5, 0.2, 0.2])


def test_foreground_patches_hold_their_anatomy_near_the_middle(store: PlanStore) -> None:
    stream = PatchStream(
        [store],
        spec(store, foreground=(1.0, 1.0), focus=("spleen",), patch_size=(4, 4, 4), batch_size=4),
    )
    assert stream.targets == (("spleen",),)
    central = 0
    for patch in (p for t in range(25) for p in stream.patches(t)):
        value = next(e.value for e in patch.contract.entries if e.name == "spleen")
        assert (patch.labels["organ"] == value).any()
        central += bool((patch.labels["organ"][1:3, 1:3, 1:3] == value).any())
    assert central == 100


def test_rare_anatomies_are_seen_as_often_as_large_ones(store: PlanStore) -> None:
    stream = PatchStream(
        [store], spec(store, foreground=(1.0, 1.0), patch_size=(2, 2, 2), batch_size=3)
    )
    if ("kidney_left", "kidney_right") not in stream.targets:
        pytest.fail("the rare case must be on the training side")
    patches = [p for t in range(100) for p in stream.patches(t)]
    share = np.mean([p.case == "rare" for p in patches])
    # a third by the one voxel of its kidney, and its share of liver and spleen
    assert 0.3 < share < 0.6


def test_focus_on_a_member_finds_the_union(store: PlanStore) -> None:
    stream = PatchStream([store], spec(store, focus=("kidney_left",), foreground=(1.0, 1.0)))
    assert stream.targets == (("kidney_left", "kidney_right"),)
    assert {p.case for t in range(5) for p in stream.patches(t)} == {"rare"}


def test_a_focus_that_no_case_shows_is_refused(store: PlanStore) -> None:
    with pytest.raises(InputError, match="pancreas"):
        PatchStream([store], spec(store, focus=("pancreas",)))
    PatchStream([store], spec(store, focus=("pancreas",), foreground=(0.0, 0.0))).patches(0)


def test_training_and_validation_share_no_case(store: PlanStore) -> None:
    train = PatchStream([store], spec(store, foreground=(0.0, 0.0)))
    val = PatchStream([store], spec(store, split="val", foreground=(0.0, 0.0)))
    assert train.cases
    assert val.cases
    assert not set(train.cases) & set(val.cases)
    assert len(train.cases) + len(val.cases) == 7
    drawn = {p.case for t in range(60) for p in val.patches(t)}
    assert drawn <= {case_id for _, case_id in val.cases}


@given(
    hashes=st.lists(st.integers(0, 2**256 - 1), max_size=30),
    fraction=st.floats(0, 0.99),
)
def test_splits_are_by_hash_alone(hashes: list[int], fraction: float) -> None:
    names = [f"{h:064x}" for h in hashes]
    val = split_cases(names, fraction)
    assert val == split_cases(names[::-1] + names, fraction)
    unique = set(names)
    if fraction == 0 or len(unique) < 2:
        assert not val
    else:
        assert 0 < len(val) < len(unique)


def test_one_case_never_validates_itself(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "datasets")
    dataset = catalog.contribute("s/d", [case(tmp_path, "only")], MAPPING, TERMS)
    single = catalog.plan_store(dataset, PLAN)
    assert PatchStream([single], spec(single)).cases == (("s/d@1", "only"),)
    with pytest.raises(InputError, match="no val case"):
        PatchStream([single], spec(single, split="val"))


def test_a_stream_reads_what_its_specification_names(store: PlanStore, tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "datasets")
    dataset = catalog.contribute("s/d", [case(tmp_path, "c", 1)], MAPPING, TERMS)
    with pytest.raises(Incompatible, match="content"):
        PatchStream([catalog.plan_store(dataset, PLAN)], spec(store))
    with pytest.raises(Incompatible, match="plan"):
        PatchStream([store], spec(store, plan_sha256="0" * 64))
    with pytest.raises(InputError, match="count from 0"):
        PatchStream([store], spec(store)).patches(-1)


def test_specifications_are_equal_by_hash(store: PlanStore) -> None:
    one = spec(store)
    assert one.sha256 == StreamSpec.model_validate_json(one.model_dump_json()).sha256
    assert one.sha256 != spec(store, seed=6).sha256
    assert one.sha256 != spec(store, focus=("liver",)).sha256


def test_several_datasets_are_one_stream(store: PlanStore, tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "datasets")
    bones = [case(tmp_path, f"b{n}", 50 + n) for n in range(3)]
    other = catalog.plan_store(
        catalog.contribute("t/bones", bones, {1: "hip_left", 2: "hip_right"}, TERMS), PLAN
    )
    pins = tuple(DatasetPin(ref=s.dataset.ref, sha256=s.dataset.sha256) for s in (store, other))
    stream = PatchStream([store, other], spec(store, datasets=pins, foreground=(0.5, 0.5)))
    contracts = {p.contract.layers for t in range(40) for p in stream.patches(t)}
    assert contracts == {("organ",), ("bone",)}
    assert ("hip_left",) in stream.targets
    with pytest.raises(Incompatible):
        PatchStream([other, store], spec(store, datasets=pins))
