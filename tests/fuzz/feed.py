"""Feed broken inputs to a hub, as a child process whose memory the system limits.

Usage: ``python feed.py FOLDER COUNT SEED``; prints a tally as JSON. Any traceback, any input that
is not handled as it should be, ends it with an error.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from damage import DETECTABLE, SILENT, good_case
from nibabel import orientations

import clnet
from clnet.data_catalog import Case, CaseSource, Judgement

BATCH = 40
LIMIT = 2 * 1024**3
MAPPING = {"1": "liver", "2": "spleen"}


def main(folder: Path, count: int, seed: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    kinds = {name: (kind, share) for name, (kind, share) in (DETECTABLE | SILENT).items()}
    names = list(kinds)
    shares = np.array([kinds[name][1] for name in names], dtype=float)
    generator = np.random.default_rng(seed)
    tally: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for start in range(0, count, BATCH):
        home = folder / f"batch-{start}"
        good = replace(good_case(home / "good"), id="good")
        cases, kind_of = [good], {}
        for number in range(start, min(start + BATCH, count)):
            name = str(generator.choice(names, p=shares / shares.sum()))
            case = kinds[name][0](generator, home / str(number))
            if case.id == "c":
                case = replace(case, id=f"case-{number}")
            elif case.id in kind_of:
                continue  # the same hostile name twice in a batch is one finding
            cases.append(case)
            kind_of[case.id] = name
        feed(home / "workspace", cases, kind_of, tally, codes)
        shutil.rmtree(home)
    print(json.dumps({"tally": dict(tally), "codes": dict(codes), "peak": peak()}))


def peak() -> int:
    """Most bytes that this process had in memory.

    ``ru_maxrss`` would do, but on Linux it begins with what the process that started this one had.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def feed(
    workspace: Path,
    cases: list[CaseSource],
    kind_of: dict[str, str],
    tally: Counter[str],
    codes: Counter[str],
) -> None:
    told: list[Judgement] = []
    with clnet.connect(workspace) as hub:
        started = time.monotonic()
        dataset = hub.datasets.contribute(
            "fuzz/inputs", cases, MAPPING, "CC0-1.0", tell=told.append
        )
        assert time.monotonic() - started < 120, "an input takes minutes"
        dataset.verify()
        report = told[0].report
        reasons = {f.case: f for f in report.findings if f.severity == "error"}
        assert set(report.stored) | set(report.quarantined) == {case.id for case in cases}
        assert set(report.stored) == set(dataset.case_ids)
        for case in cases:
            kind = kind_of.get(case.id, "good")
            if case.id in report.quarantined:
                assert kind != "good", reasons[case.id]
                reason = reasons[case.id]
                assert reason.explanation
                assert reason.way_out
                for trouble in ("MemoryError", "bad_alloc", "allocate", "Traceback"):
                    assert trouble not in reason.explanation, f"{kind}: {reason}"
                codes[reason.code] += 1
                tally["detectable refused" if kind in DETECTABLE else "silent refused"] += 1
            else:
                assert kind not in DETECTABLE, f"{kind} was stored: {case}"
                compare(dataset.case(case.id), case)
                tally["good stored" if kind == "good" else "silent stored"] += 1
        names = {path.name for path in (workspace / "datasets" / "fuzz" / "inputs").iterdir()}
        assert names == {".lock", "1"}, names
        stored = {p.name for p in (dataset.folder / "cases").iterdir()}
        assert stored == {f"{case_id}.zarr" for case_id in dataset.case_ids}


def compare(stored: Case, source: CaseSource) -> None:
    """The case holds what another reader finds in the files, in LPS."""
    assert isinstance(source.image, Path)
    assert isinstance(source.labels, Path)
    np.testing.assert_array_equal(stored.ct(), np.rint(read(source.image)).astype(np.int16))
    value_of = {e.name: e.value for e in stored.contract.entries}
    ids = read(source.labels)
    for key, name in MAPPING.items():
        np.testing.assert_array_equal(stored.labels("organ") == value_of[name], ids == int(key))


def read(path: Path) -> Any:
    """Voxels ``(z, y, x)`` in LPS."""
    if path.name.endswith((".nrrd", ".mha")):
        return sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS"))
    image: Any = nib.load(path)
    turn = orientations.ornt_transform(
        orientations.io_orientation(image.affine), orientations.axcodes2ornt("LPS")
    )
    return image.as_reoriented(turn).get_fdata(dtype=np.float32).squeeze().transpose(2, 1, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
