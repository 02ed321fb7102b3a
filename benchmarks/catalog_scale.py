"""Listing, filtering and planning a catalog of 10,000 cases.

    python benchmarks/catalog_scale.py [--quick] [--cases N] [--workspace DIR] [--out FILE] ...

Tiny scans are contributed to two catalogs, one with a tenth of the cases of the other. Every
step then runs in processes of its own, in turns, so that nothing is in their memory: seconds are
the median over the turns, from the question to the answer of a hub that is connected; files are
in the page cache as far as the machine keeps them there. With `--workspace` the catalogs are
kept, and used again by the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from catalog_scale_cases import fill, wanted
from catalog_scale_steps import ANATOMY, SITE, STEPS
from report import Target, report, table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import clnet
from clnet.model.scratch import scratch_folder

FOLDER = Path(__file__).resolve().parent
SMALLER = 10
"""How many times fewer cases the other catalog has."""

FLAT = 1.25
"""Memory at ten times the cases may be this many times as much."""

MEASURED = ("list", "filter", "plan")
Rounds = list[dict[str, Any]]


def make(place: Path, cases: int, datasets: int, console: Console) -> dict[str, Any]:
    """Fill a workspace; says how many cases had to be contributed, and in what time."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    begun = time.perf_counter()
    with Progress(*columns, console=console) as bar, clnet.connect(place) as hub:
        task = bar.add_task("", total=cases)

        def tell(done: int, text: str) -> None:
            bar.update(task, advance=done, description=f"{cases:,} cases: {text}")

        made = fill(hub, wanted(cases, datasets), tell)
    return {"contributed": made, "seconds": time.perf_counter() - begun}


def measure(places: dict[int, Path], rounds: int) -> dict[int, dict[str, Rounds]]:
    """Figures of every step, by the number of cases."""
    found: dict[int, dict[str, Rounds]] = {n: {step: [] for step in STEPS} for n in places}
    for _ in range(rounds):
        for cases, place in places.items():
            for step in STEPS:
                found[cases][step].append(_step(step, place, cases))
    return found


def _step(step: str, place: Path, cases: int) -> dict[str, Any]:
    script = str(FOLDER / "catalog_scale_steps.py")
    done = subprocess.run(
        [sys.executable, script, step, str(place)], stdout=subprocess.PIPE, text=True, check=True
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    if step in ("list", "plan") and figures["cases"] != cases:
        raise SystemExit(f"{step}: found {figures['cases']} cases of {cases} in {place}")
    return figures


def command_seconds(place: Path, rounds: int) -> list[float]:
    """Seconds of ``clnet datasets list --anatomy``, the start of Python included."""
    code = "import sys; from clnet.cli.app import main; sys.exit(main())"
    arguments = ["datasets", "list", "--anatomy", ANATOMY, "--workspace", str(place)]
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, check=True
        )
        seconds.append(time.perf_counter() - begun)
        if b"teaches" not in done.stdout:
            raise SystemExit("the command lists no dataset")
    return seconds


def targets_of(found: dict[int, dict[str, Rounds]], cases: int) -> list[Target]:
    """One second for every step, and the same memory whatever the cases."""
    seconds = [
        Target(f"{step}: seconds at {cases:,} cases", _of(found, cases, step, "seconds"), 1.0, True)
        for step in MEASURED
    ]
    few = cases // SMALLER
    return seconds + [
        Target(
            f"{step}: peak memory at {cases:,} cases / at {few:,}",
            _of(found, cases, step, "peak_mib") / _of(found, few, step, "peak_mib"),
            FLAT,
            at_most=True,
        )
        for step in MEASURED
    ]


def _of(found: dict[int, dict[str, Rounds]], cases: int, step: str, figure: str) -> float:
    return median(turn[figure] for turn in found[cases][step])


def run(
    options: argparse.Namespace, workspace: Path, console: Console
) -> tuple[dict[str, Any], list[Target], list[str]]:
    """Figures, targets and notes."""
    places = {n: workspace / str(n) for n in (options.cases // SMALLER, options.cases)}
    making = {n: make(place, n, options.datasets, console) for n, place in places.items()}
    found = measure(places, options.rounds)
    rows = [
        (step, n, _of(found, n, step, "seconds"), f"{_of(found, n, step, 'peak_mib'):.0f}")
        for step in STEPS
        for n in places
    ]
    console.print(table("cold processes", ("step", "cases", "seconds", "peak MiB"), rows))
    about = (
        f"{options.datasets} datasets of 4 sites in each catalog; scans of 16 x 16 x 16 voxels, "
        "up to four organs"
    )
    asked = (
        f"filter: datasets that can teach the {ANATOMY}, of all sites and of {SITE}; plan: every "
        "plan store checked, all cases described, streams of both sides of the split opened"
    )
    counted = (
        "files are in the page cache; Python's start and the connection are not in the seconds "
        "(the whole command's are in command_seconds), and libraries are in the memory"
    )
    figures = {
        "cases": options.cases,
        "datasets": options.datasets,
        "making": {str(n): figures for n, figures in making.items()},
        "steps": {str(n): steps for n, steps in found.items()},
        "command_seconds": command_seconds(places[options.cases], options.rounds),
    }
    return figures, targets_of(found, options.cases), [about, asked, counted]


@contextmanager
def _workspace(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as place:
        yield Path(place)


QUICK = {"cases": 80, "datasets": 4, "rounds": 1}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help="a trial at sizes that say little")
    made.add_argument("--cases", type=int, default=10_000)
    made.add_argument("--datasets", type=int, default=20, help="that the cases are split among")
    made.add_argument("--rounds", type=int, default=5, help="turns of every step")
    made.add_argument("--workspace", type=Path, help="folder to keep the catalogs in")
    made.add_argument("--out", type=Path, help="result file; results/catalog_scale.json")
    return made


def main() -> None:
    """Run the benchmark."""
    options = parser().parse_args()
    if options.quick:
        vars(options).update(QUICK)
    if options.cases < SMALLER * options.datasets:
        raise SystemExit(f"--cases: at least {SMALLER} for each of the {options.datasets} datasets")
    console = Console(width=None if sys.stdout.isatty() else 160)
    os.environ |= {"OMP_NUM_THREADS": "1"}
    with _workspace(options.workspace) as workspace:
        figures, targets, notes = run(options, workspace, console)
    if options.quick:
        notes.append("a trial at sizes that say little")
    report("catalog_scale", figures, targets, notes, out=options.out, console=console)


if __name__ == "__main__":
    main()
