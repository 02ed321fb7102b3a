"""Memory and time of inference, against nnU-Net's predictor and MONAI's sliding window.

    python benchmarks/inference.py [--quick] [--out FILE] [--classes 2,25,60,117,235] ...

Every case is a process of its own: the same network with the same weights, the same scan of
noise (so that anatomies are everywhere, the worst case for a merge), the same windows. Memory is
the peak of anonymous memory, of children and of files in memory, over the loaded network. Peers
that are not installed, that end by themselves or that would take more than ``--limit`` are
recorded as such. Needs the extra ``bench``: nnunetv2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from inference_watch import MemoryWatch
from report import Target, report, table
from rich.console import Console

from clnet.model.memory import parse_bytes
from clnet.model.scratch import scratch_folder

MIB, GIB = 1 << 20, 1 << 30
CASE = Path(__file__).with_name("inference_case.py")
PACKAGES = {"nnunet": "nnunetv2", "monai": "monai", "clnet": "torch", "split": "torch"}
SPACING = 1.5
SLAB = 16


@dataclass(frozen=True, slots=True)
class Case:
    """One system on one scan.

    Attributes:
        system: ``clnet``, ``nnunet``, ``monai``, or ``split`` for the times of the parts.
        network: name of the network.
        classes: channels of a decoder, background included.
        size, slices: voxels of the scan.
        patch: voxels of a window's edge.
        overlap: of windows, a fraction.
        budget: bytes that clnet may take; half of what is free if None.
        decoders: on one encoding.
        precision: of clnet; peers compute in float32.
        threads: of torch.
        device: that computes, ``cpu`` or ``cuda``.
    """

    system: str
    network: str
    classes: int
    size: int
    slices: int
    patch: int
    overlap: float
    budget: int | None = None
    decoders: int = 1
    precision: str = "float32"
    threads: int = 1
    device: str = "cpu"

    @property
    def logits(self) -> int:
        """Bytes of float16 logits of all classes, which peers hold."""
        return 2 * self.classes * self.size**2 * self.slices


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case.

    Attributes:
        memory: bytes at the peak over the loaded network, None where it did not end well.
        seconds: from the file to label maps.
        failure: why there are no figures.
        facts: what the system says itself.
    """

    memory: int | None = None
    seconds: float | None = None
    failure: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class Bench:
    """Runs cases once each and keeps what came of them.

    Args:
        limit: bytes that a case may take.
        timeout: seconds that a case may take.
        console: told what happens.
    """

    def __init__(self, limit: int, timeout: float, console: Console) -> None:
        self.limit, self.timeout, self.console = limit, timeout, console
        self.outcomes: dict[Case, Outcome] = {}

    def run(self, case: Case) -> Outcome:
        """What came of `case`, which runs if it has not yet."""
        if case not in self.outcomes:
            self.outcomes[case] = self._refusal(case) or self._measured(case)
            found = self.outcomes[case]
            took = f"{found.memory / MIB:.0f} MiB, {found.seconds:.1f} s" if found.memory else ""
            name = f"{case.system} {case.network} x{case.decoders}, {case.classes} classes"
            self.console.print(
                f"{name}, {case.size}² x {case.slices}: {took or found.failure}", highlight=False
            )
        return self.outcomes[case]

    def _refusal(self, case: Case) -> Outcome | None:
        if find_spec(PACKAGES[case.system]) is None:
            return Outcome(failure=f"{PACKAGES[case.system]} is not installed")
        if case.system in {"nnunet", "monai"} and case.logits > self.limit:
            return Outcome(
                failure=f"does not fit: logits of {case.logits / GIB:.0f} GiB alone "
                f"are more than {self.limit / GIB:.1f} GiB"
            )
        return None

    def _measured(self, case: Case) -> Outcome:
        with tempfile.TemporaryDirectory(dir=scratch_folder()) as place:
            scan = Path(place) / "scan.nii"
            write_scan(scan, case.size, case.slices)
            told = Path(place) / "case.json"
            told.write_text(json.dumps(asdict(case) | {"scan": str(scan)}), encoding="utf-8")
            errors = Path(place) / "errors.txt"
            with (
                errors.open("w") as stream,
                subprocess.Popen(
                    [sys.executable, str(CASE), str(told)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    text=True,
                    env=os.environ | _environment(place, case),
                ) as child,
            ):
                try:
                    return self._followed(child, errors)
                finally:
                    child.kill()

    def _followed(self, child: subprocess.Popen[str], errors: Path) -> Outcome:
        assert child.stdin is not None
        assert child.stdout is not None
        while (line := child.stdout.readline()) and line.strip() != "ready":
            pass
        if not line:
            return Outcome(failure=_last(errors))
        with MemoryWatch(child.pid, self.limit, self.timeout) as watch:
            child.stdin.write("go\n")
            child.stdin.flush()
            line = child.stdout.readline()
        if watch.ended:
            return Outcome(failure=f"does not fit: {watch.ended}")
        if not line:
            return Outcome(failure=_last(errors))
        facts = json.loads(line)
        child.stdin.write("bye\n")
        child.stdin.flush()
        return Outcome(watch.peak, facts.pop("seconds"), "", facts)


def _environment(place: str, case: Case) -> dict[str, str]:
    folders = {f"nnUNet_{name}": place for name in ("raw", "preprocessed", "results")}
    return folders | {"OMP_NUM_THREADS": str(case.threads)}


def _last(errors: Path) -> str:
    lines = [line for line in errors.read_text().splitlines() if line.strip()]
    return lines[-1] if lines else "ended without a word"


def write_scan(path: Path, size: int, slices: int) -> None:
    """Noise between -900 and 900 HU, the same for the same sizes, written slab by slab."""
    image = nib.Nifti1Image(
        np.zeros((1, 1, 1), np.int16), np.diag([-SPACING, -SPACING, SPACING, 1])
    )
    image.set_qform(image.affine, 1)
    header = image.header.copy()
    header["dim"][:4] = [3, size, size, slices]
    header["vox_offset"] = 352
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        header.write_to(file)
        for first in range(0, slices, SLAB):
            shape = (min(SLAB, slices - first), size, size)
            file.write(rng.integers(-900, 900, shape, dtype=np.int16).tobytes())


def run(options: argparse.Namespace, console: Console) -> tuple[dict[str, Any], list[Target]]:
    """All cases; returns figures and targets."""
    bench = Bench(parse_bytes(options.limit), options.timeout, console)
    base = Case(
        "clnet",
        options.network,
        options.classes[0],
        options.reference[0],
        options.reference[1],
        options.patch,
        0.5,
        threads=options.threads,
        device=options.device,
    )
    peers = [name for name in ("nnunet", "monai") if name in options.peers]
    # one network, one scan that all can do
    beside = [
        {system: bench.run(replace(base, system=system, classes=classes)) for system in peers}
        | {"clnet": bench.run(replace(base, classes=classes))}
        for classes in options.classes
    ]
    # curves at one tight budget
    most, budget = max(options.classes), parse_bytes(options.tight)
    curve = replace(
        base, classes=most, size=options.size, overlap=options.curve_overlap, budget=budget
    )
    along_slices = [bench.run(replace(curve, slices=n)) for n in options.slices]
    along_classes = [
        bench.run(replace(curve, slices=options.slices[0], classes=n)) for n in options.classes
    ]
    for system in peers:
        for slices in options.slices:
            for classes in {options.classes[0], most}:
                bench.run(
                    replace(curve, system=system, slices=slices, classes=classes, budget=None)
                )
    ample = parse_bytes(options.budget)
    large = bench.run(replace(curve, slices=max(options.slices), budget=ample))
    # several decoders on one encoding
    parts = replace(base, network=options.decoder_network, classes=options.decoder_classes)
    split = bench.run(replace(parts, system="split"))
    one, five = (bench.run(replace(parts, decoders=n)) for n in (1, 5))
    targets = [
        Target("memory over slices, largest deviation", _spread(along_slices), 0.1, at_most=True),
        Target(
            f"memory over classes from {options.classes[1]} on, largest deviation",
            _spread(along_classes[1:]),
            0.1,
            at_most=True,
        ),
        Target(
            f"largest of these / nnU-Net at {options.classes[0]} classes on {base.size}² x "
            f"{base.slices}",
            _ratio(
                max((o.memory or 0 for o in (*along_slices, *along_classes)), default=None),
                beside[0]["nnunet"].memory if "nnunet" in peers else None,
            ),
            1.0,
            at_most=True,
        ),
        Target(
            f"GiB at {most} classes, {options.size}² x {max(options.slices)}",
            None if large.memory is None else large.memory / GIB,
            ample / GIB,
            at_most=True,
        ),
        Target(
            "seconds / nnU-Net's, one network, the slowest of the class counts",
            _worst(
                [_ratio(b["clnet"].seconds, b["nnunet"].seconds) for b in beside]
                if "nnunet" in peers
                else []
            ),
            1.0,
            at_most=True,
        ),
        Target(
            "five decoders on one encoding / the ideal of its parts",
            _over_ideal(split, one, five),
            1.1,
            at_most=True,
        ),
    ]
    figures = {
        "cases": [asdict(case) | asdict(outcome) for case, outcome in bench.outcomes.items()]
    }
    _show(bench, console)
    return figures, targets


def _spread(outcomes: Sequence[Outcome]) -> float | None:
    """Largest deviation from the mean, as a share of it."""
    found = [o.memory for o in outcomes if o.memory is not None]
    if len(found) < len(outcomes) or not found:
        return None
    mean = sum(found) / len(found)
    return max(abs(memory / mean - 1) for memory in found)


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours and theirs else None


def _worst(ratios: Sequence[float | None]) -> float | None:
    known = [ratio for ratio in ratios if ratio is not None]
    return max(known) if known else None


def _over_ideal(split: Outcome, one: Outcome, five: Outcome) -> float | None:
    """Time of five decoders, of five times one, over what encoder and decoder alone promise."""
    if not (split.facts and one.seconds and five.seconds):
        return None
    encode, decode = split.facts["encode"], split.facts["decode"]
    return (five.seconds / (5 * one.seconds)) / ((encode + 5 * decode) / (5 * (encode + decode)))


def _show(bench: Bench, console: Console) -> None:
    rows = [
        (
            f"{case.system} {case.network}",
            f"{case.size}² x {case.slices}",
            case.classes,
            case.decoders,
            None if case.budget is None else f"{case.budget / MIB:.0f}",
            None if outcome.memory is None else f"{outcome.memory / MIB:.0f}",
            outcome.seconds,
            f"{outcome.facts['disk'] / MIB:.0f}" if "disk" in outcome.facts else None,
            outcome.failure or outcome.facts.get("schedule", ""),
        )
        for case, outcome in bench.outcomes.items()
    ]
    columns = ("system", "voxels", "classes", "decoders", "budget", "MiB", "s", "disk", "")
    console.print(table("inference", columns, rows))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


QUICK = {
    "classes": [2, 8, 24],
    "slices": [40, 80],
    "size": 96,
    "reference": [64, 48],
    "patch": 32,
    "tight": "64MiB",
    "budget": "256MiB",
    "decoder_network": "pocket",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help="a trial at sizes that say little")
    made.add_argument("--network", default="pocket", help="of the curves: pocket, small, paper")
    made.add_argument("--classes", type=_numbers, default=[2, 25, 60, 117, 235])
    made.add_argument("--slices", type=_numbers, default=[100, 200, 400, 600])
    made.add_argument("--size", type=int, default=512, help="voxels of a slice's edge")
    made.add_argument("--patch", type=int, default=64, help="voxels of a window's edge")
    made.add_argument(
        "--reference", type=_numbers, default=[192, 160], help="EDGE,SLICES that all systems do"
    )
    made.add_argument("--curve-overlap", type=float, default=0.25, help="of the large scans")
    made.add_argument("--tight", default="200MiB", help="budget of the curves")
    made.add_argument("--budget", default="4GiB", help="budget of the largest scan")
    made.add_argument("--decoder-network", default="small", help="for five decoders at once")
    made.add_argument("--decoder-classes", type=int, default=5)
    made.add_argument("--peers", default="nnunet,monai", help="systems to compare with")
    made.add_argument("--limit", default="12GiB", help="memory at which a case is ended")
    made.add_argument("--timeout", type=float, default=4 * 3600, help="seconds a case may take")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    made.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    made.add_argument("--out", type=Path, help="result file; results/inference.json")
    return made


def main() -> None:
    """Run the benchmark."""
    options = parser().parse_args()
    if options.quick:
        vars(options).update(QUICK)
    console = Console(width=None if sys.stdout.isatty() else 160)
    figures, targets = run(options, console)
    overlap = f"{options.curve_overlap:g}"
    notes = [
        "scans of noise and networks with random weights: memory and time only",
        f"windows overlap by half where systems are compared, by {overlap} in the curves",
    ]
    if options.quick:
        notes.append("a trial at sizes that say little")
    report("inference", figures, targets, notes, out=options.out, console=console)


if __name__ == "__main__":
    main()
