"""A catalog in an object store: the same datasets, seen by several machines."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from object_stores import FaultyProxy
from tiny_scans import MAPPING, TERMS, case

from clnet.data_catalog import Catalog, Dataset
from clnet.data_catalog.quota import Allowance
from clnet.errors import InputError, IntegrityError, NotFound, QuotaExceeded
from clnet.storage import Objects

ROOT = Path(__file__).resolve().parents[2]


def machine(url: str, folder: Path, **options: int) -> Catalog:
    """The catalog as one machine sees it."""
    return Catalog(url, plans=folder / "plans", **options)


def same(found: Dataset, expected: Dataset) -> None:
    assert found.sha256 == expected.sha256
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.ct(), other.ct())
        np.testing.assert_array_equal(one.affine, other.affine)
        assert one.layers == other.layers
        for layer in one.layers:
            np.testing.assert_array_equal(one.labels(layer), other.labels(layer))


def test_what_one_machine_contributes_another_reads(any_s3: str, tmp_path: Path) -> None:
    cases = [case(tmp_path / "in", name, seed) for seed, name in enumerate("ab")]
    here = Catalog(tmp_path / "local").contribute("s/d", cases, MAPPING, TERMS)
    one, other = machine(any_s3, tmp_path / "one"), machine(any_s3, tmp_path / "other")
    same(one.contribute("s/d", cases, MAPPING, TERMS), here)
    (seen,) = other.list()
    same(seen, here)
    assert seen.validation is not None
    assert seen.validation.stored == ("a", "b")
    again = other.contribute("s/d", cases, MAPPING, TERMS)
    assert again.ref == "s/d@1", "content that is there already gives that version"
    more = other.contribute("s/d", [*cases, case(tmp_path / "in", "c", 7)], MAPPING, TERMS)
    assert more.ref == "s/d@2"
    assert [dataset.ref for dataset in one.list()] == ["s/d@1", "s/d@2"]
    with pytest.raises(NotFound, match="s/d@3"):
        one.get("s/d@3")


def test_a_url_needs_a_folder_of_this_machine(s3_url: str) -> None:
    with pytest.raises(InputError, match="plans=FOLDER"):
        Catalog(s3_url)


def test_two_machines_at_once_make_two_versions(s3_url: str, tmp_path: Path) -> None:
    made: list[str] = []

    def contribute(number: int) -> None:
        catalog = machine(s3_url, tmp_path / str(number))
        cases = [case(tmp_path / f"in{number}", "a", number)]
        made.append(catalog.contribute("s/d", cases, MAPPING, TERMS).ref)

    threads = [threading.Thread(target=contribute, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == ["s/d@1", "s/d@2", "s/d@3"]
    for dataset in machine(s3_url, tmp_path / "third").list():
        dataset.verify()


CHILD = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, {tests!r})
from tiny_scans import MAPPING, TERMS, case
from clnet.data_catalog import Catalog
from clnet.storage import Objects, object_lock

object_lock.LEASE = timedelta(seconds=1)
left = int(sys.argv[1])

def countdown(method):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **options)
    return counted

for name in ("write", "create", "upload"):
    setattr(Objects, name, countdown(getattr(Objects, name)))
folder = Path(sys.argv[3])
cases = [case(folder / "in", name, seed) for seed, name in enumerate("abc")]
Catalog(sys.argv[2], plans=folder / "plans").contribute("s/d", cases, MAPPING, TERMS)
"""


