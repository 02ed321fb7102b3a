"""What taking a case in holds in memory does not grow with the scan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_scans import lps_affine, save

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import sys, threading, time
from pathlib import Path

from clnet.anatomy.mapping import load_mapping
from clnet.data_catalog import CaseSource, CaseWork, IntakeRules
from clnet.model.scratch import Scratch

def anonymous():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024

def take(folder, labels, staging):
    masks = labels == "masks"
    names = {"liver": "liver", "spleen": "spleen"} if masks else {"1": "liver", "2": "spleen"}
    work = CaseWork(load_mapping(names), IntakeRules(), 2 << 30, Path(staging))
    found = folder / "labels.nii.gz"
    if masks:
        found = {name: folder / f"{name}.nii.gz" for name in names}
    outcome = work.do(CaseSource("c", folder / "ct.nii.gz", found), Scratch().zeros)
    assert outcome.kept is not None, outcome.findings

folder, labels = Path(sys.argv[1]), sys.argv[2]
take(folder / "small", labels, folder / "staging" / "small")  # what libraries keep
before, most, done = anonymous(), 0.0, threading.Event()

def watch():
    global most
    while not done.is_set():
        most = max(most, anonymous())
        time.sleep(0.002)

watching = threading.Thread(target=watch)
watching.start()
take(folder / "large", labels, folder / "staging" / "large")
done.set()
watching.join()
print(most - before)
"""


def write_scan(folder: Path, slices: int) -> None:
    rng = np.random.default_rng(0)
    ct = np.resize(rng.integers(-900, 900, (8, 256, 256)), (slices, 256, 256)).astype(np.int16)
    ct[:, 128] += np.arange(slices, dtype=np.int16)[:, None] % 100  # no slice twice
    labels = np.zeros(ct.shape, np.uint8)
    labels[slices // 4 : slices // 2, 60:120, 160:200] = 1
    labels[slices // 4 : slices // 2, 60:120, 60:120] = 2
    # any orientation but the canonical one, so that voxels move
    affine = lps_affine((1.0, 1.0, 1.0)) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    save(folder / "ct.nii.gz", ct, affine)
    save(folder / "labels.nii.gz", labels, affine)
    for name, value in (("liver", 1), ("spleen", 2)):
        save(folder / f"{name}.nii.gz", (labels == value).astype(np.uint8), affine)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell")
@pytest.mark.parametrize("labels", ["labels", "masks"])
def test_memory_does_not_grow_with_the_scan(tmp_path: Path, labels: str) -> None:
    write_scan(tmp_path / "small", 16)
    write_scan(tmp_path / "large", 768)
    child = [sys.executable, "-c", CHILD, str(tmp_path), labels]
    done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # the scan has 96 MiB and would be there twice; one shard of 32 MiB is, and what packs it
    assert float(done.stdout) < 96
