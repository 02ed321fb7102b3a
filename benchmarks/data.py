"""Reading training patches and ingesting scans, against nnU-Net's blosc2 and others.

    python benchmarks/data.py [--quick] [--out FILE] [--rounds N] [--seconds S] ...

One scan of 512 x 512 x 300 voxels with labels. Every reader is a process of its own (or two)
that reads random patches, image and labels, in turns with the others, so that a busy machine is
busy for all; a ratio is the median over the turns. The plan has the scan's own spacing: where
voxels are interpolated, nnU-Net's files grow and its preprocessing slows down far more. Needs
the extra ``dev`` (nnunetv2, moto); what is not installed is recorded as such.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from data_codecs import compare_codecs
from data_readers import (
    KEPT_BY,
    PLAN,
    SYSTEMS,
    contribute,
    nnunet_preprocess,
    plan,
    plan_reader,
    serve,
    store_bytes,
)
from data_volume import make_volume, save_nifti
from report import Target, report, table
from rich.console import Console

from clnet.data_catalog import Catalog
from clnet.errors import ClnetError
from clnet.model.scratch import scratch_folder

MIB = 1 << 20
SECONDS_TO_START = 120
REFERENCE, OURS = "nnunet", "clnet"
BUCKET = "bench"


class Readers:
    """Processes that read one system's store.

    Args:
        key: of the system.
        processes: that read at once.
    """

    def __init__(
        self, key: str, place: Path, edge: int, shape: tuple[int, ...], processes: int
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._children = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            child = context.Process(target=serve, args=(key, str(place), edge, shape, theirs))
            child.start()
            theirs.close()
            self._children.append((child, ours))
        for _, pipe in self._children:
            _receive(pipe)

    def rate(self, seed: int, seconds: float) -> float:
        """Patches per second of all processes together."""
        for number, (_, pipe) in enumerate(self._children):
            pipe.send((seed + 1000 * number, seconds))
        return sum(count / taken for count, taken in map(_receive, self._pipes))

    @property
    def _pipes(self) -> list[Connection]:
        return [pipe for _, pipe in self._children]

    def close(self) -> None:
        """End the processes."""
        for child, pipe in self._children:
            pipe.send(None)
            child.join()


def _receive(pipe: Connection) -> Any:
    if not pipe.poll(SECONDS_TO_START):
        raise TimeoutError("a reader does not answer")
    return pipe.recv()


def read_rates(
    keys: list[str],
    place: Path,
    edge: int,
    shape: tuple[int, ...],
    processes: int,
    options: argparse.Namespace,
) -> dict[str, list[float]]:
    """Patches per second of every system, turn by turn."""
    rates: dict[str, list[float]] = {key: [] for key in keys}
    with ExitStack() as stack:
        readers = {key: Readers(key, place, edge, shape, processes) for key in keys}
        for each in readers.values():
            stack.callback(each.close)
        for turn in range(options.rounds):
            for key, each in readers.items():
                rates[key].append(each.rate(turn, options.seconds))
    return rates


def ratio(rates: dict[str, list[float]], ours: str, theirs: str) -> float | None:
    """Median over the turns of one system's rate over another's."""
    if not rates.get(ours) or not rates.get(theirs):
        return None
    return median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))


def ingest_seconds(place: Path, edge: int, rounds: int, *, peer: bool) -> dict[str, list[float]]:
    """Seconds from ``.nii.gz`` to what training reads, of ours and of nnU-Net, in turns.

    Libraries are loaded beforehand by both on a tiny scan.
    """
    tiny = place / "tiny"
    ct, labels, _ = make_volume(Path("nowhere"), 48, 40)
    save_nifti(tiny / "image.nii.gz", ct)
    save_nifti(tiny / "labels.nii.gz", labels)
    systems = {OURS: _ingest, REFERENCE: nnunet_preprocess} if peer else {OURS: _ingest}
    seconds: dict[str, list[float]] = {key: [] for key in systems}
    for turn in range(rounds + 1):
        for key, prepare in systems.items():
            source = place if turn else tiny
            with tempfile.TemporaryDirectory(dir=place) as folder:
                began = time.perf_counter()
                prepare(Path(folder) / "made", source, edge if turn else 32)
                if turn:
                    seconds[key].append(time.perf_counter() - began)
    return seconds


def _ingest(folder: Path, source: Path, edge: int) -> None:
    catalog = Catalog(folder / "datasets")
    contribute(catalog, source)
    catalog.plan_store(catalog.get("bench/scan"), plan(edge))


@contextmanager
def object_store() -> Iterator[str | None]:
    """An S3 server of its own, by its address; None where moto is not installed."""
    if find_spec("moto") is None or find_spec("s3fs") is None:
        yield None
        return
    import s3fs

    port = 5000 + os.getpid() % 20000
    address = f"http://127.0.0.1:{port}"
    told = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            os.environ |= told
            for _ in range(100):
                try:
                    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
                    break
                except OSError:
                    time.sleep(0.2)
            yield address
        finally:
            server.terminate()


def remote_ratio(
    place: Path, edge: int, shape: tuple[int, ...], options: argparse.Namespace
) -> tuple[float | None, str]:
    """Rate of a catalog on S3, its plan store here and warm, over that of a local one."""
    local = plan_reader(Catalog(place / OURS / "datasets"), edge)
    with object_store() as address:
        if address is None:
            return None, "not run: moto or s3fs is not installed"
        try:
            catalog = Catalog(f"s3://{BUCKET}/datasets", plans=place / "remote-plans")
            contribute(catalog, place)
            remote = plan_reader(catalog, edge)
        except ClnetError as error:
            return None, f"not run: {error}"
    ratios = []
    for turn in range(options.rounds):
        rates = [_rate(read, edge, shape, turn, options.seconds) for read in (remote, local)]
        ratios.append(rates[0] / rates[1])
    return median(ratios), "datasets on S3 (moto), plan store on this machine and warm"


def _rate(read: Any, edge: int, shape: tuple[int, ...], seed: int, seconds: float) -> float:
    rng = np.random.default_rng(seed)
    began, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < seconds or not count:
        corner = [int(rng.integers(0, size - edge + 1)) for size in shape]
        read(tuple(slice(start, start + edge) for start in corner))
        count += 1
    return count / taken


def run(
    options: argparse.Namespace, place: Path, console: Console
) -> tuple[dict[str, Any], list[Target], list[str]]:
    """All of it; returns figures, targets and what a reader has to know."""
    edge = options.patch
    ct, labels, said = make_volume(options.data, options.edge, options.slices)
    shape = ct.shape
    save_nifti(place / "image.nii.gz", ct)
    save_nifti(place / "labels.nii.gz", labels)
    notes = [f"{' x '.join(map(str, shape))} voxels (z, y, x): {said}"]
    if options.codecs:
        low, high = PLAN["clip"]
        hu = np.clip(ct, low, high).astype(np.int16)
        codecs = compare_codecs(hu, edge, place, options.patches, options.rounds)
    else:
        codecs = []
    del ct, labels
    keys = [key for key, system in SYSTEMS.items() if system.installed]
    notes += [f"{s.name} is not installed" for s in SYSTEMS.values() if not s.installed]
    for key in keys:
        if key not in KEPT_BY:
            console.print(f"writing: {SYSTEMS[key].name}", highlight=False)
            SYSTEMS[key].write(place / key, place, edge)
    sizes = {key: store_bytes(place / key) for key in keys if key not in KEPT_BY}
    sizes["nifti"] = store_bytes(place / "image.nii.gz") + store_bytes(place / "labels.nii.gz")
    sizes["case"] = store_bytes(place / OURS / "datasets")
    sizes[OURS] = store_bytes(place / OURS / "plans")
    rates = {n: read_rates(keys, place, edge, shape, n, options) for n in (1, 2)}
    seconds = ingest_seconds(place, edge, options.ingests, peer=REFERENCE in keys)
    remote, how = remote_ratio(place, edge, shape, options)
    notes.append(f"S3: {how}")
    peer = sizes.get(REFERENCE)
    targets = [
        Target(
            "bytes of the plan store / nnU-Net's",
            sizes[OURS] / peer if peer else None,
            0.6,
            at_most=True,
        ),
        Target("patches per second / nnU-Net's, 1 process", ratio(rates[1], OURS, REFERENCE), 1.0),
        Target(
            "patches per second / nnU-Net's, 2 processes", ratio(rates[2], OURS, REFERENCE), 0.8
        ),
        Target(
            "seconds of ingest with plan store / nnU-Net's preprocessing",
            ratio(seconds, OURS, REFERENCE),
            1.0,
            at_most=True,
        ),
        Target("patches per second, S3 with warm local cache / local", remote, 0.9),
    ]
    _show(console, keys, sizes, rates, seconds, codecs)
    figures = {
        "shape": list(shape),
        "patch": edge,
        "bytes": sizes,
        "patches_per_second": {str(n): found for n, found in rates.items()},
        "ingest_seconds": seconds,
        "codecs": codecs,
    }
    return figures, targets, notes


def _show(
    console: Console,
    keys: list[str],
    sizes: dict[str, int],
    rates: dict[int, dict[str, list[float]]],
    seconds: dict[str, list[float]],
    codecs: list[dict[str, Any]],
) -> None:
    rows = []
    for key in keys:
        size = sizes.get("case" if key in {"raw-clnet", "raw-zarrs"} else KEPT_BY.get(key, key))
        rows.append(
            (
                SYSTEMS[key].name,
                "ready" if SYSTEMS[key].ready else "raw",
                None if size is None else f"{size / MIB:.0f}",
                *(round(median(rates[n][key]), 1) for n in (1, 2)),
                *(ratio(rates[n], key, REFERENCE) for n in (1, 2)),
                median(seconds[key]) if key in seconds else None,
            )
        )
    columns = ("", "", "MiB", "/s, 1", "/s, 2", "ratio, 1", "ratio, 2", "ingest, s")
    console.print(table("patches of image and labels", columns, rows))
    if codecs:
        found = [
            (
                row["codec"],
                f"{row['bytes'] / MIB:.0f}",
                row["write_seconds"],
                *(f"{row[name]:.0f}" if name in row else None for name in ("own", "zarr", "zarrs")),
            )
            for row in codecs
        ]
        columns = ("image alone", "MiB", "write, s", "/s, own reader", "/s, zarr", "/s, zarrs")
        console.print(table("codecs, in one process", columns, found))


QUICK = {
    "edge": 96,
    "slices": 72,
    "patch": 32,
    "rounds": 2,
    "seconds": 0.2,
    "ingests": 1,
    "patches": 5,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help="a trial at sizes that say little")
    made.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("CLNET_REAL_DATA", "../shared/data")),
        help="real CT that the scan is made of",
    )
    made.add_argument("--edge", type=int, default=512, help="voxels of a slice's edge")
    made.add_argument("--slices", type=int, default=300)
    made.add_argument("--patch", type=int, default=96, help="voxels of a patch's edge")
    made.add_argument("--rounds", type=int, default=7, help="turns of every reader")
    made.add_argument("--seconds", type=float, default=2.0, help="of one reader in a turn")
    made.add_argument("--ingests", type=int, default=3, help="of each system, in turns")
    made.add_argument("--patches", type=int, default=40, help="of one codec in a turn")
    made.add_argument("--no-codecs", dest="codecs", action="store_false", help="leave them out")
    made.add_argument("--out", type=Path, help="result file; results/data.json")
    return made


def main() -> None:
    """Run the benchmark."""
    options = parser().parse_args()
    if options.quick:
        vars(options).update(QUICK)
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as place:
        os.environ |= {f"nnUNet_{name}": place for name in ("raw", "preprocessed", "results")} | {
            "OMP_NUM_THREADS": "1"
        }
        figures, targets, notes = run(options, Path(place), console)
    if options.quick:
        notes.append("a trial at sizes that say little")
    report("data", figures, targets, notes, out=options.out, console=console)


if __name__ == "__main__":
    main()
