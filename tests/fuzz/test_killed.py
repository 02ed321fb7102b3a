"""Contributions killed at random moments: the catalog is never half, a re-run goes on."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_scans import TERMS, organs, save, scan

import clnet
from clnet.data_catalog import Dataset

CASES = 8
SHAPE = (40, 36, 32)
NAME = "s/d"
MAPPING = {"1": "liver", "2": "spleen"}


def site(folder: Path) -> Path:
    """Cases of which one is at fault, and a mapping."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[:10, :9, :8] = organs()
    for number in range(CASES):
        save(folder / "images" / f"c{number}.nii.gz", scan(number, SHAPE))
        save(folder / "labels" / f"c{number}.nii.gz", labels)
    save(folder / "labels" / "c3.nii.gz", labels + np.uint8(7))
    (folder / "mapping.json").write_text(json.dumps(MAPPING))
    return folder


def start(workspace: Path, source: Path) -> subprocess.Popen[bytes]:
    command = [Path(sys.executable).with_name("clnet"), "datasets", "contribute", NAME]
    command += ["--source", source, "--mapping", source / "mapping.json"]
    command += ["--licence", TERMS.licence, "--workspace", workspace]
    return subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def content(dataset: Dataset) -> dict[str, str]:
    """Every file of a version by its hash; what tells the time is left out."""
    return {
        str(path.relative_to(dataset.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(dataset.folder.rglob("*"))
        if path.is_file() and not path.name.startswith("manifest.json")
    }


def finished(folder: Path) -> dict[str, int]:
    """Staged cases by their key, with the inode of their header."""
    return {
        path.parent.name: (path.parent / "case.zarr" / "zarr.json").stat().st_ino
        for path in folder.glob(".staging/[!.]*/record.json")
    }


def contribute(workspace: Path, source: Path) -> Dataset:
    with clnet.connect(workspace) as hub:
        return hub.datasets.contribute(NAME, source, MAPPING, clnet.Terms(licence=TERMS.licence))


@pytest.mark.slow
def test_kill_9_at_any_moment_leaves_the_old_catalog_or_the_new_one(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = site(tmp_path / "site")
    lock = Path("datasets") / NAME / ".lock"
    undisturbed = tmp_path / "undisturbed"
    process = start(undisturbed, source)
    window = measure(process, undisturbed / lock)
    with clnet.connect(undisturbed) as hub:
        expected = hub.datasets.get(NAME)
    assert expected.case_ids == tuple(f"c{n}" for n in range(CASES) if n != 3)

    moments = random.Random(7)
    outcomes = {"nothing": 0, "some cases": 0, "stored": 0}
    for number in range(request.config.getoption("--kills")):
        workspace = tmp_path / f"killed-{number}"
        process = start(workspace, source)
        wait_for(workspace / lock, process)
        time.sleep(moments.uniform(0, 1.1 * window))
        process.send_signal(signal.SIGKILL)
        process.wait()

        folder = workspace / "datasets" / NAME
        with clnet.connect(workspace) as hub:
            stored = hub.datasets.list()
            assert len(stored) <= 1
            for dataset in stored:
                dataset.verify()
                assert dataset.sha256 == expected.sha256
        done = finished(folder)
        outcomes["stored" if stored else "some cases" if done else "nothing"] += 1

        dataset = contribute(workspace, source)
        assert dataset.ref == f"{NAME}@1"
        dataset.verify()
        assert dataset.sha256 == expected.sha256
        assert content(dataset) == content(expected)
        kept = {p.stat().st_ino for p in dataset.folder.glob("cases/*/zarr.json")}
        assert set(done.values()) <= kept, "a finished case was made again"
        assert {p.name for p in folder.iterdir()} == {".lock", "1"}
        with clnet.connect(workspace) as hub:
            assert hub.datasets.fingerprint(NAME)["cases"] == CASES - 1
    print(outcomes, f"window {window:.2f} s")


def wait_for(lock: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not lock.exists():
        assert process.poll() is None, "ended before it began"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def measure(process: subprocess.Popen[bytes], lock: Path) -> float:
    """Seconds from the first trace of a contribution to its end."""
    wait_for(lock, process)
    began = time.monotonic()
    assert process.wait(timeout=120) == os.EX_OK
    return time.monotonic() - began
