"""Contributing scans by one process and by several Ray workers: seconds, and memory of a worker.

    python benchmarks/ingest.py [--workspace DIR] [--data DIR] [--out FILE] [--workers N]
        [--cases N] [--slices N] [--lengths N,N] [--edge N]

Memory is the anonymous memory that a worker takes at most over what it had when it had started,
while it takes in one scan; it should not grow with the number of slices. The scans are made of a
real chest CT where the data has one, see `data_volume.py`.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from data_volume import LOBES, make_volume, save_nifti
from inference_watch import memory_of
from report import Target, report, table
from rich.console import Console

import clnet
from clnet.platform.ray_runtime import ray_runtime

MIB = 1 << 20
NAME = "s/chests"
TERMS = "CC0-1.0"


class WorkerWatch:
    """The most anonymous memory of any Ray worker, over the least that it was seen with."""

    def __init__(self) -> None:
        self.peak = 0
        self._least: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> WorkerWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        looked, workers = 0.0, list[int]()
        while not self._done.is_set():
            if time.monotonic() - looked > 0.5:  # to look at all processes takes long itself
                looked, workers = time.monotonic(), ray_workers()
            for pid in workers:
                taken = memory_of(pid)
                if taken:
                    self._least[pid] = min(taken, self._least.get(pid, taken))
                    self.peak = max(self.peak, taken - self._least[pid])
            time.sleep(0.01)


def ray_workers() -> list[int]:
    """Processes of Ray at work on a task."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def make_site(folder: Path, data: Path, lengths: Sequence[int], edge: int) -> str:
    """Scans of so many slices with labels; says what they are."""
    said = ""
    for number, slices in enumerate(lengths):
        ct, labels, said = make_volume(data, edge, slices)
        ct[0, 0, 0] += number  # no scan twice
        save_nifti(folder / "images" / f"c{number}.nii.gz", ct)
        save_nifti(folder / "labels" / f"c{number}.nii.gz", labels)
    return said


def contribute(place: Path, source: Path, workers: int) -> tuple[float, str]:
    """Seconds, and the hash of what was stored."""
    shutil.rmtree(place, ignore_errors=True)
    with clnet.connect(place) as hub:
        began = time.monotonic()
        mapping = {str(value): name for value, name in LOBES.items()}
        dataset = hub.datasets.contribute(NAME, source, mapping, TERMS, workers=workers)
        return time.monotonic() - began, dataset.sha256


def worker_memory(place: Path, sources: Sequence[Path]) -> list[int]:
    """Bytes that a worker takes over its start while it takes in the scans of each source."""
    peaks = []
    with ray_runtime(num_cpus=2, token_file=place.parent / "ray-token"), WorkerWatch() as watch:
        for source in sources:
            watch.peak = 0
            contribute(place, source, 2)
            peaks.append(watch.peak)
    return peaks


def main() -> None:
    """Measure and report."""
    options = parser().parse_args()
    console, root = Console(), options.workspace
    shutil.rmtree(root, ignore_errors=True)
    lengths = [int(part) for part in options.lengths.split(",")]
    said = make_site(root / "many", options.data, [options.slices] * options.cases, options.edge)
    alone, hash_alone = contribute(root / "alone", root / "many", 1)
    together, hash_together = contribute(root / "together", root / "many", options.workers)
    for slices in lengths:
        make_site(root / str(slices), options.data, [slices], options.edge)
    peaks = worker_memory(root / "memory", [root / str(slices) for slices in lengths])
    memory = dict(zip(lengths, peaks, strict=True))
    figures = {
        "scans": said,
        "cases": options.cases,
        "shape": [options.slices, options.edge, options.edge],
        "seconds": {"1": alone, str(options.workers): together},
        "same_dataset": hash_alone == hash_together,
        "worker_peak_mib": {str(slices): peak / MIB for slices, peak in memory.items()},
        "voxel_mib": {str(n): 2 * n * options.edge**2 / MIB for n in lengths},
    }
    rows = [(f"{n} slices", 2 * n * options.edge**2 / MIB, memory[n] / MIB) for n in lengths]
    console.print(table("Memory of a worker", ("", "HU, MiB", "peak, MiB"), rows))
    console.print(
        table("Seconds", ("", "s"), [("1 process", alone), (f"{options.workers}", together)])
    )
    targets = [
        Target("datasets equal", float(hash_alone == hash_together), 1),
        Target(f"times faster with {options.workers} workers", alone / together, 1.5),
        Target(
            f"worker's peak memory at {lengths[-1]} slices / at {lengths[0]}",
            memory[lengths[-1]] / memory[lengths[0]],
            1.1,
            at_most=True,
        ),
        Target("worker's peak memory, MiB", max(memory.values()) / MIB, 512, at_most=True),
    ]
    notes = ["With several workers Ray's start is part of the seconds."]
    report("ingest", figures, targets, notes, out=options.out, console=console)
    shutil.rmtree(root, ignore_errors=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python benchmarks/ingest.py", description=__doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--workspace", type=Path, default=Path("work-benchmarks/ingest"))
    made.add_argument("--data", type=Path, default=Path("../shared/data"), help="real CT")
    made.add_argument("--out", type=Path, help="result file, benchmarks/results/ingest.json")
    made.add_argument("--workers", type=int, default=2)
    made.add_argument("--cases", type=int, default=40, help="contributed for the seconds")
    made.add_argument("--slices", type=int, default=150, help="of each of them")
    made.add_argument("--lengths", default="300,1200", help="slices of scans to compare memory")
    made.add_argument("--edge", type=int, default=512, help="voxels of a slice along each axis")
    return made


if __name__ == "__main__":
    main()
