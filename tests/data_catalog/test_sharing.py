"""Equal cases share their bytes, quotas count them, and nobody's withdrawal hurts another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_scans import MAPPING, TERMS, case

from clnet.data_catalog import Allowance, Catalog, Dataset
from clnet.errors import NotFound, QuotaExceeded


def inodes(dataset: Dataset) -> set[int]:
    return {p.stat().st_ino for p in dataset.folder.glob("cases/**/c/**/*") if p.is_file()}


def test_equal_cases_of_two_sites_are_stored_once(catalog: Catalog, source: Path) -> None:
    cases = [case(source, "c1"), case(source, "c2", 5)]
    one = catalog.contribute("site-a/d", cases, MAPPING, TERMS)
    two = catalog.contribute("site-b/other", cases[:1], MAPPING, TERMS)
    assert inodes(two)
    assert inodes(two) < inodes(one)
    catalog.erase(one.ref)
    two.verify()
    with pytest.raises(NotFound):
        one.case("c1")
    assert all(p.stat().st_nlink == 1 for p in two.folder.rglob("*") if p.is_file())


def test_damage_at_one_site_does_not_spread(catalog: Catalog, source: Path) -> None:
    one = catalog.contribute("site-a/d", [case(source, "c1")], MAPPING, TERMS)
    for path in one.folder.glob("cases/*/ct/**/*"):
        if path.is_file() and path.name != "zarr.json":
            path.write_bytes(b"\0" * path.stat().st_size)
    two = catalog.contribute("site-b/d", [case(source, "c1")], MAPPING, TERMS)
    two.verify()


def test_a_quota_is_of_bytes_and_of_cases(catalog: Catalog, source: Path) -> None:
    cases = [case(source, "c1"), case(source, "c2", 5)]

    def give(name: str, count: int, allowance: Allowance) -> Dataset:
        return catalog.contribute(name, cases[:count], MAPPING, TERMS, allowance=allowance)

    give("site-a/d", 1, Allowance(most_cases=1))
    used = catalog.usage("site-a")
    assert used.cases == 1
    assert used.bytes > 0
    for allowance in (Allowance(most_cases=1), Allowance(most_bytes=used.bytes)):
        with pytest.raises(QuotaExceeded, match="site site-a: would keep"):
            give("site-a/e", 2, allowance)
    assert catalog.usage("site-a") == used, "what was refused is gone"
    assert not list(catalog.root.glob("*/*/.staging")), "wholly"
    assert [d.ref for d in catalog.list()] == ["site-a/d@1"]
    room = used.bytes + 40_000  # for manifest, report and picture
    assert give("site-a/same", 1, Allowance(most_bytes=room, most_cases=1)), "shared, not stored"
    catalog.erase("site-a/same@1")
    assert give("site-b/d", 2, Allowance(most_cases=2)), "another site has a quota of its own"
    assert give("site-a/d", 2, Allowance(most_bytes=10 * used.bytes, most_cases=2))
    again = catalog.usage("site-a")
    assert again.cases == 2, "the case that both versions have counts once"
    assert again.bytes < 3 * used.bytes
    catalog.erase("site-a/d@1")
    assert catalog.usage("site-a").cases == 2
    catalog.erase("site-a/d@2")
    assert catalog.usage("site-a").cases == 0


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a/d", "a/e", "b/d"]), st.sets(st.integers(0, 2), min_size=1)),
        min_size=2,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_whatever_is_withdrawn_the_rest_stays_whole(
    tmp_path_factory: pytest.TempPathFactory, given_: list[tuple[str, set[int]]], random: object
) -> None:
    folder = tmp_path_factory.mktemp("shared")
    catalog = Catalog(folder / "datasets")
    sources = [case(folder / "source", f"c{seed}", seed) for seed in range(3)]
    made = {
        catalog.contribute(name, [sources[i] for i in sorted(which)], MAPPING, TERMS).ref
        for name, which in given_
    }
    left = sorted(made)
    random.shuffle(left)  # type: ignore[attr-defined]
    while left:
        catalog.erase(left.pop())
        for ref in left:
            catalog.get(ref).verify()
    assert list(catalog.root.rglob("*.zarr")) == []


def test_two_at_once_do_not_share_the_same_room(catalog: Catalog, source: Path) -> None:
    cases = [case(source, f"c{seed}", seed) for seed in range(4)]

    def give(number: int) -> bool:
        try:
            catalog.contribute(
                f"site-a/d{number}", [cases[number]], MAPPING, TERMS,
                allowance=Allowance(most_cases=2),
            )  # fmt: skip
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(give, range(4))) == [False, False, True, True]
    assert catalog.usage("site-a").cases == 2
