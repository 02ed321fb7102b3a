"""How much memory a process and its children take, seen from outside while they work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryWatch", "Sample", "memory_of"]

EVERY = 0.01  # seconds
MOUNTS = Path("/proc/self/mounts")


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes at one moment.

    Attributes:
        anonymous: private memory that no file stands behind.
        shared: shared memory that is mapped.
        tmpfs: files that lie in memory, of the whole machine.
    """

    anonymous: int = 0
    shared: int = 0
    tmpfs: int = 0

    @property
    def total(self) -> int:
        """What counts: files in memory once, whether mapped or not."""
        return self.anonymous + max(self.shared, self.tmpfs)


class MemoryWatch:
    """Samples a process and all its children in a thread of its own.

    Args:
        pid: of the process.
        limit: bytes over what was there at the start at which the process is ended.
        timeout: seconds after which it is ended.

    Attributes:
        peak: bytes over the start.
        ended: why the process was ended; empty if it was not.
    """

    def __init__(self, pid: int, limit: int, timeout: float) -> None:
        self._pid, self._limit = pid, limit
        self._deadline = time.monotonic() + timeout
        self._tmpfs = _tmpfs()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.start = self.sample()
        self.peak = 0
        self.ended = ""

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def sample(self) -> Sample:
        """What is taken now."""
        anonymous = shared = 0
        for pid in _family(self._pid):
            fields = _status(pid)
            anonymous += fields.get("RssAnon", 0)
            shared += fields.get("RssShmem", 0)
        return Sample(anonymous, shared, max(0, _tmpfs() - self._tmpfs))

    def _run(self) -> None:
        while not self._done.is_set():
            self.peak = max(self.peak, self.sample().total - self.start.total)
            if self.peak > self._limit:
                self.ended = f"more than {self._limit / 2**30:.1f} GiB"
            elif time.monotonic() > self._deadline:
                self.ended = "more time than was given"
            if self.ended:
                for pid in reversed(list(_family(self._pid))):
                    _kill(pid)
                return
            time.sleep(EVERY)


def memory_of(pid: int) -> int:
    """Bytes of anonymous memory of one process; 0 if it is gone."""
    return _status(pid).get("RssAnon", 0)


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [c for t in threads for c in (t / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _status(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    parts = (line.split() for line in lines)
    return {part[0][:-1]: int(part[1]) << 10 for part in parts if part[-1] == "kB"}


def _tmpfs() -> int:
    """Bytes of files in memory on this machine."""
    taken = 0
    for line in MOUNTS.read_text().splitlines():
        _, point, kind, *_ = line.split()
        if kind == "tmpfs":
            try:
                facts = os.statvfs(point)
            except OSError:
                continue
            taken += (facts.f_blocks - facts.f_bfree) * facts.f_frsize
    return taken


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except OSError:
        return