@pytest.mark.parametrize("moment", [1, 3, 6, 7, 9, 11, 12])
def test_kill_9_leaves_the_old_catalog_or_the_new(s3_url: str, tmp_path: Path, moment: int) -> None:
    child = CHILD.format(tests=str(ROOT / "tests"))
    command = [sys.executable, "-c", child, str(moment), s3_url, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    other = machine(s3_url, tmp_path / "other")
    before = {key for key in Objects(s3_url).keys("cases") if key.endswith(".zarr/zarr.json")}
    for dataset in other.list():
        dataset.verify()
    done = subprocess.run(
        [sys.executable, "-c", child, "0", s3_url, str(tmp_path)], cwd=ROOT, check=False
    )
    assert done.returncode == 0
    cases = [case(tmp_path / "in", name, seed) for seed, name in enumerate("abc")]
    undisturbed = Catalog(tmp_path / "local").contribute("s/d", cases, MAPPING, TERMS)
    (found,) = other.list()
    same(found, undisturbed)
    assert before <= set(Objects(s3_url).keys())


def test_equal_cases_are_stored_once_and_go_with_their_last_holder(
    s3_url: str, tmp_path: Path
) -> None:
    catalog, other = machine(s3_url, tmp_path / "one"), machine(s3_url, tmp_path / "other")
    shared = case(tmp_path / "in", "a", 1)
    catalog.contribute("s/d", [shared, case(tmp_path / "in", "b", 2)], MAPPING, TERMS)
    catalog.contribute("t/e", [shared], MAPPING, TERMS)
    stored = [key for key in Objects(s3_url).keys("cases") if key.endswith(".zarr/zarr.json")]
    assert len(stored) == 2
    assert set(catalog.cross_site_duplicates()) == {"t/e@1"}
    assert set(other.cross_site_duplicates()) == {"t/e@1"}
    other.get("s/d").verify()
    catalog.erase("s/d@1")
    for seen in (catalog, other):
        assert seen.get("s/d@1").erased
        with pytest.raises(NotFound, match="erased"):
            seen.get("s/d@1").case("a")
        seen.get("t/e@1").verify()
    other.erase("t/e@1")
    assert Objects(s3_url).keys("cases") == []


def test_what_an_erasure_took_meanwhile_is_stored_again(s3_url: str, tmp_path: Path) -> None:
    catalog, eraser = machine(s3_url, tmp_path / "one"), machine(s3_url, tmp_path / "other")
    shared = case(tmp_path / "in", "a", 1)
    eraser.contribute("t/e", [shared], MAPPING, TERMS)
    said: list[str] = []

    def between(fraction: float, what: str) -> None:
        if "stored" in what:  # cases are there or sent, the version is not yet
            eraser.erase("t/e@1")
            objects.write(f"{key}/zarr.json", b"another sender's")
            said.append(what)

    objects = Objects(s3_url)
    (root,) = [found for found in objects.keys("cases") if found.endswith(".zarr/zarr.json")]
    key = root.removesuffix("/zarr.json")
    made = catalog.contribute("s/d", [shared], MAPPING, TERMS, between)
    assert said
    made.verify()
    machine(s3_url, tmp_path / "third").get("s/d").verify()


def test_fetched_cases_stay_within_their_limit(s3_url: str, tmp_path: Path) -> None:
    cases = [case(tmp_path / "in", name, seed) for seed, name in enumerate("abc")]
    machine(s3_url, tmp_path / "one").contribute("s/d", cases, MAPPING, TERMS)
    small = machine(s3_url, tmp_path / "small", fetched_max_bytes=1)
    dataset = small.get("s/d")
    held = dataset.case("a")
    expected = held.ct()
    for name in "bcb":
        dataset.case(name).ct()
    kept = list((tmp_path / "small" / "remote").rglob("cases/*/data"))
    assert len(kept) == 2, "the last one, and the one that is open"
    np.testing.assert_array_equal(held.ct(), expected)


def test_damage_in_the_store_is_told_and_not_kept(s3_url: str, tmp_path: Path) -> None:
    cases = [case(tmp_path / "in", "a", 1)]
    machine(s3_url, tmp_path / "one").contribute("s/d", cases, MAPPING, TERMS)
    objects = Objects(s3_url)
    (shard, *_) = [key for key in objects.keys("cases") if "/ct/c/" in key]
    whole = objects.read(shard)
    assert whole is not None
    objects.write(shard, whole[: len(whole) // 2])
    other = machine(s3_url, tmp_path / "other")
    with pytest.raises(IntegrityError, match="case a"):
        other.get("s/d").case("a")
    objects.write(shard, whole)
    other.get("s/d").case("a").verify()


def test_a_quota_counts_what_lies_in_the_store(s3_url: str, tmp_path: Path) -> None:
    catalog = machine(s3_url, tmp_path / "one")
    catalog.contribute("s/d", [case(tmp_path / "in", "a", 1)], MAPPING, TERMS)
    used = machine(s3_url, tmp_path / "other").usage("s")
    assert used.cases == 1
    assert used.bytes > 1000
    allowance = Allowance(most_bytes=used.bytes + 10)
    with pytest.raises(QuotaExceeded, match="quota"):
        catalog.contribute(
            "s/e", [case(tmp_path / "in", "b", 2)], MAPPING, TERMS, allowance=allowance
        )
    assert [dataset.ref for dataset in catalog.list()] == ["s/d@1"]


def test_a_bad_network_only_takes_longer(
    s3_url: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case(tmp_path / "in", name, seed) for seed, name in enumerate("ab")]
    here = Catalog(tmp_path / "local").contribute("s/d", cases, MAPPING, TERMS)
    with FaultyProxy(s3_server, share=0.15, seed=3).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        machine(s3_url, tmp_path / "one").contribute("s/d", cases, MAPPING, TERMS)
        same(machine(s3_url, tmp_path / "other").get("s/d"), here)
    assert sum(proxy.faults.values()) > 3
