"""What every benchmark leaves behind: a table on the terminal and ``results/NAME.json``."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clnet.platform.register import code_version
from clnet.storage import atomic_write

__all__ = ["RESULTS", "Target", "command", "machine", "report", "table"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and what it should be.

    Attributes:
        name: of the figure.
        value: as measured; None where it could not be.
        bound: what it is held against.
        at_most: the figure should not be above the bound, rather than not below it.
    """

    name: str
    value: float | None
    bound: float
    at_most: bool = False

    @property
    def ok(self) -> bool:
        """Whether the target was reached."""
        if self.value is None:
            return False
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def to_dict(self) -> dict[str, Any]:
        """As the result file has it."""
        sign = "<=" if self.at_most else ">="
        return {
            "name": self.name,
            "value": self.value,
            "target": f"{sign} {self.bound:g}",
            "ok": self.ok,
        }


def report(
    name: str,
    figures: Mapping[str, Any],
    targets: Sequence[Target],
    notes: Sequence[str] = (),
    *,
    out: Path | None = None,
    console: Console | None = None,
) -> Path:
    """Print the targets and write the result file, whole or not at all.

    Args:
        name: of the benchmark; the file is ``results/NAME.json`` unless `out` is another.
        figures: what was measured, JSON-able.
        notes: what a reader has to know, such as what the data was and what was tried.

    Returns:
        The file.
    """
    held = [target.to_dict() for target in targets]
    result = {
        "benchmark": name,
        "command": command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "machine": machine(),
        "notes": list(notes),
        "targets": held,
        "figures": figures,
    }
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write(path, text.encode() + b"\n")
    say = console or Console()
    rows = [
        (t["name"], t["value"], t["target"], "[green]reached[/]" if t["ok"] else "[red]missed[/]")
        for t in held
    ]
    say.print(table(f"{name}: targets", ("figure", "value", "target", ""), rows))
    for note in notes:
        say.print(f"[yellow]{note}[/]", highlight=False)
    say.print(f"Result    {path}", highlight=False)
    return path


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table; numbers with three digits, nothing as a dash."""
    made = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def command() -> str:
    """What was typed, paths as seen from the root of the repository."""
    return shlex.join(["python", shown(Path(sys.argv[0])), *map(_seen_from_root, sys.argv[1:])])


def shown(path: Path) -> str:
    """A path as seen from the root of the repository, so that it means something elsewhere."""
    return os.path.relpath(path.resolve(), ROOT)


def _seen_from_root(argument: str) -> str:
    """An absolute path tells readers of this machine alone, whoever it belongs to."""
    return shown(Path(argument)) if Path(argument).is_absolute() else argument


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    import torch

    return {
        "cpu": _processor(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "cores": _cores(),
        "memory_gib": round(_memory() / GIB, 1),
        "gpu": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        or None,
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "torch_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "ray": version("ray"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    """Bytes that this process may use: a container may have less than its machine."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(limit)
        if path.exists() and (text := path.read_text(encoding="utf-8").strip()).isdigit():
            physical = min(physical, int(text))
    return physical
