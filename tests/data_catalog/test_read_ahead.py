from __future__ import annotations

import threading

import numpy as np
import pytest

from clnet.data_catalog.read_ahead import ReadAhead


class Reader:
    """Batches that are their numbers; notes which were read, by whom, and may be held up."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.threads: set[str] = set()
        self.arrived = threading.Semaphore(0)
        self.free = threading.Event()
        self.free.set()

    def __call__(self, t: int) -> int:
        self.threads.add(threading.current_thread().name)
        self.read.append(t)
        self.arrived.release()
        self.free.wait(10)
        if t == 3:
            raise ValueError("batch 3 is damaged")
        return t

    def arrive(self, count: int) -> None:
        for _ in range(count):
            assert self.arrived.acquire(timeout=10)


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "read-ahead" in thread.name]


def test_the_next_batches_are_read_before_they_are_asked_for() -> None:
    reader = Reader()
    with ReadAhead(reader, end=100, depth=2) as batches:
        assert batches(10) == 10
        reader.arrive(3)
        assert reader.read == [10, 11, 12], "two wait, no more"
        assert batches(11) == 11
        reader.arrive(1)
        assert reader.read == [10, 11, 12, 13]
    assert all(name.startswith("read-ahead") for name in reader.threads)


def test_every_batch_is_read_once_and_none_beyond_the_end() -> None:
    reader = Reader()
    with ReadAhead(reader, end=3, depth=5) as batches:
        assert [batches(t) for t in range(3)] == [0, 1, 2]
        assert reader.read == [0, 1, 2]
        assert batches(7) == 7, "a batch beyond the end is read when it is asked for"
    assert reader.read == [0, 1, 2, 7]


def test_batches_may_be_left_out() -> None:
    reader = Reader()
    with ReadAhead(reader, end=100, depth=2) as batches:
        assert [batches(t) for t in (0, 1, 20, 21, 5)] == [0, 1, 20, 21, 5]


def test_what_goes_wrong_is_raised_at_its_batch() -> None:
    reader = Reader()
    with ReadAhead(reader, end=10, depth=4) as batches:
        assert [batches(t) for t in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="batch 3"):
            batches(3)
        assert batches(4) == 4


def test_a_failure_of_a_batch_that_nobody_asks_for_is_no_failure() -> None:
    reader = Reader()
    with ReadAhead(reader, end=10, depth=3) as batches:
        assert batches(0) == 0
        reader.arrive(4)


def test_closing_drops_what_is_not_read_yet() -> None:
    reader = Reader()
    batches = ReadAhead(reader, end=100, depth=5)
    assert batches(0) == 0
    reader.free.clear()
    read = len(reader.read)
    threading.Timer(0.1, reader.free.set).start()
    batches.close()
    assert not alive(), "it waited for the batch that was being read"
    assert len(reader.read) <= read + 1


def test_it_closes_when_training_fails() -> None:
    def train(reader: Reader) -> None:
        with ReadAhead(reader, end=100) as batches:
            for t in range(10):
                batches(t)

    with pytest.raises(ValueError, match="batch 3"):
        train(Reader())
    assert not alive()


def test_arrays_are_the_same_as_without_it() -> None:
    def read(t: int) -> np.ndarray:
        return np.random.default_rng(t).random(50)

    with ReadAhead(read, end=30) as batches:
        for t in range(20):
            np.testing.assert_array_equal(batches(t), read(t))
