"""Is this machine fit for the platform? One finding per thing looked at, with what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clnet.errors import ClnetError, InputError

__all__ = ["Finding", "Verdict", "diagnose", "healthy"]

Verdict = Literal["ok", "warn", "fail"]

GIB = 1 << 30
PACKAGES = ("torch", "ray", "monai", "zarr", "numpy", "nibabel", "safetensors", "sqlalchemy")
MEMORY = (2 * GIB, 6 * GIB)  # below the first nothing runs, below the second not the quickstart
DISK = (1 * GIB, 5 * GIB)
SHARED_MEMORY = (128 << 20, 1 * GIB)  # Ray refuses stores below 75 MiB and takes half of it


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw.

    Attributes:
        name: what was looked at.
        verdict: `warn` works, but worse than it could; `fail` does not work.
        seen: what there is.
        advice: what to do about it, where something is to be done.
    """

    name: str
    verdict: Verdict
    seen: str
    advice: str = ""


def diagnose(
    workspace: Path, database: str, *, ray: bool = False, s3: str | None = None
) -> Iterator[Finding]:
    """Look at the machine; findings come as they are made.

    Args:
        workspace: folder whose disk and database are looked at; it need not exist.
        database: SQLAlchemy URL of the registry.
        ray: start Ray for real, and stop it (some seconds).
        s3: ``s3://bucket/prefix`` to write, read and delete an object under.

    Raises:
        InputError: `s3` is something else.
    """
    if s3 is not None and not s3.startswith("s3://"):
        raise InputError(f"object storage {s3}: give s3://bucket/prefix")
    yield Finding("python", "ok", platform.python_version())
    for package in PACKAGES:
        yield _package(package)
    for check in (_processor, _accelerator, _memory, _shared_memory):
        yield _guarded(check)
    yield _guarded(lambda: _disk(workspace), "disk")
    yield _guarded(lambda: _database(database), "database")
    if ray:
        yield _guarded(_ray, "ray runtime")
    if s3 is not None:
        yield _guarded(lambda: _storage(s3), "object storage")


def healthy(findings: list[Finding]) -> bool:
    """Whether nothing failed."""
    return all(finding.verdict != "fail" for finding in findings)


def _guarded(check: Callable[[], Finding], name: str = "") -> Finding:
    """The finding of `check`; what it raises is a finding too, as a doctor must not fall ill."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a broken library can raise anything
        title = name or check.__name__.strip("_").replace("_", " ")
        advice = "" if isinstance(error, ClnetError) else "install again: make clean setup"
        return Finding(title, "fail", f"{type(error).__name__}: {_first_line(error)}", advice)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "fail", "not installed", "make setup")


def _processor() -> Finding:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    seen = f"{cores} cores, {capability}, {torch.get_num_threads()} torch threads"
    if capability == "DEFAULT" and sys.platform == "linux":
        return Finding(
            "cpu", "warn", seen, "no AVX2: convolutions are several times slower than elsewhere"
        )
    return Finding("cpu", "ok", seen)


def _accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        devices = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
        seen = ", ".join(f"{d.name} ({d.total_memory / GIB:.0f} GiB)" for d in devices)
        return Finding("gpu", "ok", seen)
    if shutil.which("nvidia-smi") and torch.version.cuda is None:
        return Finding(
            "gpu",
            "warn",
            "nvidia-smi is there, but torch is a CPU build",
            "make clean setup installs the build for GPUs",
        )
    return Finding("gpu", "ok", "none, computing on the CPU")


def _memory() -> Finding:
    available = _available_memory()
    seen = f"{available / GIB:.1f} GiB available"
    return _graded("memory", available, MEMORY, seen, "close other programs, or add memory")


def _available_memory() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")  # noqa: S108 - Ray keeps objects there
    if not folder.is_dir():
        return Finding("shared memory", "ok", "no /dev/shm on this system: Ray uses files")
    free = shutil.disk_usage(folder).free
    seen = f"{free / GIB:.1f} GiB free in /dev/shm, for Ray's objects"
    advice = "enlarge it: docker run --shm-size=2g, or mount -o remount,size=2g /dev/shm"
    return _graded("shared memory", free, SHARED_MEMORY, seen, advice)


def _disk(workspace: Path) -> Finding:
    folder = next(path for path in (workspace, *workspace.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        advice = "choose another --workspace, or ask for write access"
        return Finding("disk", "fail", f"{folder} is not writable", advice)
    seen = f"{free / GIB:.1f} GiB free at {folder}"
    return _graded("disk", free, DISK, seen, "free some, or choose another --workspace")


def _graded(name: str, amount: int, bounds: tuple[int, int], seen: str, advice: str) -> Finding:
    if amount < bounds[0]:
        return Finding(name, "fail", seen, advice)
    if amount < bounds[1]:
        return Finding(name, "warn", seen, advice)
    return Finding(name, "ok", seen)


def _database(url: str) -> Finding:
    import tempfile

    import sqlalchemy as sa

    from clnet.decoders_registry.database import Database

    parsed = sa.make_url(url) if "://" in url else sa.URL.create("sqlite", database=url)
    shown = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
        with tempfile.TemporaryDirectory() as folder:
            Database(f"sqlite:///{folder}/registry.db").close()
        return Finding("database", "ok", f"a new SQLite file opens; {shown} is not there yet")
    try:
        Database(url).close()
    except ClnetError as error:
        advice = "set CLNET_DATABASE to a database that this machine reaches"
        return Finding("database", "fail", _first_line(error), advice)
    return Finding("database", "ok", f"{shown} opens, schema up to date")


def _ray() -> Finding:
    from clnet.platform.ray_runtime import ray_runtime

    with ray_runtime() as runtime:
        import ray

        worker = ray.get(ray.remote(num_cpus=1)(_interpreter).remote(), timeout=120)
        seen = f"starts: {runtime.cpus:g} CPUs, {runtime.gpus:g} GPUs, workers run {worker}"
    return Finding("ray runtime", "ok", seen)


def _interpreter() -> str:
    return f"Python {platform.python_version()}"


def _storage(url: str) -> Finding:
    from clnet.storage import Objects, atomic_write
    from clnet.storage.location import remote_filesystem

    target = f"{url.rstrip('/')}/clnet-doctor-{secrets.token_hex(4)}"
    data = secrets.token_bytes(1 << 10)
    try:
        atomic_write(target, data)
        filesystem, key = remote_filesystem(target)
        same = filesystem.cat_file(key) == data
        filesystem.rm_file(key)
        conditional = Objects(url).conditional(target.rpartition("/")[2])
    except ClnetError:
        raise
    except Exception as error:  # noqa: BLE001 - each backend has errors of its own
        advice = "check bucket, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
        return Finding("object storage", "fail", f"{url}: {error}", advice)
    if not same:
        return Finding("object storage", "fail", f"{url}: gave back other bytes", "check the store")
    if not conditional:
        advice = "let one machine at a time contribute to datasets kept there"
        return Finding("object storage", "warn", f"{url}: ignores If-None-Match", advice)
    return Finding("object storage", "ok", f"{url}: wrote, read and deleted an object")
