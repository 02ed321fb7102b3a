"""Contributions on several Ray workers end as those of one process do, whatever dies meanwhile."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import deadly_scan
import pytest
import ray.cloudpickle
from deadly_scan import DeadlyScan
from tiny_scans import MAPPING, TERMS, case, organs, save, scan

from clnet.data_catalog import Allowance, CaseSource, Catalog, Dataset, IntakeRules, Judgement
from clnet.errors import CaseRejected, InputError, QuotaExceeded
from clnet.platform.case_workers import DEATHS, CaseWorkers
from clnet.platform.ray_runtime import RayRuntime

TWO = CaseWorkers(2)
NAME = "s/d"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


@pytest.fixture(autouse=True, scope="module")
def _known_to_workers() -> Iterator[None]:
    """Ray's workers do not have the tests' folder on their path."""
    ray.cloudpickle.register_pickle_by_value(deadly_scan)
    yield
    ray.cloudpickle.unregister_pickle_by_value(deadly_scan)


def site(folder: Path) -> list[CaseSource]:
    """Six cases, of which one has an unknown label and one is no image."""
    cases = [case(folder, f"c{number}", number) for number in range(6)]
    save(folder / "labels" / "c1.nii.gz", organs() + 7)
    (folder / "images" / "c4.nii.gz").write_bytes(b"no scan")
    return cases


def content(dataset: Dataset) -> dict[str, str]:
    """Every file of a version by its hash; what tells the time is left out."""
    return {
        str(path.relative_to(dataset.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(dataset.folder.rglob("*"))
        if path.is_file() and not path.name.startswith("manifest.json")
    }


def contribute(
    catalog: Catalog, cases: Sequence[CaseSource], workers: CaseWorkers | None = TWO
) -> tuple[Dataset, Judgement]:
    told: list[Judgement] = []
    dataset = catalog.contribute(NAME, cases, MAPPING, TERMS, tell=told.append, execute=workers)
    return dataset, told[0]


def test_what_workers_store_and_say_is_what_one_process_stores_and_says(tmp_path: Path) -> None:
    cases = site(tmp_path / "site")
    alone, said = contribute(Catalog(tmp_path / "alone" / "datasets"), cases, None)
    seen: list[float] = []
    catalog = Catalog(tmp_path / "workers" / "datasets")
    judged: list[Judgement] = []
    together = catalog.contribute(
        NAME,
        cases,
        MAPPING,
        TERMS,
        lambda fraction, text: seen.append(fraction),
        tell=judged.append,
        execute=TWO,
    )
    assert content(together) == content(alone)
    assert together.sha256 == alone.sha256
    assert judged[0].report == said.report
    assert judged[0].pictures == said.pictures
    assert together.case_ids == ("c0", "c2", "c3", "c5")
    assert judged[0].report.quarantined == ("c1", "c4")
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert [p.name for p in (catalog.root / NAME).iterdir() if p.name == ".staging"] == []


def test_a_trial_on_workers_stores_nothing(tmp_path: Path) -> None:
    cases = site(tmp_path / "site")
    catalog = Catalog(tmp_path / "datasets")
    trial = catalog.validate(NAME, cases, MAPPING, execute=TWO)
    assert trial == catalog.validate(NAME, cases, MAPPING)
    assert trial.report.stored == ("c0", "c2", "c3", "c5")
    assert catalog.list() == ()


def test_cases_of_an_earlier_version_are_not_made_again(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "datasets")
    cases = [case(tmp_path / "site", f"c{number}", number) for number in range(3)]
    first, _ = contribute(catalog, cases[:2])
    damaged = next(path for path in first.folder.glob("cases/c1.zarr/ct/c/**/*") if path.is_file())
    damaged.write_bytes(b"damaged")
    second, _ = contribute(catalog, cases)
    second.verify()
    assert second.ref == f"{NAME}@2"

    def inode(dataset: Dataset, case_id: str) -> int:
        return (dataset.folder / "cases" / f"{case_id}.zarr" / "zarr.json").stat().st_ino

    assert inode(first, "c0") == inode(second, "c0")
    assert inode(first, "c1") != inode(second, "c1"), "a damaged copy was passed on"


@pytest.mark.parametrize("deaths", [1, DEATHS])
def test_a_case_is_tried_again_when_its_worker_is_killed(tmp_path: Path, deaths: int) -> None:
    cases = [case(tmp_path / "site", f"c{number}", number) for number in range(4)]
    expected, _ = contribute(Catalog(tmp_path / "alone" / "datasets"), cases, None)
    scan = DeadlyScan(Path(str(cases[1].image)), tmp_path / "deaths", deaths)
    dataset, _ = contribute(
        Catalog(tmp_path / "datasets"), [cases[0], replace(cases[1], image=scan), *cases[2:]]
    )
    assert len(list((tmp_path / "deaths").iterdir())) == deaths
    assert dataset.case_ids == expected.case_ids
    assert dataset.sha256 == expected.sha256


def test_a_case_that_kills_every_worker_is_quarantined_alone(tmp_path: Path) -> None:
    cases = [case(tmp_path / "site", f"c{number}", number) for number in range(3)]
    scan = DeadlyScan(Path(str(cases[1].image)), tmp_path / "deaths", 100)
    dataset, told = contribute(
        Catalog(tmp_path / "datasets"), [cases[0], replace(cases[1], image=scan), cases[2]]
    )
    assert dataset.case_ids == ("c0", "c2")
    (found,) = [found for found in told.report.findings if found.case == "c1"]
    assert (found.code, found.severity, found.file) == ("case.crashed", "error", str(scan.path))
    assert f"{DEATHS + 1} times" in found.explanation


def test_one_bad_case_refuses_a_strict_contribution(tmp_path: Path) -> None:
    cases = site(tmp_path / "site")[:3]
    catalog = Catalog(tmp_path / "datasets")
    with pytest.raises(CaseRejected, match=r"c1\.nii\.gz"):
        catalog.contribute(NAME, cases, MAPPING, TERMS, rules=IntakeRules(strict=True), execute=TWO)
    assert catalog.list() == ()
    assert not (catalog.root / NAME / ".staging").exists()


def test_a_site_at_its_quota_is_stopped(tmp_path: Path) -> None:
    cases = [case(tmp_path / "site", f"c{number}", number) for number in range(6)]
    catalog = Catalog(tmp_path / "datasets")
    with pytest.raises(QuotaExceeded, match="quota is 2"):
        catalog.contribute(
            NAME, cases, MAPPING, TERMS, allowance=Allowance(most_cases=2), execute=TWO
        )
    assert catalog.list() == ()


def test_less_than_one_worker_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        CaseWorkers(0)


def test_a_killed_contributor_leaves_finished_cases_that_are_gone_on_with(
    tmp_path: Path, local_ray: RayRuntime
) -> None:
    folder = tmp_path / "site"
    for number in range(24):
        save(folder / "images" / f"c{number:02}.nii.gz", scan(number, (40, 36, 32)))
        labels = organs((40, 36, 32))
        save(folder / "labels" / f"c{number:02}.nii.gz", labels)
    (folder / "mapping.yaml").write_text("1: liver\n2: spleen\n")
    workspace = tmp_path / "workspace"
    command = [str(Path(sys.executable).with_name("clnet")), "datasets", "contribute", NAME]
    command += ["--source", str(folder), "--mapping", str(folder / "mapping.yaml")]
    command += ["--licence", TERMS.licence, "--workspace", str(workspace), "--workers", "2"]
    command += ["--json"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    staging = workspace / "datasets" / NAME / ".staging"
    deadline = time.monotonic() + 240
    while len(list(staging.glob("[!.]*/record.json"))) < 3:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {
        path.parent.name: (path.parent / "case.zarr" / "zarr.json").stat().st_ino
        for path in staging.glob("[!.]*/record.json")
    }
    catalog = Catalog(workspace / "datasets")
    assert catalog.list() == ()

    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == os.EX_OK, again.stderr
    dataset = catalog.get(NAME)
    dataset.verify()
    assert len(dataset) == 24
    assert not staging.exists()
    kept = {path.stat().st_ino for path in dataset.folder.glob("cases/*/zarr.json")}
    assert set(done.values()) <= kept, "a finished case was made again"
