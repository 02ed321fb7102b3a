"""What the labels of a dataset can teach, and that manifests are parsed once but always checked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tiny_scans import MAPPING, TERMS, case

from clnet.anatomy import vocabulary
from clnet.data_catalog import Catalog, Dataset, LabelUse, Taught
from clnet.data_catalog import dataset as module
from clnet.data_catalog.manifest import CaseRecord, Manifest
from clnet.data_catalog.parsed_manifests import ParsedManifests
from clnet.data_catalog.teaching import taught
from clnet.errors import InputError, IntegrityError, UnknownAnatomy

LEFT, RIGHT = "kidney_left", "kidney_right"


def use(*members: str, cases: int = 4) -> LabelUse:
    return LabelUse(name=vocabulary().composite_of(members), members=members, cases=cases)


@pytest.mark.parametrize(
    ("labels", "asked", "expected"),
    [
        ([use(LEFT)], "Left Kidney", Taught(LEFT, "exact", (LEFT,), 4)),
        ([use(LEFT, RIGHT)], LEFT, Taught(LEFT, "union", ("kidney",), 4)),
        ([use(LEFT), use(LEFT, RIGHT)], LEFT, Taught(LEFT, "exact", (LEFT,), 4)),
        ([use(LEFT, RIGHT)], "kidneys", Taught("kidney", "exact", ("kidney",), 4)),
        (
            [use(LEFT, cases=3), use(RIGHT, cases=2)],
            "kidney",
            Taught("kidney", "parts", (LEFT, RIGHT), 2),
        ),
        ([use(LEFT)], "kidney", None),
        (
            [use(LEFT, RIGHT, "spleen")],
            "kidney",
            Taught("kidney", "union", (f"{LEFT}+{RIGHT}+spleen",), 4),
        ),
        ([], "liver", None),
    ],
)
def test_an_anatomy_is_taught_exactly_by_its_parts_or_in_a_union(
    labels: list[LabelUse], asked: str, expected: Taught | None
) -> None:
    assert taught(labels, asked) == expected


def test_nothing_teaches_what_is_unknown_or_coarse() -> None:
    with pytest.raises(UnknownAnatomy, match="did you mean"):
        taught([], "livr")
    coarse = next(anatomy for anatomy in vocabulary() if anatomy.coarse)
    with pytest.raises(InputError, match="ask for one of"):
        taught([], coarse.id)


def test_labels_are_known_without_opening_a_case(catalog: Catalog, source: Path) -> None:
    cases = [case(source, f"c{i}", i) for i in range(2)]
    stored = catalog.contribute("s/d", cases, MAPPING, TERMS)
    for folder in (stored.folder / "cases").iterdir():
        (folder / "zarr.json").write_text("{")
    labels = catalog.get("s/d@1").labels
    assert [(label.name, label.cases) for label in labels] == [("liver", 2), ("spleen", 2)]


@pytest.mark.parametrize("damage", ["missing", "unreadable", "of another version"])
def test_without_a_summary_the_cases_are_asked(catalog: Catalog, source: Path, damage: str) -> None:
    stored = catalog.contribute("s/d", [case(source, "c")], MAPPING, TERMS)
    path = stored.folder / "labels.json"
    if damage == "missing":
        path.unlink()
    elif damage == "unreadable":
        path.write_text('{"labels": 1}')
    else:
        summary = json.loads(path.read_bytes())
        path.write_text(json.dumps(summary | {"manifest": "0" * 64, "labels": []}))
    assert [label.name for label in catalog.get("s/d").labels] == ["liver", "spleen"]


def test_what_was_erased_teaches_nothing(catalog: Catalog, source: Path) -> None:
    dataset = catalog.contribute("s/d", [case(source, "c")], MAPPING, TERMS)
    assert dataset.teaches("liver")
    catalog.erase(dataset.ref)
    assert catalog.get("s/d").teaches("liver") is None
    assert not (dataset.folder / "labels.json").exists()


def test_a_manifest_is_parsed_once(
    catalog: Catalog, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PARSED", ParsedManifests(most_cases=10))
    catalog.contribute("s/d", [case(source, "c")], MAPPING, TERMS)
    first, second = catalog.get("s/d"), catalog.get("s/d")
    assert first.manifest is second.manifest
    assert [d.ref for d in catalog.list()] == ["s/d@1"]


def test_a_kept_manifest_that_changes_on_disk_is_noticed(catalog: Catalog, source: Path) -> None:
    dataset = catalog.contribute("s/d", [case(source, "c")], MAPPING, TERMS)
    catalog.list()
    path = dataset.folder / "manifest.json"
    before, data = path.stat(), path.read_bytes()
    path.write_bytes(data.replace(b"nobody", b"nobodx"))  # same length, and the same times:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for read in (catalog.list, lambda: catalog.get("s/d")):
        with pytest.raises(IntegrityError, match=r"manifest\.json"):
            read()
    path.write_bytes(data)
    assert catalog.get("s/d").sha256 == dataset.sha256


def test_a_kept_manifest_is_good_for_its_own_version_alone(catalog: Catalog, source: Path) -> None:
    dataset = catalog.contribute("s/d", [case(source, "c")], MAPPING, TERMS)
    other = dataset.folder.with_name("2")
    dataset.folder.rename(other)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        catalog.get("s/d@2")


def test_kept_manifests_are_bounded_by_their_cases() -> None:
    kept = ParsedManifests(most_cases=5)
    manifests = [manifest(f"s/d{size}", size) for size in (2, 3, 1, 6)]
    for found in manifests[:2]:
        kept.keep(found.name, found)
    assert kept.get("s/d2") is manifests[0]  # used last, so the other one goes
    kept.keep("s/d1", manifests[2])
    kept.keep("s/d6", manifests[3])
    assert [kept.get(f"s/d{n}") is not None for n in (2, 3, 1, 6)] == [True, False, True, False]
    assert len(kept) == 2


def manifest(name: str, cases: int) -> Manifest:
    records = [
        CaseRecord(id=f"c{i}", sha256="0", arrays={}, shape=(1, 1, 1), spacing=(1, 1, 1))
        for i in range(cases)
    ]
    return Dataset(Manifest.of(name, 1, records, TERMS), Path("nowhere")).manifest
