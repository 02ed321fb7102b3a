"""Batches read in the background while the one before is learned from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

__all__ = ["ReadAhead"]

T = TypeVar("T")

DEPTH = 2
"""Batches kept ready: one to begin with at once, one for a slow read."""


class ReadAhead(Generic[T]):
    """Gives what `read` gives, batch by batch; the next few are read meanwhile by a thread.

    Batches are functions of their number, so nothing but time changes. What goes wrong in one
    is raised when it is asked for. Ask from one thread.

    Args:
        read: gives batch `t`; called in another thread, one call at a time.
        end: batches from here on are not read before they are asked for.
        depth: batches that wait at most.
    """

    def __init__(self, read: Callable[[int], T], end: int, depth: int = DEPTH) -> None:
        self._read, self._end, self._depth = read, end, depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._ahead: dict[int, Future[T]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, t: int) -> T:
        """Batch `t`."""
        coming = range(t, max(t + 1, min(self._end, t + 1 + self._depth)))
        for number in self._ahead.keys() - set(coming):
            self._ahead.pop(number).cancel()
        for number in coming:
            if number not in self._ahead:
                self._ahead[number] = self._pool.submit(self._read, number)
        return self._ahead.pop(t).result()

    def close(self) -> None:
        """Drop what is not read yet, and wait for what is being read."""
        self._ahead.clear()
        self._pool.shutdown(cancel_futures=True)
